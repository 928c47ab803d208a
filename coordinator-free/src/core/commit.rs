//! Training, and commitments: what everybody promises before anything is revealed.

use weal_proto::{BlobHash, Commitment, Envelope, RoundNumber, Samples};

use super::Core;
use super::round::Training;
use crate::interface::output::{Output, Record, TimerId};
use crate::interface::view::Phase;
use crate::rules::round_set::SignedCommitment;

/// Training stops a tenth of its time before commitments close, but no more than this: time for the
/// last step, the compression and the commitment's way.
const MOST_MARGIN_MS: u64 = 2_000;

impl Core {
    /// Begins the round, once its weights are here and nothing says that others are far ahead.
    pub(super) fn begin_round(&mut self) -> bool {
        let Some(base_root) = self.own_root() else {
            return false;
        };
        if self.held_back() {
            return false;
        }
        let round = self.chain.round();
        let train_ms = u64::from(self.chain.manifest().timing.train_ms);
        let ends = self.now.after(train_ms);
        self.set_timer(TimerId::CommitClose(round), train_ms);
        self.enter(Phase::Committing, Some(ends));

        // What an earlier life said in this round stands: it is repeated, not said anew.
        if let Some((attested, _)) = self.round.attestations.get(&self.me) {
            self.outputs.push(Output::Broadcast(attested.clone()));
        }
        if let Some(signed) = self.round.commitments.get(&self.me) {
            self.outputs
                .push(Output::Broadcast(signed.envelope.clone()));
        } else if !self.leaving {
            self.round.training = Training::Running;
            let margin = (train_ms / 10).min(MOST_MARGIN_MS);
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
        let waited_for = self.round.training == Training::Running && round == self.chain.round();
        let Some(base_root) = self.own_root().filter(|_| waited_for) else {
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
        // Too late for this peer's own count, it may be in time for others': they must be able to
        // fetch it.
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

    /// Keeps a commitment: its signature is good, and its signer has made no other.
    pub(super) fn keep_commitment(&mut self, envelope: Envelope, commitment: Commitment) {
        let (peer, hash) = (envelope.signer, envelope.hash());
        let in_time = matches!(self.round.phase, Phase::Waiting | Phase::Committing);
        if !in_time {
            self.round.late.insert(peer);
        }
        self.knocks.heard(peer, commitment.round, in_time);
        self.round.commitments.insert(
            peer,
            SignedCommitment {
                envelope,
                hash,
                commitment,
            },
        );
        self.progress();
    }

    pub(super) fn close_commits_if_complete(&mut self) -> bool {
        let expected = self.expected_committers();
        let complete =
            !expected.is_empty() && expected.iter().all(|peer| self.round.has_committed(peer));
        // A round whose attestation is given is past this, whoever is missing.
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
                self.knocks.missed(&peer);
            }
        }
        self.close_commits();
    }

    fn close_commits(&mut self) {
        self.cancel_timer(TimerId::CommitClose(self.chain.round()));
        self.reveal();
        if !self.starts_over() {
            self.fetch();
        }
    }

    /// From now on nobody who copies can have committed in time.
    pub(super) fn reveal(&mut self) {
        if let Some(own) = self.round.commitments.get(&self.me) {
            self.outputs.push(Output::Reveal {
                round: own.commitment.round,
                blob: own.commitment.blob,
            });
        }
    }
}
