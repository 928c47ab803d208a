//! The weights that this node has: the newest in memory, and on disk those of the newest rounds and
//! of checkpoints.
//!
//! The core decides when weights change. It learns of a change by
//! [`Input::WeightsReady`](weal_coordinator_free::Input::WeightsReady) and asks for training and
//! for applying by round; both are refused here for any other round than that of the weights.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use weal_coordinator_free::host::retention::{self, KeptWeights};
use weal_kernels::Layout;
use weal_kernels::state::StateOutline;
use weal_proto::RoundNumber;

use crate::error::Result;
use crate::store::weights::{WeightFiles, Weights, WeightsId};

pub(super) struct CurrentWeights {
    newest: Weights,
    files: WeightFiles,
    /// What is kept.
    keep: KeptWeights,
    /// Rounds whose weights are on disk.
    kept: Vec<RoundNumber>,
    /// The outlines of the files that were checked.
    checked: BTreeMap<RoundNumber, Arc<StateOutline>>,
}

impl CurrentWeights {
    /// Starts from these weights, which must be on disk.
    pub(super) fn new(newest: Weights, files: WeightFiles, keep: KeptWeights) -> Self {
        let checked = BTreeMap::from([(newest.round, newest.outline.clone())]);
        Self {
            kept: vec![newest.round],
            newest,
            files,
            keep,
            checked,
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
        self.serve(self.newest.clone());
    }

    /// These weights on disk were checked. If they are the newest, their file may be a new one.
    pub(super) fn serve(&mut self, weights: Weights) {
        self.checked.insert(weights.round, weights.outline.clone());
        if (weights.round, weights.root) == (self.newest.round, self.newest.root) {
            self.newest = weights;
        }
    }

    /// The weights of a round on disk are damaged.
    pub(super) fn stop_serving(&mut self, round: RoundNumber) {
        self.checked.remove(&round);
    }

    /// Deletes files that are not to be kept.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be deleted.
    pub(super) fn prune(&mut self) -> Result<()> {
        self.kept = self.files.prune(self.keep)?;
        self.checked.retain(|round, _| self.kept.contains(round));
        Ok(())
    }

    /// The weights from which peers are served.
    pub(super) fn served(&self) -> &BTreeMap<RoundNumber, Arc<StateOutline>> {
        &self.checked
    }

    /// The weights that are served from a file.
    pub(super) fn served_from(&self, file: &Path, layout: &Layout) -> Option<WeightsId> {
        let mut checked = self.checked.iter();
        let (round, outline) = checked.find(|(round, _)| self.files.path(**round) == file)?;
        Some(WeightsId {
            round: *round,
            root: outline.root(layout).ok()?.into(),
        })
    }

    /// The oldest checkpoint on disk.
    pub(super) fn oldest_checkpoint(&self) -> Option<RoundNumber> {
        let mut kept = self.kept.iter().copied();
        kept.find(|round| retention::is_checkpoint(*round))
    }

    pub(super) fn files(&self) -> &WeightFiles {
        &self.files
    }
}

#[cfg(test)]
mod tests {
    use weal_kernels::TensorSpec;

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
        let keep = KeptWeights {
            newest: 2,
            checkpoints: 1,
        };
        let mut weights = CurrentWeights::new(at(0), files.clone(), keep);
        for round in 1..4 {
            weights.replace(at(round));
        }
        assert_eq!(weights.round(), RoundNumber(3));
        assert!(weights.at(RoundNumber(3)).is_some());
        assert!(weights.at(RoundNumber(2)).is_none());
        weights.prune().unwrap();
        let served: Vec<_> = weights.served().keys().map(|round| round.0).collect();
        assert_eq!(served, [0, 2, 3]);
        assert_eq!(weights.oldest_checkpoint(), Some(RoundNumber(0)));
        let id = weights.served_from(&files.path(RoundNumber(2)), &layout);
        assert_eq!(id.map(|id| id.round), Some(RoundNumber(2)));
    }
}
