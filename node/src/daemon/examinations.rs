//! The contributions that are being fetched and checked, by round, so that the jobs of a round end
//! with it.

use tokio::task::AbortHandle;
use weal_proto::RoundNumber;

/// Jobs that examine contributions.
#[derive(Debug, Default)]
pub(super) struct Examinations(Vec<(RoundNumber, AbortHandle)>);

impl Examinations {
    /// A job for a contribution to this round begins.
    pub(super) fn begin(&mut self, round: RoundNumber, job: AbortHandle) {
        self.0.retain(|(_, job)| !job.is_finished());
        self.0.push((round, job));
    }

    /// A round is decided: what it still fetches is of no use.
    pub(super) fn end(&mut self, round: RoundNumber) {
        for (_, job) in self.0.extract_if(.., |(of, _)| *of <= round) {
            job.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn the_jobs_of_a_round_end_with_it() {
        let (mut examinations, mut jobs) = (Examinations::default(), JoinSet::new());
        for round in [1, 2, 3] {
            let job = jobs.spawn(std::future::pending::<()>());
            examinations.begin(RoundNumber(round), job);
        }
        examinations.end(RoundNumber(2));
        for _ in [1, 2] {
            let ended = jobs.join_next().await.unwrap();
            assert!(ended.unwrap_err().is_cancelled());
        }
        assert_eq!(jobs.len(), 1);
    }
}
