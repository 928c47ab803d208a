//! What is measured of one round, and how much time it may take.

use std::time::Duration;

use weal_proto::Score;
use weal_trainer::Judge;

use super::job::JudgeJob;

/// The share of a round's training that measuring may cost, in parts per million.
const SHARE_PPM: u32 = 150_000;
/// The share that goes ahead of training, in parts per million. All that this node was drawn for
/// is meant to fit in.
pub(super) const AHEAD_PPM: u32 = 50_000;
/// In the shortest rounds, measuring goes ahead for as long.
const LEAST_AHEAD: Duration = Duration::from_millis(100);

/// A round's contributions that are being measured.
pub(super) struct Judging {
    pub job: JudgeJob,
    pub judge: Judge,
    pub scores: Vec<Score>,
    /// Time spent so far, the most to spend ahead of training, and the most to spend in all.
    pub spent: Duration,
    pub ahead: Duration,
    pub budget: Duration,
}

impl Judging {
    /// Starts to measure. `training` is what the last round's training took; zero if there was
    /// none yet, and then nothing limits the measuring.
    pub(super) fn new(job: JudgeJob, windows: usize, training: Duration) -> Self {
        let ahead = LEAST_AHEAD.max(training * AHEAD_PPM / 1_000_000);
        let budget = match training.is_zero() {
            true => Duration::MAX,
            false => ahead.max(training * SHARE_PPM / 1_000_000),
        };
        Self {
            judge: Judge::new(job.weights.values.clone(), rand::random(), windows),
            job,
            scores: Vec::new(),
            spent: Duration::ZERO,
            ahead,
            budget,
        }
    }

    /// Whether the next contribution goes ahead of training.
    pub(super) fn goes_first(&self) -> bool {
        self.spent < self.ahead
    }
}
