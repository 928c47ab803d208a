//! The weights that this node has: the newest in memory, and on disk those of the newest rounds.
//!
//! The core decides when weights change. It learns of a change by
//! [`Input::WeightsReady`](weal_coordinator_free::Input::WeightsReady) and asks for training and
//! for applying by round; both are refused here for any other round than that of the weights.

use weal_proto::RoundNumber;

use crate::error::Result;
use crate::store::weights::{WeightFiles, Weights};

pub(super) struct CurrentWeights {
    newest: Weights,
    files: WeightFiles,
    /// How many files are kept.
    keep: usize,
}

impl CurrentWeights {
    /// Starts from these weights, which must be on disk.
    pub(super) fn new(newest: Weights, files: WeightFiles, keep: u64) -> Self {
        Self {
            newest,
            files,
            keep: usize::try_from(keep).unwrap_or(usize::MAX),
        }
    }

    /// The round that starts from the newest weights.
    pub(super) fn round(&self) -> RoundNumber {
        self.newest.round
    }

    pub(super) fn newest(&self) -> &Weights {
        &self.newest
    }

    /// The newest weights, if that round starts from them.
    pub(super) fn at(&self, round: RoundNumber) -> Option<Weights> {
        (self.newest.round == round).then(|| self.newest.clone())
    }

    /// Switches to newer weights, which must be on disk.
    pub(super) fn replace(&mut self, weights: Weights) {
        self.newest = weights;
    }

    /// Deletes the oldest files. Returns the rounds whose weights are left.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be deleted.
    pub(super) fn prune(&self) -> Result<Vec<RoundNumber>> {
        self.files.prune(self.keep)?;
        self.files.rounds()
    }

    pub(super) fn files(&self) -> &WeightFiles {
        &self.files
    }
}

#[cfg(test)]
mod tests {
    use weal_kernels::{Layout, TensorSpec};

    use super::*;

    #[test]
    fn weights_are_given_for_their_round_only_and_old_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(vec![TensorSpec::new("w", [8])]).unwrap();
        let files = WeightFiles::new(dir.path().to_owned());
        let at = |round| {
            let stored = files.store(&layout, RoundNumber(round), &[0.0; 8]);
            stored.unwrap()
        };
        let mut weights = CurrentWeights::new(at(0), files.clone(), 2);
        for round in 1..4 {
            weights.replace(at(round));
        }
        assert_eq!(weights.round(), RoundNumber(3));
        assert!(weights.at(RoundNumber(3)).is_some());
        assert!(weights.at(RoundNumber(2)).is_none());
        assert_eq!(weights.prune().unwrap(), [RoundNumber(2), RoundNumber(3)]);
    }
}
