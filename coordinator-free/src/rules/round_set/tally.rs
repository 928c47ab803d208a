//! The weight behind base roots and commitments.

use std::collections::BTreeMap;

use weal_proto::{Attestation, EnvelopeHash, StateRoot, Verdict};

use crate::rules::roster::Roster;

/// Adds up the weight of attestations.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    roots: BTreeMap<StateRoot, u128>,
    /// A member that holds other weights examines contributions against those. So support counts
    /// per base root.
    support: BTreeMap<(StateRoot, EnvelopeHash), u128>,
}

impl Tally {
    /// Adds an attestation. Add at most one of each signer.
    pub(crate) fn add(&mut self, weight: u64, attestation: &Attestation) {
        if weight == 0 {
            return;
        }
        self.add_root(weight, attestation);
        let root = attestation.base_root;
        for finding in attestation
            .findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Valid)
        {
            add(
                self.support.entry((root, finding.commitment)).or_default(),
                weight,
            );
        }
    }

    /// Adds an attestation's base root, but none of its findings.
    pub(crate) fn add_root(&mut self, weight: u64, attestation: &Attestation) {
        add(self.roots.entry(attestation.base_root).or_default(), weight);
    }

    /// The base root that more than two thirds of the weight attest. There can be only one.
    pub(crate) fn agreed_root(&self, roster: &Roster) -> Option<StateRoot> {
        self.roots
            .iter()
            .find(|(_, weight)| roster.is_quorum(**weight))
            .map(|(root, _)| *root)
    }

    /// Whether more than two thirds of the weight attest this base root.
    pub(crate) fn agrees(&self, root: StateRoot, roster: &Roster) -> bool {
        self.roots
            .get(&root)
            .is_some_and(|weight| roster.is_quorum(*weight))
    }

    /// Whether more than two thirds of the weight attest both this base root and that the
    /// commitment's contribution is valid.
    pub(crate) fn supports(
        &self,
        root: StateRoot,
        commitment: EnvelopeHash,
        roster: &Roster,
    ) -> bool {
        self.support
            .get(&(root, commitment))
            .is_some_and(|weight| roster.is_quorum(*weight))
    }
}

fn add(sum: &mut u128, weight: u64) {
    *sum = sum.saturating_add(weight.into());
}
