//! What a voter found when it examined the contributions of a round.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{EnvelopeHash, RoundNumber, StateRoot};
use crate::limits;
use crate::message::Standalone;
use crate::schema::{message, numbered, rising};

numbered! {
    /// The result of examining one contribution.
    pub enum Verdict: u32 {
        /// The contribution is here and valid.
        Valid = 0,
        /// It could not be fetched in time.
        Unavailable = 1,
        /// It is longer than the manifest allows, or not as long as committed.
        WrongSize = 2,
        /// Its header does not match the commitment.
        WrongHeader = 3,
        /// Its body violates the codec.
        Malformed = 4,
        /// It holds values that are not finite, or its norm is out of bounds.
        BadValues = 5,
        /// It was trained from weights other than the round's.
        WrongBase = 6,
    }
}

message! {
    /// A voter's verdict on one commitment.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Finding("finding", limits::FINDING_BYTES) {
        /// Hash of the commitment's envelope.
        pub commitment: EnvelopeHash = 1,
        /// Result of the examination.
        pub verdict: Verdict = 2,
    }
}

message! {
    /// A voter's verdicts on the commitments that it received in time.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Attestation("attestation", limits::ATTESTATION_BYTES, sorted) {
        /// The round attested.
        pub round: RoundNumber = 1,
        /// State root of the voter's weights at the start of the round.
        pub base_root: StateRoot = 2,
        /// Strictly rising by commitment.
        pub findings: Vec<Finding> = 3[limits::FINDINGS],
    }
}

fn sorted(attestation: &Attestation) -> Result<(), DecodeError> {
    rising("Attestation.findings", &attestation.findings, |finding| {
        finding.commitment
    })
}

impl Standalone for Attestation {}

impl Signable for Attestation {
    const KIND: Kind = Kind::Attestation;
}
