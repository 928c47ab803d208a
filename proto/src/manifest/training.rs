//! Training: the inner steps of each peer, compression, and the outer step.

use super::{NAME, NUMBERS_BYTES, PPM};
use crate::ids::RoundNumber;
use crate::limits;
use crate::schema::{message, numbered};

numbered! {
    /// The optimiser of the inner steps.
    pub enum Optimiser: i32 {
        /// AdamW for all parameters.
        AdamW = 1,
        /// Muon for the matrices within the blocks, AdamW for the rest.
        Muon = 2,
    }
}

numbered! {
    /// How the learning rate decays.
    pub enum Schedule: i32 {
        /// Along half a cosine, from the end of the warm-up.
        Cosine = 1,
        /// Warm-up, stable, decay: at the peak until `decay_start`, then as one minus the square
        /// root of the progress.
        Wsd = 2,
    }
}

message! {
    /// How each peer trains within a round.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Inner(NAME, NUMBERS_BYTES) {
        /// Steps per round (H).
        pub steps: u32 = 1,
        /// Sequences per step.
        pub batch: u32 = 2,
        /// Learning rate after the warm-up, in ppb.
        pub peak_learning_rate_ppb: u32 = 3,
        /// Steps of linear warm-up.
        pub warmup_steps: u32 = 4,
        /// Step at which the decay ends; 0 means no decay.
        pub decay_steps: u32 = 5,
        /// Learning rate after the decay, in ppm of the peak.
        pub final_rate_ppm: u32 = 6,
        /// AdamW's β₁.
        pub beta1_ppm: u32 = 7,
        /// AdamW's β₂.
        pub beta2_ppm: u32 = 8,
        /// Decoupled weight decay of matrices.
        pub weight_decay_ppm: u32 = 9,
        /// Gradients are clipped to this global norm.
        pub gradient_clip_ppm: u32 = 10,
        /// The optimiser of each step.
        pub optimiser: Optimiser = 11,
        /// Muon's momentum; 0 for AdamW.
        pub momentum_ppm: u32 = 12,
        /// How the learning rate decays.
        pub schedule: Schedule = 13,
        /// Step at which the decay begins; 0 for a cosine.
        pub decay_start: u32 = 14,
    }
}

message! {
    /// How a pseudo-gradient becomes a contribution.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Compression(NAME, NUMBERS_BYTES) {
        /// Version of the contribution codec.
        pub codec: u32 = 1,
        /// Consecutive values of a tensor in a chunk.
        pub chunk: u32 = 2,
        /// Values kept of a full chunk.
        pub keep: u32 = 3,
        /// Decay of the error feedback per round.
        pub decay_ppm: u32 = 4,
    }
}

numbered! {
    /// What divides the sum of the contributions.
    pub enum AggregationRule: i32 {
        /// Each coordinate is divided by the number of peers that sent it.
        MeanOfSenders = 1,
        /// Every coordinate is divided by the number of contributions.
        MeanOfAll = 2,
        /// Each coordinate is divided by the square root of the number of peers that sent it.
        RootOfSenders = 3,
    }
}

message! {
    /// How contributions change the weights.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Outer(NAME, limits::MANIFEST_BYTES) {
        /// What divides the sum of the contributions.
        pub rule: AggregationRule = 1,
        /// Outer learning rates, strictly rising by round. The first applies from round 0.
        pub rates: Vec<OuterRate> = 2[limits::OUTER_RATES],
        /// Factors for the rate by the number of contributions that are applied, strictly rising
        /// by number; 1 below the first.
        pub factors: Vec<CountFactor> = 3[limits::CONTRIBUTIONS],
    }
}

message! {
    /// What the outer learning rate is multiplied by, from a number of contributions on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CountFactor(NAME, NUMBERS_BYTES) {
        /// The fewest contributions with this factor.
        pub contributions: u32 = 1,
        /// The factor.
        pub factor_ppm: u32 = 2,
    }
}

message! {
    /// One step of the outer learning rate.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OuterRate(NAME, NUMBERS_BYTES) {
        /// The first round with this rate.
        pub from_round: u64 = 1,
        /// The outer learning rate.
        pub rate_ppm: u32 = 2,
    }
}

impl Outer {
    /// The outer learning rate of a round that applies this many contributions, in ppm: the
    /// round's rate times the factor of the number, cut off.
    pub fn rate_ppm(&self, round: RoundNumber, contributions: usize) -> u32 {
        let begun = |rate: &&OuterRate| rate.from_round <= round.0;
        let rate = self.rates.iter().take_while(begun).last();
        let enough = |factor: &&CountFactor| factor.contributions as usize <= contributions;
        let factor = self.factors.iter().take_while(enough).last();
        let [rate, factor] = [
            rate.map_or(PPM, |rate| rate.rate_ppm),
            factor.map_or(PPM, |factor| factor.factor_ppm),
        ]
        .map(u64::from);
        u32::try_from(rate.saturating_mul(factor) / u64::from(PPM)).unwrap_or(u32::MAX)
    }
}
