//! Who learns and who lies in a run.

use std::collections::BTreeMap;

use weal_proto::manifest::Manifest;

use super::dishonest::Dishonest;
use super::learning::{HashChain, Learning};
use super::liar::{Liar, Lie, Plot};
use super::nuisance::Nuisance;
use super::scenario::Scenario;

/// Who learns and who lies in a run.
pub struct Actors {
    /// What stands behind contributions and weights.
    pub learning: Box<dyn Learning>,
    /// The dishonest peers, by index. The audit holds nothing against them.
    pub dishonest: BTreeMap<usize, Box<dyn Dishonest>>,
    /// Changes the simulator's manifest to one that suits the learning.
    pub adjust: Box<dyn Fn(&mut Manifest)>,
}

impl Actors {
    /// No learning, and the liars that the scenario names.
    pub fn of(scenario: &Scenario) -> Self {
        let learning = HashChain::new(!scenario.seed, scenario.blob_bytes.clone());
        Self::learning(scenario, Box::new(learning))
    }

    /// This learning, and the liars that the scenario names.
    pub fn learning(scenario: &Scenario, learning: Box<dyn Learning>) -> Self {
        let liars = scenario.liars.iter();
        let plot = Plot::default();
        let dishonest = |(peer, lie, from): &(usize, Lie, u64)| -> (usize, Box<dyn Dishonest>) {
            if lie.is_provable() {
                (*peer, Box::new(Liar::new(*lie, *from, Plot::clone(&plot))))
            } else {
                (*peer, Box::new(Nuisance::new(*lie, *from)))
            }
        };
        Self {
            learning,
            dishonest: liars.map(dishonest).collect(),
            adjust: Box::new(|_| ()),
        }
    }
}
