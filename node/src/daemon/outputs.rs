//! Carries out what the core asks for, in its order.

use std::sync::PoisonError;
use std::time::Instant;

use weal_coordinator_free::host::retention;
use weal_coordinator_free::{
    Acceptance, Apply, Conflict, Event, Fetch, Input, Judge, Output, Record, Share, TimerId,
};
use weal_dashboard::{Level, NodeState};
use weal_network::GossipVerdict;
use weal_proto::{
    Attestation, BlobHash, Commitment, Decided, Envelope, Message, RoundNumber, Seed,
};

use super::batch::{Batch, Waiting};
use super::current_weights::durability;
use super::event_loop::Daemon;
use super::places::Purpose;
use super::service::Position;
use crate::error::{Error, ErrorKind, Result};
use crate::learner::TrainJob;
use crate::store::weights::{Weights, WeightsId};

/// Rounds after which a contribution that was not chosen is deleted: nobody fetches it any longer.
const LEFT_OUT_ROUNDS: u64 = 4;

impl Daemon {
    /// Stores the records of a batch, and then carries out everything else in it. Returns inputs
    /// that follow at once: a round in which this node does not train is reported without delay, so
    /// that no peer waits for it.
    ///
    /// # Errors
    /// When the disk cannot be written. The node must then stop, and nothing of the batch has left
    /// it.
    pub(super) async fn carry_out(&mut self, batch: Batch) -> Result<Vec<Input>> {
        let (records, rest) = batch.into_parts();
        self.persist(&records).await?;
        let mut follow_ups = Vec::new();
        for Waiting { output, gossip } in rest {
            match output {
                Output::Verdict(acceptance) => {
                    if let Some(id) = gossip {
                        self.network.verdict(id, gossip_verdict(acceptance)).await;
                    }
                }
                Output::Train {
                    round,
                    seed,
                    share,
                    deadline,
                    ..
                } => {
                    let deadline = self.timers.instant(deadline);
                    if !self.train(round, (seed, share), deadline) {
                        follow_ups.push(Input::TrainingFailed { round });
                    }
                }
                Output::Halt(conflict) => return Err(two_histories(&conflict)),
                output => self.carry_out_simple(output),
            }
        }
        Ok(follow_ups)
    }

    /// Outputs that neither wait, nor fail, nor lead to an input at once.
    fn carry_out_simple(&mut self, output: Output) {
        match output {
            Output::Persist(_) | Output::Verdict(_) | Output::Train { .. } | Output::Halt(_) => {}
            Output::FindTicket { round, bits } => {
                let signer = self.network.local().into();
                self.spawn(self.context.clone().find_ticket(signer, round, bits));
            }
            Output::Broadcast(envelope) => self.network.gossip(envelope.encode()),
            Output::StopTraining => {
                if let Some(round) = self.weights.round() {
                    self.learner.stop(round);
                }
            }
            Output::Reveal { blob, .. } => self.reveal(&blob),
            Output::Fetch(fetch) => self.examine(fetch),
            Output::Compare {
                round,
                contributions,
                earlier,
            } => {
                let own = self.own_work.as_ref().filter(|(of, _)| *of == round);
                let own = own.map(|(_, work)| work.clone());
                self.spawn(
                    self.context
                        .clone()
                        .compare(round, (contributions, earlier), own),
                );
            }
            Output::Judge(judge) => self.judge(judge),
            Output::Apply(apply) => self.apply(apply),
            Output::ComputeInitialWeights => {
                let manifest = self.core.chain().manifest().clone();
                let job = self.context.clone().compute_initial(manifest);
                self.start_weights_job(job);
            }
            Output::FetchWeights { round, root } => {
                let id = WeightsId { round, root };
                let held = self.weights.newest().cloned();
                let job = self.context.clone().fetch_weights(id, held);
                self.start_weights_job(job);
            }
            Output::SetTimer { id, at } => self.timers.set(id, at),
            Output::CancelTimer { id } => self.timers.cancel(id),
            Output::RequestDecided { from_round } => {
                self.spawn(self.context.clone().request_decided(from_round));
            }
            Output::RequestRoundMessages { round } => {
                for peer in self.context.some_peers() {
                    self.spawn(self.context.clone().request_messages(peer, round));
                }
            }
            Output::Report(event) => self.report(&event),
        }
    }

    /// Stores records. While the disk is full, the whole node waits here.
    async fn persist(&mut self, records: &[Record]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let disk = self.context.disk.clone();
        let mut waiting = None;
        while let Err(error) = tokio::task::block_in_place(|| self.store.persist(records)) {
            if !error.is_disk_full() {
                return Err(error);
            }
            waiting.get_or_insert_with(|| disk.wait_for_space(&error));
            self.publish();
            if !disk.pause().await {
                return Err(error);
            }
        }
        drop(waiting);
        for record in records {
            match record {
                Record::Decided(decided) => self.decided(decided),
                Record::OwnAttestation(envelope) => self.attested(envelope),
                Record::Snapshot(_) => self.keep_milestone(),
                _ => {}
            }
        }
        Ok(())
    }

    /// This node's attestation is stored: shows which contributions it refuses.
    fn attested(&mut self, envelope: &Envelope) {
        let Ok(attestation) = envelope.open::<Attestation>() else {
            return;
        };
        for refusal in &attestation.refused {
            if let Some(peer) = self.core.chain().places().holder(refusal.slot) {
                self.page.refused(peer, refusal.verdict);
            }
        }
    }

    /// A round is decided, and the decision is stored.
    fn decided(&mut self, decided: &Decided) {
        let (round, newest) = (decided.value.round, decided.value.hash());
        self.change_position(|position| {
            position.decided_rounds = round.0.saturating_add(1);
            position.newest = newest;
        });
        self.examinations.end(round);
        // Those of this round are measured next.
        self.context.examined().forget_before(round);
        self.tell_members();
        if let Err(error) = self.keep_contributions(round) {
            tracing::warn!("old contributions could not be deleted: {error:#}");
        }
    }

    /// Serves the contributions to a decided round, and deletes those that nobody needs.
    fn keep_contributions(&self, round: RoundNumber) -> Result<()> {
        let blobs = &self.context.blobs;
        blobs.reveal_until(round)?;
        let settled = RoundNumber(round.0.saturating_sub(LEFT_OUT_ROUNDS));
        if let Some(decided) = self.store.decided(settled, 1, 0)?.first() {
            let chosen = decided.value.contributions.iter().filter_map(|envelope| {
                envelope
                    .open::<Commitment>()
                    .ok()
                    .map(|commitment| commitment.blob)
            });
            blobs.prune_left_out(settled, &chosen.chain(self.own.newest()).collect())?;
        }
        blobs.prune(retention::oldest_kept(
            round,
            self.settings.keep.contributions,
            self.weights.oldest_checkpoint(),
        ))
    }

    /// Tells the network who the members are, so that it keeps places for them.
    pub(super) fn tell_members(&self) {
        let ledger = self.core.chain().ledger();
        let members = ledger.iter().filter(|(_, account)| account.member);
        self.network
            .set_members(members.map(|(peer, _)| peer.into()));
    }

    fn reveal(&self, blob: &BlobHash) {
        if let Err(error) = self.context.blobs.reveal(blob) {
            tracing::warn!("after a restart a contribution may be hidden again: {error:#}");
        }
    }

    /// Fetches and checks a contribution until the fetch phase closes.
    fn examine(&mut self, fetch: Fetch) {
        let round = fetch.commitment.round;
        let close = self.timers.at(TimerId::FetchClose(round));
        let deadline = close.unwrap_or_else(Instant::now);
        let account = self.core.chain().ledger().account(&fetch.peer);
        let purpose = match account {
            Some(account) if account.member => Purpose::OfMember,
            _ => Purpose::OfNewcomer,
        };
        let job = self.context.clone().examine(fetch, purpose, deadline);
        let job = self.spawn(job);
        self.examinations.begin(round, job);
    }

    pub(super) fn change_position(&self, change: impl FnOnce(&mut Position)) {
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
    fn train(
        &mut self,
        round: RoundNumber,
        (seed, share): (Seed, Share),
        deadline: Instant,
    ) -> bool {
        if let Some(last) = self.last_round.filter(|last| round >= *last) {
            let text = format!("all {last} rounds asked for are decided");
            self.page.set_message(Some((NodeState::Paused, text)));
            self.evaluate();
            return false;
        }
        // Nobody could fetch the contribution. The page and the log say so.
        if self.meter.monthly_use().is_used_up() {
            return false;
        }
        let Some(weights) = self.weights_for("train in", round) else {
            return false;
        };
        self.learner.train(TrainJob {
            round,
            seed,
            share,
            weights,
            deadline,
            unapplied: self.own.unapplied(),
        })
    }

    /// Measures the held-out loss of the newest weights in the rounds that the settings name.
    pub(super) fn evaluate(&mut self) {
        let every = self.settings.evaluation.every;
        let is_due = |round: u64| every > 0 && round > 0 && round.is_multiple_of(every);
        let newest = self.weights.newest();
        if let Some(weights) = newest.filter(|weights| is_due(weights.round.0)) {
            self.learner.evaluate(weights.clone());
        }
    }

    /// Measures what contributions of a decided round did to the loss.
    fn judge(&mut self, judge: Judge) {
        // A node that fetched its weights has nothing to measure against, and others measure too.
        if let Some(weights) = self.weights.at(judge.round) {
            let context = self.context.clone();
            self.learner
                .judge(Box::new(move || context.judge_job(&judge, weights)));
        }
    }

    /// The weights at the start of a round, which the core has been told are here.
    fn weights_for(&self, purpose: &str, round: RoundNumber) -> Option<Weights> {
        let weights = self.weights.at(round);
        if weights.is_none() {
            let newest = self.weights.round();
            let present = newest.map_or("missing".into(), |newest| format!("of round {newest}"));
            tracing::error!("cannot {purpose} round {round}: the weights here are {present}");
        }
        weights
    }

    fn apply(&mut self, apply: Apply) {
        self.page.chosen(&apply);
        self.settle_own_contribution(&apply);
        let Some(weights) = self.weights_for("apply", apply.round) else {
            return;
        };
        let durability = durability(apply.round.next(), self.core.chain().round());
        self.spawn(self.context.clone().apply(weights, apply, durability));
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
}

fn gossip_verdict(acceptance: Acceptance) -> GossipVerdict {
    match acceptance {
        Acceptance::Accept => GossipVerdict::Accept,
        Acceptance::Ignore => GossipVerdict::Ignore,
        Acceptance::Reject => GossipVerdict::Reject,
    }
}

/// Voters decided a round in two ways. Prints both decisions, so that people can compare them with
/// other nodes'.
fn two_histories(conflict: &Conflict) -> Error {
    let Conflict {
        round,
        ours,
        theirs,
    } = conflict;
    let signers = theirs.certificate.signatures.iter();
    let signers: Vec<_> = signers.map(|commit| commit.peer.to_string()).collect();
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "voters decided round {round} in two ways: {ours} here, and {} with the signatures of {}",
            theirs.certificate.value,
            signers.join(", ")
        ),
    )
    .with_hint(
        "compare both hashes with peers you trust; if this node has the wrong history, join the \
         run again in a new folder",
    )
}
