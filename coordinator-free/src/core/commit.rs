//! Training and commitments: every peer commits to its contribution before any is revealed.

use std::collections::BTreeSet;

use weal_proto::{
    BlobHash, Closed, Commitment, Envelope, PeerId, RoundNumber, SampleSpan, Samples,
};

use super::Core;
use super::round::Training;
use crate::interface::names::TimerId;
use crate::interface::output::{Output, Record};
use crate::interface::view::Phase;
use crate::rules::round_set::SignedCommitment;

/// A contribution is to be ready before commitments close: a tenth of `train_ms` earlier, but no
/// more than this. The commitment's journey takes time. How long the node takes to finish a
/// contribution it measures itself.
const MAX_MARGIN_MS: u64 = 2_000;
/// What newcomers get beyond the time that the members took.
const NEWCOMERS_MS: u64 = 1_000;

impl Core {
    /// Begins the round once its weights are in memory, unless peers are ahead or may be. Returns
    /// whether it does.
    pub(super) fn begin_round(&mut self) -> bool {
        let Some(base_root) = self.base_root() else {
            return false;
        };
        let round = self.chain.round();
        if self.liveness.holds(round, self.now) {
            return false;
        }
        let train_ms = u64::from(self.chain.manifest().timing.train_ms);
        self.round.began = self.now;
        self.set_timer(TimerId::CommitClose(round), train_ms);
        self.enter(Phase::Committing, Some(self.now.after(train_ms)));
        self.repeat_what_is_signed();
        if self.may_train() {
            self.round.training = Training::Running;
            let margin = (train_ms / 10).min(MAX_MARGIN_MS);
            let deadline = self.now.after(train_ms.saturating_sub(margin));
            self.outputs.push(Output::Train {
                round,
                seed: self.chain.seed(),
                share: self.chain.share(&self.me),
                base_root,
                deadline,
            });
        }
        self.ask_for_ticket();
        true
    }

    /// After a restart, repeats what this node has already signed in this round.
    fn repeat_what_is_signed(&mut self) {
        let round = &self.round;
        let me = self.me;
        let attested = round.attestations.iter();
        let attested = attested.filter(|((_, peer), _)| *peer == me);
        let mut own: Vec<_> = attested.map(|(_, (it, _))| it.clone()).collect();
        own.extend(round.closed.get(&me).cloned());
        own.extend(round.recoveries.get(&me).cloned());
        own.extend(round.commitments.get(&me).map(|it| it.envelope.clone()));
        self.outputs.extend(own.into_iter().map(Output::Broadcast));
    }

    /// Whether to train: this node has a place, and its commitment can still be in time.
    fn may_train(&self) -> bool {
        self.chain.places().slot_of(&self.me).is_some()
            && !self.round.commitments.contains_key(&self.me)
            && !self.leaving
            && !self.round.is_closed
            && !self.voters_have_closed()
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
            spans: vec![SampleSpan {
                seed_round: round,
                first: 0,
                count: samples.0,
            }],
        };
        let too_late = self.voters_have_closed();
        let has_committed = self.round.commitments.contains_key(&self.me);
        if too_late || has_committed || !self.chain.allows(&commitment) {
            return;
        }
        let envelope = self.say(&commitment, Record::OwnCommitment);
        self.keep_commitment(envelope, commitment);
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
        if self.round.is_closed {
            self.round.late.insert(peer);
        }
        self.round
            .commitments
            .insert(peer, SignedCommitment::new(envelope, commitment));
        self.progress();
    }

    /// Stops taking commitments once all expected peers have committed, or once voters with more
    /// than two thirds of the weight have stopped. Returns whether it does.
    pub(super) fn close_if_complete(&mut self) -> bool {
        let (members, newcomers) = self.expected_committers();
        let all = |peers: &BTreeSet<PeerId>| peers.iter().all(|it| self.round.has_committed(it));
        let members_are_there = all(&members) && !(members.is_empty() && newcomers.is_empty());
        // A node that attested or closed before a restart is past this phase.
        let past = self.round.is_closed || self.round.has_attested(&self.me);
        let complete = members_are_there && all(&newcomers);
        if complete || past || self.voters_have_closed() {
            self.close();
            return true;
        }
        if members_are_there {
            self.hurry_newcomers();
        }
        false
    }

    /// All members have committed. Newcomers get as much time again, and a second.
    fn hurry_newcomers(&mut self) {
        if std::mem::replace(&mut self.round.newcomers_are_late, true) {
            return;
        }
        let taken = self.now.since(self.round.began);
        let ends = self.now.after(taken.saturating_add(NEWCOMERS_MS));
        if self.round.phase_ends.is_none_or(|before| ends < before) {
            self.round.phase_ends = Some(ends);
            self.outputs.push(Output::SetTimer {
                id: TimerId::CommitClose(self.chain.round()),
                at: ends,
            });
        }
    }

    pub(super) fn commit_time_is_up(&mut self) {
        if self.round.phase == Phase::Committing {
            self.close();
        }
    }

    /// Takes no more commitments from now on, and says so. It is on disk before anybody hears it:
    /// after a restart this node must not take for early what may be a copy.
    pub(super) fn close(&mut self) {
        let round = self.chain.round();
        self.cancel_timer(TimerId::CommitClose(round));
        if !std::mem::replace(&mut self.round.is_closed, true) {
            self.remember_in_time();
        }
        let votes = self.chain.ledger().roster().contains(&self.me);
        if votes && !self.round.closed.contains_key(&self.me) {
            let envelope = self.say(&Closed { round }, Record::OwnClosed);
            self.round.closed.insert(self.me, envelope);
        }
        self.enter(Phase::Closing, None);
    }

    /// Stores which commitments came in time. After a restart nothing else tells them from copies,
    /// and what this node attests must stay known for as long as somebody may ask what it meant.
    fn remember_in_time(&mut self) {
        let me = self.me;
        let in_time = self.round.in_time().map(|signed| &signed.envelope);
        let others: Vec<_> = in_time.filter(|it| it.signer != me).cloned().collect();
        if !others.is_empty() {
            self.outputs.push(Output::Persist(Record::InTime(others)));
        }
    }

    /// Whether voters with more than two thirds of the weight take no more commitments.
    pub(super) fn voters_have_closed(&self) -> bool {
        let roster = self.chain.ledger().roster();
        roster.is_quorum(roster.weigh(self.round.closed.keys()))
    }

    /// Reveals and fetches once voters with more than two thirds of the weight have closed. Returns
    /// whether it does.
    pub(super) fn fetch_if_closed(&mut self) -> bool {
        // Who has attested before a restart has seen them close.
        if !self.voters_have_closed() && !self.round.has_attested(&self.me) {
            return false;
        }
        self.reveal();
        if !self.restart_if_weights_differ() {
            self.fetch();
        }
        true
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
