//! One peer's disk, and what may go wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use weal_proto::{BlobHash, ChainSnapshot, Decided, RoundNumber, StateRoot};

use crate::host::retention::{self, KeptWeights};
use crate::interface::output::Record;

/// What a node's store keeps, and how its disk behaves.
#[derive(Debug, Clone)]
pub struct Disks {
    /// How long a durable write takes, in milliseconds. The node does nothing else meanwhile.
    pub write_ms: RangeInclusive<u64>,
    /// The probability that a write fails, in parts per million. The node then ends, and is
    /// started again later.
    pub fails_ppm: u32,
    /// The probability that weights reach the disk, in parts per million.
    pub stores_weights_ppm: u32,
    /// The rounds for which a node keeps contributions.
    pub keep_contributions: u64,
    /// The weights that a node keeps.
    pub keep_weights: KeptWeights,
}

impl Disks {
    /// Disks that store everything at once, with the node's default settings.
    pub const fn good() -> Self {
        Self {
            write_ms: 0..=0,
            fails_ppm: 0,
            stores_weights_ppm: 1_000_000,
            keep_contributions: 64,
            keep_weights: KeptWeights {
                newest: 4,
                checkpoints: 2,
            },
        }
    }
}

/// Something that happens to one peer's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFault {
    /// The peer's index.
    pub peer: usize,
    /// It happens when some peer has decided this many rounds.
    pub in_round: u64,
    /// What happens.
    pub kind: DiskFaultKind,
}

/// What happens to a disk. The peer restarts soon afterwards, with its old key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFaultKind {
    /// It is replaced by an empty one.
    Lost,
    /// It is restored from a copy, made when some peer had decided this many rounds.
    RolledBack {
        /// The round of the copy.
        copied_in: u64,
    },
    /// It is full: the node cannot write, ends, and cannot start before this time has passed.
    Full {
        /// How long it stays full, in milliseconds.
        for_ms: u64,
    },
}

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    /// The node may begin the run at round 0 without having heard of it. An empty disk that
    /// replaces a lost one does not say so.
    pub may_begin: bool,
    pub decided: Vec<Decided>,
    /// What the decided rounds led to.
    pub snapshots: BTreeMap<RoundNumber, ChainSnapshot>,
    pub records: Vec<Record>,
    /// The weights on disk: the round that starts from them, and their root.
    pub weights: BTreeMap<RoundNumber, StateRoot>,
    /// The contributions on disk, and their rounds.
    pub blobs: BTreeMap<BlobHash, RoundNumber>,
    /// Contributions that are not served yet.
    pub hidden: BTreeSet<BlobHash>,
}

impl Disk {
    /// The disk of a node that takes part from the beginning.
    pub(super) fn of_the_beginning() -> Self {
        Self {
            may_begin: true,
            ..Self::default()
        }
    }

    pub(super) fn persist(&mut self, record: Record, rules: &Disks) {
        match record {
            Record::Decided(decided) => {
                let round = decided.value.round;
                self.decided.push(*decided);
                self.records.retain(|record| !is_log_up_to(record, round));
                let oldest =
                    retention::oldest_kept(round, rules.keep_contributions, self.checkpoint());
                self.blobs.retain(|_, of| *of >= oldest);
                self.show_decided();
            }
            Record::Snapshot(snapshot) => {
                self.snapshots.insert(snapshot.round, *snapshot);
                while self.snapshots.len() > retention::SNAPSHOTS {
                    self.snapshots.pop_first();
                }
            }
            record => self.records.push(record),
        }
    }

    pub(super) fn store_weights(&mut self, round: RoundNumber, root: StateRoot, rules: &Disks) {
        self.weights.insert(round, root);
        let stored: Vec<_> = self.weights.keys().copied().collect();
        for round in retention::surplus_weights(&stored, rules.keep_weights) {
            self.weights.remove(&round);
        }
    }

    /// The newest snapshot from which a node with the weights of a round can start.
    pub(super) fn starting_point(&self, weights: RoundNumber) -> Option<&ChainSnapshot> {
        let stored: Vec<_> = self.snapshots.keys().copied().collect();
        let decided = RoundNumber(self.decided.len() as u64);
        let points = retention::starting_points(&stored, weights, decided);
        self.snapshots.get(points.first()?)
    }

    /// The oldest checkpoint on disk.
    fn checkpoint(&self) -> Option<RoundNumber> {
        let mut stored = self.weights.keys().copied();
        stored.find(|round| retention::is_checkpoint(*round))
    }

    /// Stores the peer's own contribution, which nobody is served yet.
    pub(super) fn store_own_blob(&mut self, blob: BlobHash, round: RoundNumber) {
        self.blobs.insert(blob, round);
        self.hidden.insert(blob);
    }

    /// Whether a peer that asks for the blob gets it.
    pub(super) fn serves(&self, blob: &BlobHash) -> bool {
        self.blobs.contains_key(blob) && !self.hidden.contains(blob)
    }

    /// Contributions to decided rounds are public, whether the core has revealed them or not.
    fn show_decided(&mut self) {
        let decided = self.decided.len() as u64;
        let blobs = &self.blobs;
        self.hidden
            .retain(|blob| blobs.get(blob).is_some_and(|round| round.0 >= decided));
    }

    /// Loses what keeps the peer from contradicting itself in the running round.
    pub(super) fn lose_records(&mut self) {
        self.records.clear();
    }
}

fn is_log_up_to(record: &Record, last: RoundNumber) -> bool {
    matches!(record, Record::AgreementLog { round, .. } if *round <= last)
}
