//! A run's only founder, which decides round after round without training: long histories for
//! tests.

use std::sync::Arc;

use weal_coordinator_free::host::Timers;
use weal_coordinator_free::{Config, Core, Input, Millis, Output, Record, Recovered};
use weal_proto::{Manifest, SigningKey, StateRoot};

/// A run's only founder. Nobody contributes, so the weights stay as they are.
pub(crate) struct LoneFounder {
    core: Core,
    timers: Timers,
    now: Millis,
    root: StateRoot,
}

impl LoneFounder {
    /// The founder of a run whose weights have this state root, before its round 0.
    pub(crate) fn new(manifest: &Manifest, key: &SigningKey, root: StateRoot) -> Self {
        let recovered = Recovered::nothing(Arc::new(manifest.clone()));
        let mut founder = Self {
            core: Core::new(Config::new(key.clone()), recovered).unwrap(),
            timers: Timers::default(),
            now: Millis(0),
            root,
        };
        founder.step(Input::Start);
        founder
    }

    /// The core.
    pub(crate) const fn core(&self) -> &Core {
        &self.core
    }

    /// Decides rounds until there are this many. Returns what a node stores of them.
    pub(crate) fn decide_until(&mut self, rounds: u64) -> Vec<Record> {
        let mut records = Vec::new();
        while self.core.chain().round().0 < rounds {
            let round = self.core.chain().round();
            let root = self.root;
            records.extend(self.step(Input::WeightsReady { round, root }));
            records.extend(self.step(Input::TrainingFailed { round }));
            while self.core.chain().round() == round {
                self.now = self.timers.next().unwrap();
                let timer = self.timers.pop_due(self.now).unwrap();
                records.extend(self.step(Input::TimerFired(timer)));
            }
        }
        let lasting = |record: &Record| matches!(record, Record::Decided(_) | Record::Snapshot(_));
        records.retain(lasting);
        records
    }

    fn step(&mut self, input: Input) -> Vec<Record> {
        let mut records = Vec::new();
        for output in self.core.step(self.now, input) {
            match output {
                Output::SetTimer { id, at } => self.timers.set(id, at),
                Output::CancelTimer { id } => self.timers.cancel(id),
                Output::Persist(record) => records.push(record),
                _ => {}
            }
        }
        records
    }
}
