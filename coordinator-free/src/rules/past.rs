//! What is remembered of the last decided rounds.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{Decided, PeerId, RoundNumber, RoundSet, RoundSetHash, limits};

use crate::rules::certificate;
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;

/// Rounds whose decision and voters are remembered.
const ROUNDS: usize = 64;

/// A decided round.
#[derive(Debug, Clone)]
struct PastRound {
    decision: RoundSetHash,
    roster: Roster,
}

/// The last decided rounds: what they decided and who decided it, to notice a second decision; and
/// whose attestations are decided, so that each is decided once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    rounds: BTreeMap<RoundNumber, PastRound>,
    attested: BTreeMap<RoundNumber, BTreeSet<PeerId>>,
}

impl Past {
    /// A round was decided by this roster.
    pub(crate) fn remember(&mut self, set: &RoundSet, decision: RoundSetHash, roster: Roster) {
        let in_time = set.attestations.iter().map(|envelope| envelope.signer);
        self.attested.insert(set.round, in_time.collect());
        for envelope in &set.late {
            if let Ok(attestation) = envelope.open::<weal_proto::Attestation>()
                && let Some(attested) = self.attested.get_mut(&attestation.round)
            {
                attested.insert(envelope.signer);
            }
        }
        self.rounds
            .insert(set.round, PastRound { decision, roster });
        while self.rounds.len() > ROUNDS {
            self.rounds.pop_first();
        }
        // The next round may include attestations of this many rounds.
        while self.attested.len() as u64 > limits::LATE_ROUNDS {
            self.attested.pop_first();
        }
    }

    /// Whether the round is recent, and no decided round holds an attestation of this peer for it.
    pub(crate) fn lacks(&self, round: RoundNumber, peer: &PeerId) -> bool {
        self.attested
            .get(&round)
            .is_some_and(|attested| !attested.contains(peer))
    }

    /// The oldest round whose decision is remembered.
    pub(crate) fn oldest(&self) -> Option<RoundNumber> {
        self.rounds.keys().next().copied()
    }

    /// What was decided here, if the voters of that round also decided this: more than a third of
    /// their weight then signed both.
    pub(crate) fn conflict(
        &self,
        other: &Decided,
        signatures: &mut Signatures,
    ) -> Option<RoundSetHash> {
        let ours = self.rounds.get(&other.value.round)?;
        let hash = other.value.hash();
        let about_it = other.certificate.value == hash
            && other.certificate.round == other.value.round
            && other.value.gone.is_empty();
        if hash == ours.decision || !about_it {
            return None;
        }
        certificate::check(&other.certificate, &ours.roster, signatures)
            .is_ok()
            .then_some(ours.decision)
    }
}
