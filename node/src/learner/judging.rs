//! What is measured of one round, and how much time it may take.

use std::time::Duration;

use weal_proto::Score;
use weal_trainer::Judge;

use super::job::JudgeJob;

/// The share of a round's time that measuring may take, in parts per million.
const SHARE_PPM: u32 = 150_000;
/// The share of a round's training that it takes ahead of training, in parts per million. All that
/// this node was drawn for is meant to fit in.
pub(super) const AHEAD_PPM: u32 = 50_000;
/// In the shortest rounds, measuring goes ahead for as long.
const LEAST_AHEAD: Duration = Duration::from_millis(100);

/// How long the last round was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastRound {
    /// What its training took; zero if there was none yet, and then nothing limits the measuring.
    pub training: Duration,
    /// The time from the start of its training to that of the next.
    pub whole: Duration,
}

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

impl LastRound {
    /// How long to measure ahead of training, and in all. A node that waits for slower ones has
    /// time to spare, and one on a busy machine may need it.
    fn time_to_measure(self) -> (Duration, Duration) {
        let Self { training, whole } = self;
        let ahead = LEAST_AHEAD.max(training * AHEAD_PPM / 1_000_000);
        let in_all = match training.is_zero() {
            true => Duration::MAX,
            false => ahead.max(training.max(whole) * SHARE_PPM / 1_000_000),
        };
        (ahead, in_all)
    }
}

impl Judging {
    /// Starts to measure.
    pub(super) fn new(job: JudgeJob, windows: usize, last: LastRound) -> Self {
        let (ahead, budget) = last.time_to_measure();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_waits_for_others_has_more_time_to_measure_but_not_ahead_of_training() {
        let seconds = Duration::from_secs;
        let times = |training, whole| {
            let last = LastRound {
                training: seconds(training),
                whole: seconds(whole),
            };
            last.time_to_measure()
        };
        assert_eq!(times(100, 100), (seconds(5), seconds(15)));
        assert_eq!(times(100, 400), (seconds(5), seconds(60)));
        assert_eq!(times(0, 400), (LEAST_AHEAD, Duration::MAX));
    }
}
