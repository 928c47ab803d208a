//! What is remembered of the last decided rounds.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::snapshot::{ChainSnapshot, PastAttesters, PastBlobs, PastDecision};
use weal_proto::{
    BlobHash, Commitment, Decided, Envelope, PeerId, RoundNumber, RoundSet, RoundSetHash, limits,
};

use crate::rules::certificate;
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;

/// Rounds whose contributions nobody may send again. What is older agrees with nothing that others
/// learn by now.
const NO_REPEATS: usize = 3;

/// A decided round.
#[derive(Debug, Clone)]
struct PastRound {
    decision: RoundSetHash,
    roster: Roster,
}

/// The last decided rounds: what they decided and who decided it, to notice a second decision;
/// whose attestations are decided, so that each is decided once; and which contributions were
/// chosen, so that each counts once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    rounds: BTreeMap<RoundNumber, PastRound>,
    attested: BTreeMap<RoundNumber, BTreeSet<PeerId>>,
    chosen: BTreeMap<RoundNumber, Vec<BlobHash>>,
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
        let commitments = set.contributions.iter().map(Envelope::open::<Commitment>);
        let chosen = commitments.flatten().map(|commitment| commitment.blob);
        self.chosen.insert(set.round, chosen.collect());
        while self.chosen.len() > NO_REPEATS {
            self.chosen.pop_first();
        }
        self.rounds
            .insert(set.round, PastRound { decision, roster });
        while self.rounds.len() > limits::PAST_ROUNDS {
            self.rounds.pop_first();
        }
        // The next round may include attestations of this many rounds.
        while self.attested.len() as u64 > limits::LATE_ROUNDS {
            self.attested.pop_first();
        }
    }

    /// The decisions that are remembered.
    pub(crate) fn decisions(&self) -> Vec<PastDecision> {
        let decision = |(round, past): (&RoundNumber, &PastRound)| PastDecision {
            round: *round,
            decision: past.decision,
            voters: past.roster.states(),
        };
        self.rounds.iter().map(decision).collect()
    }

    /// Whose attestations are decided.
    pub(crate) fn attesters(&self) -> Vec<PastAttesters> {
        let attesters = |(round, peers): (&RoundNumber, &BTreeSet<PeerId>)| PastAttesters {
            round: *round,
            peers: peers.iter().copied().collect(),
        };
        self.attested.iter().map(attesters).collect()
    }

    /// The blobs that the last rounds chose, by round.
    pub(crate) fn blobs(&self) -> Vec<PastBlobs> {
        let blobs = |(round, blobs): (&RoundNumber, &Vec<BlobHash>)| PastBlobs {
            round: *round,
            blobs: blobs.clone(),
        };
        self.chosen.iter().map(blobs).collect()
    }

    /// What a snapshot remembers.
    pub(crate) fn of(snapshot: &ChainSnapshot) -> Self {
        let past_round = |past: &PastDecision| PastRound {
            decision: past.decision,
            roster: Roster::of_states(&past.voters),
        };
        let (decisions, attesters) = (snapshot.decisions.iter(), snapshot.attesters.iter());
        let blobs = snapshot.blobs.iter();
        Self {
            rounds: decisions.map(|one| (one.round, past_round(one))).collect(),
            attested: attesters
                .map(|one| (one.round, one.peers.iter().copied().collect()))
                .collect(),
            chosen: blobs.map(|one| (one.round, one.blobs.clone())).collect(),
        }
    }

    /// Whether the round is recent, and no decided round holds an attestation of this peer for it.
    pub(crate) fn lacks(&self, round: RoundNumber, peer: &PeerId) -> bool {
        self.attested
            .get(&round)
            .is_some_and(|attested| !attested.contains(peer))
    }

    /// The blobs that the last rounds chose.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = BlobHash> {
        self.chosen.values().flatten().copied()
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
