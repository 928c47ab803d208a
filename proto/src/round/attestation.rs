//! What a voter found of the contributions it heard of.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{EnvelopeHash, RoundNumber, StateRoot};
use crate::limits;
use crate::message::{Wire, list, rising};
use crate::shape::{self, Shape, id, plain};
use crate::wire;

/// What a voter found of one contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Here, and well formed in every respect.
    Valid = 0,
    /// Could not be fetched in time.
    Unavailable = 1,
    /// Longer than the manifest allows, or not as long as committed.
    WrongSize = 2,
    /// The header is not the commitment's.
    WrongHeader = 3,
    /// The body breaks the codec's rules.
    Malformed = 4,
    /// Values that are not finite, or a norm out of bounds.
    BadValues = 5,
    /// Trained from weights that are not the round's.
    WrongBase = 6,
}

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 7] = [
        Self::Valid,
        Self::Unavailable,
        Self::WrongSize,
        Self::WrongHeader,
        Self::Malformed,
        Self::BadValues,
        Self::WrongBase,
    ];

    fn from_number(number: u32) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|verdict| *verdict as u32 == number)
            .ok_or(DecodeError::UnknownValue {
                field: "Finding.verdict",
                value: i64::from(number),
            })
    }
}

/// A voter's verdict on one commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Hash of the commitment's envelope.
    pub commitment: EnvelopeHash,
    /// What was found.
    pub verdict: Verdict,
}

/// What one voter found of each commitment it heard of in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The round attested.
    pub round: RoundNumber,
    /// State root of the weights this voter holds at the round's start.
    pub base_root: StateRoot,
    /// Strictly rising by commitment.
    pub findings: Vec<Finding>,
}

impl Signable for Attestation {
    const KIND: Kind = Kind::Attestation;
}

const FINDING: Shape = Shape {
    name: "finding",
    most_bytes: 40,
    fields: &[id(1, "Finding.commitment"), plain(2)],
};

impl Wire for Attestation {
    type Wire = wire::Attestation;
    const SHAPE: Shape = Shape {
        name: "attestation",
        most_bytes: 64 + limits::FINDINGS * 40,
        fields: &[
            plain(1),
            id(2, "Attestation.base_root"),
            shape::list(3, "Attestation.findings", limits::FINDINGS, &FINDING),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        let finding = |f: &Finding| wire::Finding {
            commitment: f.commitment.to_wire(),
            verdict: f.verdict as u32,
        };
        wire::Attestation {
            round: self.round.0,
            base_root: self.base_root.to_wire(),
            findings: self.findings.iter().map(finding).collect(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let findings = list(wire.findings, |f| {
            Ok(Finding {
                commitment: EnvelopeHash::from_wire("Finding.commitment", &f.commitment)?,
                verdict: Verdict::from_number(f.verdict)?,
            })
        })?;
        Ok(Self {
            round: RoundNumber(wire.round),
            base_root: StateRoot::from_wire("Attestation.base_root", &wire.base_root)?,
            findings: rising("Attestation.findings", findings, |f| f.commitment)?,
        })
    }
}
