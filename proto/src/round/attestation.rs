//! What a member found when it examined the contributions of a round.

use super::places::{ListHash, PlaceSet};
use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{RoundNumber, SlotId, StateRoot};
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
        /// It is another peer's contribution, or nearly so.
        Copy = 7,
        /// It changes nothing.
        Empty = 8,
        /// It points elsewhere than most contributions of the round.
        Disagrees = 9,
        /// Its peer committed to two contributions.
        Contradicted = 10,
    }
}

message! {
    /// Why a contribution was not found valid.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Refusal("refusal", limits::REFUSAL_BYTES) {
        /// The contributor's place.
        pub slot: SlotId = 1,
        /// What is wrong; never [`Verdict::Valid`].
        pub verdict: Verdict = 2,
    }
}

message! {
    /// What a contribution of the round before did to the loss, as one voter measured it. In parts
    /// per million of the loss without it; positive is better.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Score("score", limits::SCORE_BYTES) {
        /// The contributor's place in its round.
        pub slot: SlotId = 1,
        /// On samples that the contributor claims to have trained on.
        pub own_ppm: i32 = 2,
        /// On held-out samples.
        pub held_ppm: i32 = 3,
    }
}

message! {
    /// What a member found when it examined the contributions of a round.
    ///
    /// It names contributions by place. Its `list` binds the names to the commitments that the
    /// member examined: see [`ListHash::of`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Attestation("attestation", limits::ATTESTATION_BYTES, check) {
        /// The round attested.
        pub round: RoundNumber = 1,
        /// State root of the member's weights at the start of the round.
        pub base_root: StateRoot = 2,
        /// The places whose contributions are here and valid.
        pub valid: PlaceSet = 3,
        /// Hash of the list of these places with their commitments.
        pub list: ListHash = 4,
        /// Contributions that are not valid, strictly rising by place.
        pub refused: Vec<Refusal> = 5[limits::SLOTS],
        /// A member attests again if voters cannot agree on the base root of one attempt.
        pub attempt: u32 = 6,
        /// Of the round before: at most one of each contribution, strictly rising by place.
        pub scores: Vec<Score> = 7[limits::SLOTS],
    }
}

fn check(attestation: &Attestation) -> Result<(), DecodeError> {
    rising("Attestation.refused", &attestation.refused, |refusal| {
        refusal.slot
    })?;
    let contradictory = attestation.refused.iter().find(|refusal| {
        refusal.verdict == Verdict::Valid || attestation.valid.contains(refusal.slot)
    });
    if let Some(refusal) = contradictory {
        return Err(DecodeError::UnknownValue {
            field: "Attestation.refused",
            value: i64::from(refusal.verdict as u32),
        });
    }
    rising("Attestation.scores", &attestation.scores, |score| {
        score.slot
    })
}

impl Standalone for Attestation {}

impl Signable for Attestation {
    const KIND: Kind = Kind::Attestation;
}
