//! Carries out what the core asks for, in its order.

use std::sync::PoisonError;
use std::time::Instant;

use weal_coordinator_free::{Acceptance, Apply, Event, Input, Output, Record};
use weal_dashboard::{Level, NodeState};
use weal_network::{GossipId, GossipVerdict};
use weal_proto::{Message, Outline, RoundNumber, Seed};

use super::event_loop::Daemon;
use super::service::Position;
use crate::error::Result;
use crate::learner::TrainJob;
use crate::store::weights::Weights;

impl Daemon {
    /// Carries out a step's outputs. `gossip` is the message that the step was about, if it came
    /// through gossip. Returns an input that follows at once: a round in which this node does not
    /// train is reported without delay, so that no peer waits for it.
    ///
    /// # Errors
    /// When the disk cannot be written. The node must then stop.
    pub(super) async fn carry_out(
        &mut self,
        outputs: Vec<Output>,
        mut gossip: Option<GossipId>,
    ) -> Result<Option<Input>> {
        let mut follow_up = None;
        let mut outputs = outputs.into_iter().peekable();
        while let Some(output) = outputs.next() {
            match output {
                Output::Persist(record) => {
                    // Records that follow one another are stored in one transaction.
                    let mut records = vec![record];
                    while let Some(Output::Persist(record)) =
                        outputs.next_if(|next| matches!(next, Output::Persist(_)))
                    {
                        records.push(record);
                    }
                    self.persist(&records)?;
                }
                Output::Verdict(acceptance) => {
                    if let Some(id) = gossip.take() {
                        self.network.verdict(id, gossip_verdict(acceptance)).await;
                    }
                }
                Output::Train {
                    round,
                    seed,
                    deadline,
                    ..
                } => {
                    let deadline = self.timers.instant(deadline);
                    if !self.train(round, seed, deadline) {
                        follow_up = Some(Input::TrainingFailed { round });
                    }
                }
                output => self.carry_out_simple(output),
            }
        }
        Ok(follow_up)
    }

    /// Outputs that neither wait, nor fail, nor lead to an input at once.
    fn carry_out_simple(&mut self, output: Output) {
        match output {
            Output::Persist(_) | Output::Verdict(_) | Output::Train { .. } => {}
            Output::Broadcast(envelope) => self.network.gossip(envelope.encode()),
            Output::StopTraining => self.learner.stop(self.weights.round()),
            Output::Reveal { blob, .. } => self.context.blobs.reveal(&blob),
            Output::Fetch(fetch) => self.spawn(self.context.clone().examine(fetch)),
            Output::Apply(apply) => self.apply(apply),
            Output::FetchWeights { round, root } => {
                self.spawn(self.context.clone().fetch_weights(round, root));
            }
            Output::SetTimer { id, at } => self.timers.set(id, at),
            Output::CancelTimer { id } => self.timers.cancel(id),
            Output::RequestDecided { from_round } => {
                self.spawn(self.context.clone().request_decided(from_round));
            }
            Output::RequestRoundMessages { round } => {
                self.spawn(self.context.clone().request_messages(round));
            }
            Output::Report(event) => self.report(&event),
        }
    }

    /// Stores records before anything that follows them.
    fn persist(&mut self, records: &[Record]) -> Result<()> {
        let references: Vec<_> = records.iter().collect();
        tokio::task::block_in_place(|| self.store.persist(&references))?;
        for record in records {
            if let Record::Decided(decided) = record {
                let round = decided.value.round;
                self.change_position(|position| {
                    position.decided_rounds = round.0.saturating_add(1);
                });
                let oldest = RoundNumber(round.0.saturating_sub(self.settings.keep.contributions));
                if let Err(error) = self.context.blobs.prune(oldest) {
                    tracing::warn!("old contributions could not be deleted: {error:#}");
                }
            }
        }
        Ok(())
    }

    fn change_position(&self, change: impl FnOnce(&mut Position)) {
        change(
            &mut self
                .position
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn report(&mut self, event: &Event) {
        if let Event::Decided { synced, .. } = event {
            let loss = self.train_loss.take().filter(|_| !synced);
            self.page.decided(event, loss);
        }
        self.page.report(event);
    }

    /// Starts a round's training. Returns whether the learner took it.
    fn train(&mut self, round: RoundNumber, seed: Seed, deadline: Instant) -> bool {
        if self.last_round.is_some_and(|last| round >= last) {
            let text = format!("all {round} rounds asked for are decided");
            self.page.set_message(Some((NodeState::Paused, text)));
            self.evaluate();
            return false;
        }
        let Some(weights) = self.weights.at(round) else {
            let present = self.weights.round();
            tracing::error!(
                "cannot train in round {round}: the weights here are of round {present}"
            );
            return false;
        };
        self.learner.train(TrainJob {
            round,
            seed,
            weights,
            deadline,
            unapplied: self.own.unapplied(),
        })
    }

    /// Measures the held-out loss of the newest weights in the rounds that the settings name.
    pub(super) fn evaluate(&mut self) {
        let (every, round) = (self.settings.evaluation.every, self.weights.round().0);
        if every > 0 && round > 0 && round.is_multiple_of(every) {
            self.learner.evaluate(self.weights.newest().clone());
        }
    }

    fn apply(&mut self, apply: Apply) {
        self.page.chosen(&apply);
        self.settle_own_contribution(&apply);
        let Some(weights) = self.weights.at(apply.round) else {
            let (round, present) = (apply.round, self.weights.round());
            tracing::error!("cannot apply round {round}: the weights here are of round {present}");
            return;
        };
        self.spawn(self.context.clone().apply(weights, apply));
    }

    /// Remembers whether this node's contribution was chosen. If not, its content goes back into
    /// the error feedback.
    fn settle_own_contribution(&mut self, apply: &Apply) {
        let chosen = apply.contributions.iter();
        let left_out = self
            .own
            .settle(apply.round, chosen.map(|chosen| chosen.commitment.blob));
        if left_out {
            let text = format!(
                "round {}: this node's contribution was not chosen; the next one includes it",
                apply.round
            );
            self.page.say(Level::Warn, text);
        }
    }

    /// Takes over weights that are in memory and on disk, and tells the core.
    pub(super) async fn weights_ready(&mut self, weights: Weights, is_new: bool) -> Result<()> {
        let (round, root) = (weights.round, weights.root);
        self.weights.replace(weights);
        self.serve_weights()?;
        if is_new {
            let status = self.network.status().borrow().clone();
            if let Some(record) = self.page.applied(round, root, &status) {
                self.save_record(&record)?;
            }
        }
        self.step(Input::WeightsReady { round, root }).await?;
        self.publish();
        Ok(())
    }

    /// Serves the newest weights to newcomers, and deletes the oldest.
    fn serve_weights(&mut self) -> Result<()> {
        let kept = self.weights.prune()?;
        let newest = self.weights.newest();
        self.context.blobs.show_weights(
            &self.context.plan.layout,
            newest,
            self.weights.files(),
            &kept,
        );
        let tensors = newest.outline.tensors.iter().map(Outline::hash).collect();
        self.change_position(|position| {
            position.tensors.insert(newest.round, tensors);
            position.tensors.retain(|round, _| kept.contains(round));
        });
        Ok(())
    }
}

fn gossip_verdict(acceptance: Acceptance) -> GossipVerdict {
    match acceptance {
        Acceptance::Accept => GossipVerdict::Accept,
        Acceptance::Ignore => GossipVerdict::Ignore,
        Acceptance::Reject => GossipVerdict::Reject,
    }
}
