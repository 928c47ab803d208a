//! One peer's part of the learning.

use std::collections::BTreeMap;

use weal_coordinator_free::sim::Random;
use weal_kernels::OwnWork;

use crate::craft::Craft;
use crate::learner::Learner;
use crate::scoring::Scoring;

/// One peer's part of the learning.
#[derive(Debug)]
pub(crate) struct Peer {
    /// How it makes its contributions.
    pub craft: Craft,
    /// How it reports what it measures.
    pub scoring: Scoring,
    /// Its optimiser and error feedback.
    pub learner: Learner,
    /// The body that it sent last.
    pub last: Option<Vec<u8>>,
    /// The documents that it says it trained on for it, by position.
    pub claims: Vec<u64>,
    /// What it learnt in recent rounds.
    pub work: BTreeMap<u64, OwnWork>,
    /// Its own chance.
    pub random: Random,
}

impl Peer {
    /// A peer that has not trained yet.
    pub(crate) fn new(craft: Craft, scoring: Scoring, seed: u64) -> Self {
        Self {
            craft,
            scoring,
            learner: Learner::new(),
            last: None,
            claims: Vec::new(),
            work: BTreeMap::new(),
            random: Random::new(seed),
        }
    }
}
