//! What a round decides.

use crate::envelope::{Envelope, Kind};
use crate::error::DecodeError;
use crate::ids::{LedgerRoot, RoundNumber, RoundSetHash, StateRoot};
use crate::limits;
use crate::message::{Message, Wire, list, required, rising};
use crate::shape::{self, Shape, id, one, plain};
use crate::wire;

const ROUND_SET_CONTEXT: &str = "commonweal round set v1";

/// What a round decides. Its validity is a function of these bytes and of what was decided before,
/// so that a voter who misses a blob can still vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundSet {
    /// The round decided.
    pub round: RoundNumber,
    /// Hash of the round set before; the run id for round 0.
    pub parent: RoundSetHash,
    /// State root of the weights at the round's start.
    pub base_root: StateRoot,
    /// Hash of the ledger that this round is decided by.
    pub ledger_root: LedgerRoot,
    /// Commitment envelopes of the chosen contributions, strictly rising by signer. They are
    /// applied in this order.
    pub contributions: Vec<Envelope>,
    /// The proof: attestation envelopes, strictly rising by signer.
    pub attestations: Vec<Envelope>,
    /// Leave envelopes, strictly rising by signer.
    pub leaves: Vec<Envelope>,
    /// Proven contradictions, at most one for each peer, strictly rising by signer of the first.
    pub evidence: Vec<Evidence>,
}

impl RoundSet {
    /// Names this round set.
    pub fn hash(&self) -> RoundSetHash {
        blake3::derive_key(ROUND_SET_CONTEXT, &self.encode()).into()
    }
}

impl Wire for RoundSet {
    type Wire = wire::RoundSet;
    const SHAPE: Shape = Shape {
        name: "round set",
        most_bytes: limits::ROUND_SET_BYTES,
        fields: &[
            plain(1),
            id(2, "RoundSet.parent"),
            id(3, "RoundSet.base_root"),
            id(4, "RoundSet.ledger_root"),
            shape::list(
                5,
                "RoundSet.contributions",
                limits::CONTRIBUTIONS,
                &Envelope::SHAPE,
            ),
            shape::list(6, "RoundSet.attestations", limits::VOTERS, &Envelope::SHAPE),
            shape::list(7, "RoundSet.leaves", limits::LEAVES, &Envelope::SHAPE),
            shape::list(8, "RoundSet.evidence", limits::EVIDENCE, &Evidence::SHAPE),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::RoundSet {
            round: self.round.0,
            parent: self.parent.to_wire(),
            base_root: self.base_root.to_wire(),
            ledger_root: self.ledger_root.to_wire(),
            contributions: self.contributions.iter().map(Wire::to_wire).collect(),
            attestations: self.attestations.iter().map(Wire::to_wire).collect(),
            leaves: self.leaves.iter().map(Wire::to_wire).collect(),
            evidence: self.evidence.iter().map(Wire::to_wire).collect(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let evidence = list(wire.evidence, Evidence::from_wire)?;
        Ok(Self {
            round: RoundNumber(wire.round),
            parent: RoundSetHash::from_wire("RoundSet.parent", &wire.parent)?,
            base_root: StateRoot::from_wire("RoundSet.base_root", &wire.base_root)?,
            ledger_root: LedgerRoot::from_wire("RoundSet.ledger_root", &wire.ledger_root)?,
            contributions: by_signer(
                "RoundSet.contributions",
                Kind::Commitment,
                wire.contributions,
            )?,
            attestations: by_signer(
                "RoundSet.attestations",
                Kind::Attestation,
                wire.attestations,
            )?,
            leaves: by_signer("RoundSet.leaves", Kind::Leave, wire.leaves)?,
            evidence: rising("RoundSet.evidence", evidence, |e| e.first.signer)?,
        })
    }
}

/// Envelopes of one kind, strictly rising by signer.
fn by_signer(
    field: &'static str,
    kind: Kind,
    wire: Vec<wire::Envelope>,
) -> Result<Vec<Envelope>, DecodeError> {
    let envelopes = list(wire, |wire| {
        let envelope = Envelope::from_wire(wire)?;
        envelope.check_kind(kind)?;
        Ok(envelope)
    })?;
    rising(field, envelopes, |envelope| envelope.signer)
}

/// Two signed messages that contradict each other. Whether they do is for the rules to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The one with the smaller hash.
    pub first: Envelope,
    /// The other.
    pub second: Envelope,
}

impl Wire for Evidence {
    type Wire = wire::Evidence;
    const SHAPE: Shape = Shape {
        name: "evidence",
        most_bytes: 2 * limits::ENVELOPE_BYTES + 16,
        fields: &[one(1, &Envelope::SHAPE), one(2, &Envelope::SHAPE)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Evidence {
            first: Some(self.first.to_wire()),
            second: Some(self.second.to_wire()),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            first: Envelope::from_wire(required("Evidence.first", wire.first)?)?,
            second: Envelope::from_wire(required("Evidence.second", wire.second)?)?,
        })
    }
}
