//! A peer's learner: trains on its assigned samples from a round's weights, and measures weights.

mod report;
mod samples;
#[cfg(test)]
mod tests;
mod training;

pub use report::{Evaluation, Progress, Trained};
pub use samples::Samples;
pub use training::Learner;
