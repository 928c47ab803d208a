//! The weight behind base roots and contributions.

use std::collections::BTreeMap;

use weal_proto::{PayloadHash, SlotId, StateRoot};

use crate::rules::roster::Roster;

/// Adds up the weight behind base roots.
#[derive(Debug, Default)]
pub(crate) struct Roots(BTreeMap<StateRoot, u128>);

impl Roots {
    /// Adds a vote. Add at most one of each signer.
    pub(crate) fn add(&mut self, weight: u64, root: StateRoot) {
        add(self.0.entry(root).or_default(), weight);
    }

    /// The base root that more than two thirds of the weight attest. There can be only one.
    pub(crate) fn agreed(&self, roster: &Roster) -> Option<StateRoot> {
        self.0
            .iter()
            .find(|(_, weight)| roster.is_quorum(**weight))
            .map(|(root, _)| *root)
    }
}

/// Adds up the weight of those that found contributions valid, starting from the agreed base root.
#[derive(Debug, Default)]
pub(crate) struct Support {
    total: u128,
    of: BTreeMap<(SlotId, PayloadHash), u128>,
}

impl Support {
    /// Adds an attestation of the agreed base root, with what it found valid.
    pub(crate) fn add(&mut self, weight: u64, list: &[(SlotId, PayloadHash)]) {
        add(&mut self.total, weight);
        for named in list {
            add(self.of.entry(*named).or_default(), weight);
        }
    }

    /// Whether more than two thirds of the weight were added.
    pub(crate) fn is_quorum(&self, roster: &Roster) -> bool {
        roster.is_quorum(self.total)
    }

    /// The contributions that more than half of all weight found valid, by rising place. There is
    /// at most one of each place.
    ///
    /// Half of *all* weight, not of what was added: whoever builds a set may leave out attestations
    /// of nearly a third, and must gain nothing by it.
    pub(crate) fn supported<'a>(
        &'a self,
        roster: &'a Roster,
    ) -> impl Iterator<Item = (SlotId, PayloadHash)> + 'a {
        self.of
            .iter()
            .filter(|(_, weight)| roster.is_majority(**weight))
            .map(|(named, _)| *named)
    }
}

fn add(sum: &mut u128, weight: u64) {
    *sum = sum.saturating_add(weight.into());
}
