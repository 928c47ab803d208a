//! Attestations: each member signs what it found, and again if voters cannot agree.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{
    Attestation, ListHash, PeerId, PlaceSet, Refusal, SlotId, StateRoot, Verdict, limits,
};

use super::Core;
use super::weight_sync::Weights;
use crate::interface::event::Event;
use crate::interface::names::TimerId;
use crate::interface::output::Record;
use crate::interface::view::Phase;
use crate::rules::round_set::Roots;

/// Each attempt takes twice as long as the one before, up to 64 times as long as the first.
const MAX_DOUBLINGS: u32 = 6;
/// This many past attempts are kept. A round may take any number of attempts.
pub(super) const ATTEMPTS_BACK: u32 = 16;

impl Core {
    /// Attests what this node has found so far, and waits for the others' attestations.
    pub(super) fn attest(&mut self) {
        let round = self.chain.round();
        self.cancel_timer(TimerId::FetchClose(round));
        if !self.has_attested_now() && self.restart_if_weights_differ() {
            return;
        }
        self.round.attest_time_is_up = false;
        let wait = self.wait_for_attestations();
        self.enter(Phase::Attesting, Some(self.now.after(wait)));
        if let Some(base_root) = self.base_root() {
            self.sign_attestation(base_root);
        }
    }

    /// Whether this node has attested in the running attempt.
    pub(super) fn has_attested_now(&self) -> bool {
        let slot = (self.round.attempt, self.me);
        self.round.attestations.contains_key(&slot)
    }

    /// Only members may attest, and each of them once in an attempt. A member that leaves says
    /// nothing in later rounds: it would take back its leave.
    fn sign_attestation(&mut self, base_root: StateRoot) {
        let may = self.chain.may_attest(&self.me) && !self.has_left();
        if !may || self.has_attested_now() {
            return;
        }
        let attestation = self.attestation(base_root);
        let envelope = self.say(&attestation, Record::OwnAttestation);
        self.round
            .attestations
            .insert((self.round.attempt, self.me), (envelope, attestation));
    }

    /// Attests a decided round after the fact, if this node could not in time: its weights came too
    /// late, or the others were faster. It names no contribution. It says that this member is
    /// there, so that the others [wait](super::expected) for it.
    pub(super) fn attest_missed_round(&mut self) {
        let Some(Weights { round, root }) = self.weight_sync.held_and_decided() else {
            return;
        };
        let signed = round < self.attested_until;
        if signed || !self.chain.allows_late(&self.me, round) || self.has_left() {
            return;
        }
        self.attested_until = round.next();
        let attestation = Attestation {
            round,
            base_root: root,
            list: ListHash::of(std::iter::empty()),
            valid: PlaceSet::default(),
            refused: Vec::new(),
            attempt: 0,
            scores: Vec::new(),
        };
        let envelope = self.say(&attestation, Record::OwnAttestation);
        self.late.insert((round, self.me), envelope);
    }

    /// What this node has found, by place.
    fn attestation(&self, base_root: StateRoot) -> Attestation {
        let verdict = |(slot, verdict): (&SlotId, &Verdict)| (*slot, self.newest(*slot, *verdict));
        let found: Vec<_> = self.round.examined.iter().map(verdict).collect();
        let is_valid = |(_, verdict): &&(SlotId, Verdict)| *verdict == Verdict::Valid;
        let valid = found.iter().filter(is_valid).map(|(slot, _)| *slot);
        let valid: PlaceSet = valid.collect();
        let list = valid.iter().filter_map(|slot| {
            let holder = self.chain.places().holder(slot)?;
            let signed = self.round.commitments.get(&holder)?;
            Some((slot, signed.envelope.payload_hash()))
        });
        let refusals = found.iter().filter(|found| !is_valid(found));
        Attestation {
            round: self.chain.round(),
            base_root,
            list: ListHash::of(list),
            refused: refusals
                .map(|(slot, verdict)| Refusal {
                    slot: *slot,
                    verdict: *verdict,
                })
                .collect(),
            valid,
            attempt: self.round.attempt,
            scores: self.scores(),
        }
    }

    /// A verdict, unless the peer turned out to have committed twice.
    fn newest(&self, slot: SlotId, verdict: Verdict) -> Verdict {
        let holder = self.chain.places().holder(slot);
        if holder.is_some_and(|peer| self.evidence.contains_key(&peer)) {
            Verdict::Contradicted
        } else {
            verdict
        }
    }

    /// Time for attestations is up. If voters with more than two thirds of the weight have attested
    /// and no set follows from it, everyone attests again: either they agree on no base root, or
    /// this node cannot tell which commitments they speak of.
    pub(super) fn attest_time_is_up(&mut self) {
        let settled = match self.round.phase {
            Phase::Attesting => self.agreed_attempt(),
            Phase::Deciding => self.build_set().is_some(),
            _ => return,
        };
        self.round.attest_time_is_up = true;
        let roster = self.chain.ledger().roster();
        let attested = roster.weigh(&self.attesters_from(self.round.attempt));
        if !settled && roster.is_quorum(attested) {
            self.attest_again(self.round.attempt.saturating_add(1));
        } else {
            self.wait_for_attestations();
        }
    }

    /// Others attest again: voters with more than a third of the weight, so that an honest one is
    /// among them. Follows to the last such attempt.
    pub(super) fn follow_attempt(&mut self) {
        let roster = self.chain.ledger().roster();
        let attempts: BTreeSet<u32> = self.round.attestations.keys().map(|(of, _)| *of).collect();
        let later = attempts.range(self.round.attempt.saturating_add(1)..);
        let has_honest = |of: &&u32| roster.has_honest(roster.weigh(&self.attesters_from(**of)));
        let Some(attempt) = later.rev().find(has_honest).copied() else {
            return;
        };
        let settled = match self.round.phase {
            Phase::Attesting => self.agreed_attempt(),
            Phase::Deciding => self.build_set().is_some(),
            _ => return,
        };
        if !settled {
            self.attest_again(attempt);
        }
    }

    fn attest_again(&mut self, attempt: u32) {
        if attempt >= limits::ATTEMPTS {
            return;
        }
        self.round.begin_attempt(attempt);
        let round = self.chain.round();
        self.report(Event::AttestedAgain { round, attempt });
        if self.round.phase == Phase::Attesting {
            self.attest();
            return;
        }
        self.wait_for_attestations();
        if let Some(base_root) = self.base_root() {
            self.sign_attestation(base_root);
        }
    }

    /// Sets the time until which this node waits for others' attestations of the running attempt.
    /// Returns how many milliseconds that is.
    pub(super) fn wait_for_attestations(&mut self) -> u64 {
        let doublings = self.round.attempt.min(MAX_DOUBLINGS);
        let wait = u64::from(self.chain.manifest().timing.attest_ms) << doublings;
        self.set_timer(TimerId::AttestClose(self.chain.round()), wait);
        wait
    }

    /// Voters that attested in this attempt or a later one.
    fn attesters_from(&self, attempt: u32) -> BTreeSet<PeerId> {
        let attestations = self.round.attestations.keys();
        let later = attestations.filter(|(of, _)| *of >= attempt);
        later.map(|(_, peer)| *peer).collect()
    }

    /// Whether voters agree on a base root in one of the attempts.
    pub(super) fn agreed_attempt(&self) -> bool {
        let roster = self.chain.ledger().roster();
        let mut attempts = BTreeMap::<u32, Roots>::new();
        for ((attempt, peer), (_, attestation)) in &self.round.attestations {
            let roots = attempts.entry(*attempt).or_default();
            roots.add(roster.weight(peer), attestation.base_root);
        }
        attempts
            .values()
            .any(|roots| roots.agreed(roster).is_some())
    }

    /// Other voters have begun to decide, so this node attests what it knows by now.
    pub(super) fn skip_to_attesting(&mut self) {
        if matches!(self.round.phase, Phase::Committing | Phase::Closing) {
            if self.round.phase == Phase::Committing {
                self.close();
            }
            self.reveal();
        }
        if self.round.phase < Phase::Attesting && self.round.phase > Phase::Waiting {
            self.attest();
        }
    }
}
