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
use crate::store::weights::{Durability, WeightFiles, Weights, WeightsId};

pub(super) struct CurrentWeights {
    /// `None` before there are any.
    newest: Option<Weights>,
    /// The newest that survive a power cut.
    synced: Option<RoundNumber>,
    files: WeightFiles,
    /// What is kept.
    keep: KeptWeights,
    /// Rounds whose weights are on disk.
    kept: Vec<RoundNumber>,
    /// The outlines of the files that were checked.
    checked: BTreeMap<RoundNumber, Arc<StateOutline>>,
}

/// Whether the weights of `round` must survive a power cut, `running` being the running round.
///
/// This node attests from those of the running round, and others fetch checkpoints. All others are
/// weights that this node passes while it catches up: their root is decided, and those that it
/// began from lead to them again.
pub(super) fn durability(round: RoundNumber, running: RoundNumber) -> Durability {
    if round >= running || retention::is_checkpoint(round) {
        Durability::Synced
    } else {
        Durability::Unsynced
    }
}

impl CurrentWeights {
    /// Starts from these weights, which must be on disk, or without any.
    pub(super) fn new(newest: Option<Weights>, files: WeightFiles, keep: KeptWeights) -> Self {
        let mut current = Self {
            newest: None,
            synced: None,
            files,
            keep,
            kept: Vec::new(),
            checked: BTreeMap::new(),
        };
        if let Some(newest) = newest {
            current.kept.push(newest.round);
            current.replace(newest, Durability::Synced);
        }
        current
    }

    /// The round that starts from the newest weights.
    pub(super) fn round(&self) -> Option<RoundNumber> {
        self.newest.as_ref().map(|newest| newest.round)
    }

    pub(super) fn newest(&self) -> Option<&Weights> {
        self.newest.as_ref()
    }

    /// The newest weights, if that round starts from them.
    pub(super) fn at(&self, round: RoundNumber) -> Option<Weights> {
        let newest = self.newest.as_ref();
        newest.filter(|newest| newest.round == round).cloned()
    }

    /// Switches to newer weights, which must be on disk.
    pub(super) fn replace(&mut self, weights: Weights, durability: Durability) {
        if durability == Durability::Synced {
            self.synced = Some(weights.round);
        }
        self.newest = Some(weights.clone());
        self.serve(weights);
    }

    /// These weights on disk were checked. If they are the newest, their file may be a new one.
    pub(super) fn serve(&mut self, weights: Weights) {
        self.checked.insert(weights.round, weights.outline.clone());
        let id = |weights: &Weights| (weights.round, weights.root);
        if self.newest.as_ref().map(id) == Some(id(&weights)) {
            self.newest = Some(weights);
        }
    }

    /// The weights of a round on disk are damaged.
    pub(super) fn stop_serving(&mut self, round: RoundNumber) {
        self.checked.remove(&round);
    }

    /// Deletes files that are not to be kept while `running` is the running round. Those that
    /// survive a power cut stay until newer ones do.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be deleted.
    pub(super) fn prune(&mut self, running: RoundNumber) -> Result<()> {
        let mut keep = self.keep;
        let behind = self
            .round()
            .map_or(0, |round| running.0.saturating_sub(round.0));
        if behind > keep.newest as u64 {
            // So old that nobody asks for them.
            keep.newest = 0;
        }
        self.kept = self.files.prune(keep, self.synced)?;
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

    fn layout() -> Layout {
        Layout::new(vec![TensorSpec::new("w", [8])]).unwrap()
    }

    fn store(files: &WeightFiles, round: u64) -> Weights {
        let stored = files.store(&layout(), RoundNumber(round), &[0.0; 8]);
        stored.unwrap()
    }

    fn served(weights: &CurrentWeights) -> Vec<u64> {
        weights.served().keys().map(|round| round.0).collect()
    }

    #[test]
    fn weights_are_given_for_their_round_only_and_old_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let files = WeightFiles::new(dir.path().to_owned());
        let keep = KeptWeights {
            newest: 2,
            checkpoints: 1,
        };
        let mut weights = CurrentWeights::new(Some(store(&files, 0)), files.clone(), keep);
        for round in 1..4 {
            weights.replace(store(&files, round), Durability::Synced);
        }
        assert_eq!(weights.round(), Some(RoundNumber(3)));
        assert!(weights.at(RoundNumber(3)).is_some());
        assert!(weights.at(RoundNumber(2)).is_none());
        weights.prune(RoundNumber(3)).unwrap();
        assert_eq!(served(&weights), [0, 2, 3]);
        assert_eq!(weights.oldest_checkpoint(), Some(RoundNumber(0)));
        let id = weights.served_from(&files.path(RoundNumber(2)), &layout());
        assert_eq!(id.map(|id| id.round), Some(RoundNumber(2)));
    }

    #[test]
    fn a_node_that_catches_up_keeps_what_survives_a_power_cut_and_little_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = WeightFiles::new(dir.path().to_owned());
        let keep = KeptWeights {
            newest: 4,
            checkpoints: 0,
        };
        let running = RoundNumber(50);
        let mut weights = CurrentWeights::new(None, files.clone(), keep);
        assert_eq!(weights.round(), None);
        let mut catch_up = |rounds: std::ops::RangeInclusive<u64>| {
            for round in rounds {
                let durability = durability(RoundNumber(round), running);
                weights.replace(store(&files, round), durability);
                weights.prune(running).unwrap();
            }
            served(&weights)
        };
        // Nothing but the checkpoint at the start is synced.
        assert_eq!(catch_up(32..=40), [32, 39, 40]);
        assert_eq!(catch_up(41..=49), [32, 46, 47, 48, 49]);
        assert_eq!(catch_up(50..=50), [47, 48, 49, 50]);
    }
}
