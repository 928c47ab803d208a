//! What a decided round says about peers.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{Attestation, Envelope, PeerId, RoundNumber, RoundSet};

/// What a decided round says about peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Peers whose contribution was chosen.
    pub contributors: BTreeSet<PeerId>,
    /// Peers whose attestation is in the round set.
    pub attesters: BTreeSet<PeerId>,
    /// Members that announced that they leave.
    pub leavers: BTreeSet<PeerId>,
    /// Peers that contradicted themselves.
    pub equivocators: BTreeSet<PeerId>,
    /// Peers with an attestation of an earlier round, and that round.
    pub late: BTreeSet<(RoundNumber, PeerId)>,
    /// Newcomers that a ticket of theirs is decided of.
    pub tickets: BTreeSet<PeerId>,
    /// Newcomers that held a place in the round: their tickets are used up.
    pub placed: BTreeSet<PeerId>,
    /// What the round changes about its members' turns.
    pub turns: BTreeMap<PeerId, i64>,
    /// Voters that operators declared gone for ever.
    pub gone: BTreeSet<PeerId>,
}

impl Outcome {
    /// Reads the outcome of a round set without checking the set. `placed` and `turns` do not stand
    /// in it.
    pub(crate) fn of(set: &RoundSet) -> Self {
        let signers =
            |envelopes: &[Envelope]| envelopes.iter().map(|envelope| envelope.signer).collect();
        Self {
            contributors: signers(&set.contributions),
            attesters: signers(&set.attestations),
            leavers: signers(&set.leaves),
            equivocators: set
                .evidence
                .iter()
                .map(|evidence| evidence.first.signer)
                .collect(),
            late: set.late.iter().filter_map(late).collect(),
            tickets: signers(&set.tickets),
            gone: set.gone.iter().copied().collect(),
            ..Self::default()
        }
    }
}

fn late(envelope: &Envelope) -> Option<(RoundNumber, PeerId)> {
    let attestation: Attestation = envelope.open().ok()?;
    Some((attestation.round, envelope.signer))
}
