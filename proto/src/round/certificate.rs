//! Proofs made of many votes.

use super::vote::{optional_from_wire, optional_to_wire};
use super::{RoundSet, VoteStep};
use crate::envelope::{Kind, Signable, Signature};
use crate::error::DecodeError;
use crate::ids::{PeerId, RoundNumber, RoundSetHash, View};
use crate::limits;
use crate::message::{Wire, list, required, rising};
use crate::shape::{self, Shape, exact, id, one, plain};
use crate::wire;

/// One voter's precommit in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// The voter.
    pub peer: PeerId,
    /// The signature of its precommit's envelope.
    pub signature: Signature,
}

/// Proof that more than two thirds of the weight precommitted a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The round decided.
    pub round: RoundNumber,
    /// The attempt that decided it.
    pub view: View,
    /// The round set decided.
    pub value: RoundSetHash,
    /// Strictly rising by peer.
    pub signatures: Vec<CommitSignature>,
}

const COMMIT_SIGNATURE: Shape = Shape {
    name: "commit signature",
    most_bytes: 128,
    fields: &[
        id(1, "CommitSignature.peer"),
        exact(2, "CommitSignature.signature", 64),
    ],
};

impl Wire for Certificate {
    type Wire = wire::Certificate;
    const SHAPE: Shape = Shape {
        name: "certificate",
        most_bytes: limits::CERTIFICATE_BYTES,
        fields: &[
            plain(1),
            plain(2),
            id(3, "Certificate.value"),
            shape::list(
                4,
                "Certificate.signatures",
                limits::VOTERS,
                &COMMIT_SIGNATURE,
            ),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        let signature = |s: &CommitSignature| wire::CommitSignature {
            peer: s.peer.to_wire(),
            signature: s.signature.0.to_vec(),
        };
        wire::Certificate {
            round: self.round.0,
            view: self.view.0,
            value: self.value.to_wire(),
            signatures: self.signatures.iter().map(signature).collect(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let signatures = list(wire.signatures, |s| {
            Ok(CommitSignature {
                peer: PeerId::from_wire("CommitSignature.peer", &s.peer)?,
                signature: Signature::from_wire("CommitSignature.signature", &s.signature)?,
            })
        })?;
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            value: RoundSetHash::from_wire("Certificate.value", &wire.value)?,
            signatures: rising("Certificate.signatures", signatures, |s| s.peer)?,
        })
    }
}

/// One voter's vote in a [`ViewCertificate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSignature {
    /// The voter.
    pub peer: PeerId,
    /// Which of the two votes.
    pub step: VoteStep,
    /// What it voted for.
    pub value: Option<RoundSetHash>,
    /// The signature of the vote's envelope.
    pub signature: Signature,
}

/// Proof that voters moved on within a round: a polka (prevotes for one value), or a round
/// certificate of the engine (precommits of a view, or votes that skip to a later one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewCertificate {
    /// The round.
    pub round: RoundNumber,
    /// The attempt.
    pub view: View,
    /// True for a polka.
    pub polka: bool,
    /// The polka's value.
    pub value: Option<RoundSetHash>,
    /// Strictly rising by peer and step.
    pub signatures: Vec<ViewSignature>,
    /// True for a certificate of precommits, false for one that skips.
    pub precommits: bool,
}

impl Signable for ViewCertificate {
    const KIND: Kind = Kind::ViewCertificate;
}

const VIEW_SIGNATURE: Shape = Shape {
    name: "view signature",
    most_bytes: 160,
    fields: &[
        id(1, "ViewSignature.peer"),
        plain(2),
        plain(3),
        exact(4, "ViewSignature.signature", 64),
    ],
};

impl Wire for ViewCertificate {
    type Wire = wire::ViewCertificate;
    const SHAPE: Shape = Shape {
        name: "view certificate",
        most_bytes: limits::CERTIFICATE_BYTES,
        fields: &[
            plain(1),
            plain(2),
            plain(3),
            plain(4),
            shape::list(
                5,
                "ViewCertificate.signatures",
                limits::VOTERS,
                &VIEW_SIGNATURE,
            ),
            plain(6),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        let signature = |s: &ViewSignature| wire::ViewSignature {
            peer: s.peer.to_wire(),
            step: s.step.to_wire(),
            value: optional_to_wire(s.value),
            signature: s.signature.0.to_vec(),
        };
        wire::ViewCertificate {
            round: self.round.0,
            view: self.view.0,
            polka: self.polka,
            value: optional_to_wire(self.value),
            signatures: self.signatures.iter().map(signature).collect(),
            precommits: self.precommits,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let signatures = list(wire.signatures, |s| {
            Ok(ViewSignature {
                peer: PeerId::from_wire("ViewSignature.peer", &s.peer)?,
                step: VoteStep::from_wire("ViewSignature.step", s.step)?,
                value: optional_from_wire("ViewSignature.value", &s.value)?,
                signature: Signature::from_wire("ViewSignature.signature", &s.signature)?,
            })
        })?;
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            polka: wire.polka,
            value: optional_from_wire("ViewCertificate.value", &wire.value)?,
            signatures: rising("ViewCertificate.signatures", signatures, |s| {
                (s.peer, s.step)
            })?,
            precommits: wire.precommits,
        })
    }
}

/// A decided round with its proof: what a latecomer verifies, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub value: RoundSet,
    /// The proof.
    pub certificate: Certificate,
}

impl Wire for Decided {
    type Wire = wire::Decided;
    const SHAPE: Shape = Shape {
        name: "decided round",
        most_bytes: limits::DECIDED_BYTES,
        fields: &[one(1, &RoundSet::SHAPE), one(2, &Certificate::SHAPE)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Decided {
            value: Some(self.value.to_wire()),
            certificate: Some(self.certificate.to_wire()),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            value: RoundSet::from_wire(required("Decided.value", wire.value)?)?,
            certificate: Certificate::from_wire(required(
                "Decided.certificate",
                wire.certificate,
            )?)?,
        })
    }
}
