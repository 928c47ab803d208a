//! Carries out what the core asks for, in its order.

use std::sync::PoisonError;

use weal_coordinator_free::{Acceptance, Apply, Event, Input, MessageId, Output, Record};
use weal_dashboard::{Level, NodeState};
use weal_proto::{BlobHash, Message, RoundNumber, Seed};

use super::{Daemon, NO_VERDICT};
use crate::error::Result;
use crate::learner::TrainJob;
use crate::store::weights::Weights;
use weal_network::GossipVerdict;

impl Daemon {
    pub(super) async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<()> {
        let mut outputs = outputs.into_iter().peekable();
        while let Some(output) = outputs.next() {
            if let Output::Persist(record) = output {
                let mut records = vec![record];
                while let Some(Output::Persist(record)) =
                    outputs.next_if(|next| matches!(next, Output::Persist(_)))
                {
                    records.push(record);
                }
                self.persist(&records)?;
            } else {
                self.carry_out_one(output).await;
            }
        }
        Ok(())
    }

    /// On disk before anything that follows: a failure ends the node.
    fn persist(&mut self, records: &[Record]) -> Result<()> {
        let references: Vec<_> = records.iter().collect();
        tokio::task::block_in_place(|| self.store.persist(&references))?;
        for record in records {
            if let Record::Decided(decided) = record {
                let round = decided.value.round;
                self.change_position(|position| {
                    position.decided_rounds = round.0.saturating_add(1)
                });
                let oldest = RoundNumber(round.0.saturating_sub(self.settings.keep.contributions));
                if let Err(error) = self.workshop.blobs.prune(oldest) {
                    tracing::warn!(%error, "old contributions could not be deleted");
                }
            }
        }
        Ok(())
    }

    fn change_position(&self, change: impl FnOnce(&mut super::service::Position)) {
        change(
            &mut self
                .position
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    async fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Persist(_) => {}
            Output::Broadcast(envelope) => self.network.gossip(envelope.encode()),
            Output::Verdict { id, acceptance } => self.pass_verdict(id, acceptance).await,
            Output::Train {
                round,
                seed,
                deadline,
                ..
            } => {
                let deadline = self.timers.instant(deadline);
                self.train(round, seed, deadline);
            }
            Output::StopTraining => self.learner.stop(self.weights.round),
            Output::Reveal { blob, .. } => self.workshop.blobs.reveal(&blob),
            Output::Fetch(fetch) => self.spawn(self.workshop.clone().examine(fetch)),
            Output::Apply(apply) => self.apply(apply),
            Output::FetchWeights { round, root } => {
                self.spawn(self.workshop.clone().fetch_weights(round, root))
            }
            Output::SetTimer { id, at } => self.timers.set(id, at),
            Output::CancelTimer { id } => self.timers.cancel(id),
            Output::RequestDecided { from_round } => {
                self.spawn(self.workshop.clone().request_decided(from_round))
            }
            Output::RequestRoundMessages { round } => {
                self.spawn(self.workshop.clone().request_messages(round))
            }
            Output::Report(event) => self.report(&event),
        }
    }

    async fn pass_verdict(&mut self, id: MessageId, acceptance: Acceptance) {
        if id == NO_VERDICT {
            return;
        }
        let Some(at) = self.verdicts.iter().position(|(message, _)| *message == id) else {
            return;
        };
        let Some((_, gossip)) = self.verdicts.remove(at) else {
            return;
        };
        let verdict = match acceptance {
            Acceptance::Accept => GossipVerdict::Accept,
            Acceptance::Ignore => GossipVerdict::Ignore,
            Acceptance::Reject => GossipVerdict::Reject,
        };
        self.network.verdict(gossip, verdict).await;
    }

    fn report(&mut self, event: &Event) {
        if let Event::Decided { synced, .. } = event {
            let loss = self.train_loss.take().filter(|_| !synced);
            self.page.decided(event, loss);
        }
        self.page.report(event);
    }

    fn train(&mut self, round: RoundNumber, seed: Seed, deadline: std::time::Instant) {
        if self.last_round.is_some_and(|last| round >= last) {
            let text = format!("the {round} rounds asked for are decided");
            self.page.set_message(Some((NodeState::Paused, text)));
            self.skipped = Some(round);
            self.evaluate();
            return;
        }
        if self.weights.round != round {
            tracing::error!(%round, weights = %self.weights.round, "asked to train from weights that are not here");
            self.skipped = Some(round);
            return;
        }
        let unapplied = self.own.unapplied();
        let weights = self.weights.clone();
        if !self.learner.train(TrainJob {
            round,
            seed,
            weights,
            deadline,
            unapplied,
        }) {
            self.skipped = Some(round);
        }
    }

    /// Measures the weights at this round's start, where the settings want it.
    pub(super) fn evaluate(&mut self) {
        let every = self.settings.evaluation.every;
        if every > 0 && self.weights.round.0 > 0 && self.weights.round.0.is_multiple_of(every) {
            self.learner.evaluate(self.weights.clone());
        }
    }

    fn apply(&mut self, apply: Apply) {
        self.page.chosen(&apply);
        self.settle_own(&apply);
        if apply.round != self.weights.round {
            tracing::error!(round = %apply.round, weights = %self.weights.round, "asked to apply out of order");
            return;
        }
        let weights = self.weights.clone();
        self.spawn(self.workshop.clone().apply(weights, apply));
    }

    /// Remembers whether the own contribution was chosen: what was not goes back into the error
    /// feedback.
    fn settle_own(&mut self, apply: &Apply) {
        if self.own.settle(
            apply.round,
            apply.contributions.iter().map(|chosen| chosen.blob),
        ) {
            self.page.say(
                Level::Warn,
                format!(
                    "round {}: own contribution was not chosen; it is kept for the next",
                    apply.round
                ),
            );
        }
    }

    /// Weights are in memory and on disk.
    pub(super) async fn weights_ready(&mut self, weights: Weights, is_new: bool) -> Result<()> {
        let (round, root) = (weights.round, weights.root);
        self.weights = weights;
        self.show_weights()?;
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
    pub(super) fn show_weights(&mut self) -> Result<()> {
        let workshop = &self.workshop;
        let keep = usize::try_from(self.settings.keep.weights).unwrap_or(usize::MAX);
        workshop.weight_files.prune(keep)?;
        let kept = workshop.weight_files.rounds()?;
        workshop.blobs.show_weights(
            &workshop.plan.layout,
            &self.weights,
            &workshop.weight_files,
            &kept,
        );
        let tensors = self
            .weights
            .outline
            .tensors
            .iter()
            .map(|outline| BlobHash::from(outline.hash()))
            .collect();
        let round = self.weights.round;
        self.change_position(|position| {
            position.tensors.insert(round, tensors);
            position.tensors.retain(|round, _| kept.contains(round));
        });
        Ok(())
    }
}
