//! Stored weights that are to be checked, one after the other.

use std::collections::VecDeque;

use weal_proto::RoundNumber;

use crate::error::Result;
use crate::store::Store;
use crate::store::weights::{WeightFiles, WeightsId};

#[derive(Debug, Default)]
pub(super) struct UncheckedWeights {
    waiting: VecDeque<WeightsId>,
    running: Option<WeightsId>,
}

impl UncheckedWeights {
    /// All weights in the folder whose root is decided, but for those of a round that was checked.
    /// The newest come first.
    ///
    /// # Errors
    /// When folder or store cannot be read.
    pub(super) fn of(
        files: &WeightFiles,
        store: &Store,
        checked: Option<RoundNumber>,
    ) -> Result<Self> {
        let mut unchecked = Self::default();
        let rounds = files.rounds()?.into_iter().rev();
        for round in rounds.filter(|round| Some(*round) != checked) {
            if let Some(root) = store.decided_root(round)? {
                unchecked.add(WeightsId { round, root });
            }
        }
        Ok(unchecked)
    }

    /// Adds weights, unless they wait already or are being checked.
    pub(super) fn add(&mut self, id: WeightsId) {
        if self.running != Some(id) && !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
    }

    /// The weights to check now.
    pub(super) fn start(&mut self) -> Option<WeightsId> {
        self.running = self.waiting.pop_front();
        self.running
    }

    /// The check that was started is done.
    pub(super) fn finished(&mut self) {
        self.running = None;
    }

    /// The check that was started, if one was, was ended before its time.
    pub(super) fn interrupted(&mut self) {
        self.waiting.extend(self.running.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(round: u64) -> WeightsId {
        WeightsId {
            round: RoundNumber(round),
            root: [round as u8; 32].into(),
        }
    }

    #[test]
    fn weights_are_checked_in_turn_and_again_after_an_interruption() {
        let mut unchecked = UncheckedWeights::default();
        for round in [3, 2, 3] {
            unchecked.add(id(round));
        }
        assert_eq!(unchecked.start(), Some(id(3)));
        unchecked.add(id(3));
        unchecked.interrupted();
        assert_eq!(unchecked.start(), Some(id(2)));
        unchecked.finished();
        unchecked.interrupted();
        assert_eq!([unchecked.start(), unchecked.start()], [Some(id(3)), None]);
    }
}
