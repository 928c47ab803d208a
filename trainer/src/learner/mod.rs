//! A peer's learner: trains on its assigned samples from a round's weights, and measures weights.

mod judge;
mod own;
mod report;
mod samples;
mod saved;
#[cfg(test)]
mod tests;
mod training;

pub use judge::{Candidate, Judge, Judgement, judging_windows};
pub use own::Sent;
pub use report::{Evaluation, Progress, Trained};
pub use samples::Samples;
pub use training::Learner;
