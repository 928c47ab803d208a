//! Training and commitments: every peer commits to its contribution before any is revealed.

use weal_proto::{BlobHash, Commitment, Envelope, RoundNumber, Samples};

use super::Core;
use super::round::Training;
use crate::interface::names::TimerId;
use crate::interface::output::{Output, Record};
use crate::interface::view::Phase;
use crate::rules::round_set::SignedCommitment;

/// Training stops before commitments close: a tenth of `train_ms` earlier, but no more than this.
/// The last step, the compression and the commitment's journey take time.
const MAX_MARGIN_MS: u64 = 2_000;

impl Core {
    /// Begins the round once its weights are in memory, unless peers are ahead. Returns whether it
    /// does.
    pub(super) fn begin_round(&mut self) -> bool {
        let Some(base_root) = self.base_root() else {
            return false;
        };
        let round = self.chain.round();
        if self.liveness.holds(round, self.now) {
            return false;
        }
        let train_ms = u64::from(self.chain.manifest().timing.train_ms);
        let ends = self.now.after(train_ms);
        self.set_timer(TimerId::CommitClose(round), train_ms);
        self.enter(Phase::Committing, Some(ends));

        // After a restart, repeat what this node has already signed in this round.
        if let Some((attested, _)) = self.round.attestations.get(&self.me) {
            self.outputs.push(Output::Broadcast(attested.clone()));
        }
        if let Some(signed) = self.round.commitments.get(&self.me) {
            self.outputs
                .push(Output::Broadcast(signed.envelope.clone()));
        } else if !self.leaving {
            self.round.training = Training::Running;
            let margin = (train_ms / 10).min(MAX_MARGIN_MS);
            let deadline = self.now.after(train_ms.saturating_sub(margin));
            self.outputs.push(Output::Train {
                round,
                seed: self.chain.seed(),
                base_root,
                deadline,
            });
        }
        true
    }

    pub(super) fn trained(
        &mut self,
        round: RoundNumber,
        blob: BlobHash,
        blob_bytes: u64,
        samples: Samples,
    ) {
        let expected = self.round.training == Training::Running && round == self.chain.round();
        let Some(base_root) = self.base_root().filter(|_| expected) else {
            return;
        };
        self.round.training = Training::Over;
        let commitment = Commitment {
            round,
            base_root,
            blob,
            blob_bytes,
            samples,
        };
        if self.round.commitments.contains_key(&self.me) || !self.chain.allows_size(&commitment) {
            return;
        }
        let envelope = self.sign(&commitment);
        self.outputs
            .push(Output::Persist(Record::OwnCommitment(envelope.clone())));
        self.outputs.push(Output::Broadcast(envelope.clone()));
        self.keep_commitment(envelope, commitment);
        // The commitment is late by this node's clock, but may be in time by a peer's clock. That
        // peer must be able to fetch the blob.
        if self.round.late.contains(&self.me) {
            self.outputs.push(Output::Reveal { round, blob });
        }
    }

    pub(super) fn training_failed(&mut self, round: RoundNumber) {
        if round == self.chain.round() && self.round.training == Training::Running {
            self.round.training = Training::Over;
        }
    }

    pub(super) fn stop_training(&mut self) {
        if self.round.training == Training::Running {
            self.round.training = Training::Over;
            self.outputs.push(Output::StopTraining);
        }
    }

    /// Keeps a commitment. Its signature is good, and it is its signer's first in this round.
    pub(super) fn keep_commitment(&mut self, envelope: Envelope, commitment: Commitment) {
        let peer = envelope.signer;
        let in_time = matches!(self.round.phase, Phase::Waiting | Phase::Committing);
        if !in_time {
            self.round.late.insert(peer);
        }
        self.recent_committers
            .committed(peer, commitment.round, in_time);
        self.round
            .commitments
            .insert(peer, SignedCommitment::new(envelope, commitment));
        self.progress();
    }

    /// Closes commitments once all expected peers have committed. Returns whether it does.
    pub(super) fn close_commits_if_complete(&mut self) -> bool {
        let expected = self.expected_committers();
        let complete =
            !expected.is_empty() && expected.iter().all(|peer| self.round.has_committed(peer));
        // A node that attested before a restart is past this phase, whoever has not committed yet.
        let attested = self.round.attestations.contains_key(&self.me);
        if complete || attested {
            self.close_commits();
        }
        complete || attested
    }

    pub(super) fn commit_time_is_up(&mut self) {
        if self.round.phase != Phase::Committing {
            return;
        }
        for peer in self.expected_committers() {
            if !self.round.has_committed(&peer) {
                self.recent_committers.missed(&peer);
            }
        }
        self.close_commits();
    }

    fn close_commits(&mut self) {
        self.cancel_timer(TimerId::CommitClose(self.chain.round()));
        self.reveal();
        if !self.restart_if_weights_differ() {
            self.fetch();
        }
    }

    /// Reveals this node's contribution. A commitment to a copy of it would now be late.
    pub(super) fn reveal(&mut self) {
        if let Some(signed) = self.round.commitments.get(&self.me) {
            self.outputs.push(Output::Reveal {
                round: signed.commitment.round,
                blob: signed.commitment.blob,
            });
        }
    }
}
