//! AdamW's moments in eight bits each, for machines with little memory: 2.03 bytes a parameter
//! where f32 takes eight.
//!
//! Each block of 256 values has a scale, its largest magnitude (Dettmers et al., 2021,
//! <https://arxiv.org/abs/2110.02861>). A first moment is kept as the square root of its share of
//! the scale, in 127 steps and a sign; a second moment as the fourth root, in 255 steps. So small
//! values next to large ones keep a few bits, and no second moment becomes zero beside a first
//! moment that does not: their quotient would be huge.
//!
//! A moment changes by little in each step, often by less than a step of its code. Rounding to the
//! nearest would lose such a change every time, so the rounding is random, and right on average.
//! The random numbers follow from a seed and the place, so that the result does not depend on
//! threads.
//!
//! Weights are updated by the new moments before these are rounded. Nothing that peers agree on
//! depends on it.

mod adamw;
mod codes;
mod moments;
#[cfg(test)]
mod tests;

pub use adamw::adamw;
pub use moments::Moments8;
