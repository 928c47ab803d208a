//! One peer: its disk, its core, its weights and blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{BlobHash, Decided, RoundNumber, SigningKey, StateRoot};

use super::liar::Liar;
use crate::core::{Config, Core, Recovered};
use crate::interface::error::Error;
use crate::interface::names::TimerId;
use crate::interface::output::{Apply, Record};
use crate::rules::signatures::CheckSignature;

/// What survives a crash.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub decided: Vec<Decided>,
    pub records: Vec<Record>,
    /// The newest weights on disk. A peer stores only some of those that it holds.
    pub checkpoint: Option<(RoundNumber, StateRoot)>,
    pub blobs: BTreeSet<BlobHash>,
}

/// One peer.
pub(super) struct Node {
    pub key: SigningKey,
    pub liar: Option<Liar>,
    pub disk: Disk,
    /// `None` while the peer is down or away.
    pub core: Option<Core>,
    /// Counts starts and stops. An answer to an earlier incarnation does not reach a later one.
    pub incarnation: u64,
    /// The timers that are set, each with the number of its event.
    pub timers: BTreeMap<TimerId, u64>,
    /// The weights in memory: the round that starts from them, and their root.
    pub weights: (RoundNumber, StateRoot),
    /// Blobs it serves.
    pub revealed: BTreeSet<BlobHash>,
    /// Counts trainings started and stopped. A stopped training ends without effect.
    pub trainings: u64,
}

impl Node {
    pub(super) fn new(key: SigningKey, liar: Option<Liar>) -> Self {
        Self {
            key,
            liar,
            disk: Disk::default(),
            core: None,
            incarnation: 0,
            timers: BTreeMap::new(),
            weights: (RoundNumber(0), genesis()),
            revealed: BTreeSet::new(),
            trainings: 0,
        }
    }

    /// Starts a core from what is on disk.
    pub(super) fn start(
        &mut self,
        manifest: &Arc<Manifest>,
        checker: Arc<dyn CheckSignature>,
    ) -> Result<(), Error> {
        self.weights = self.disk.checkpoint.unwrap_or((RoundNumber(0), genesis()));
        let recovered = Recovered::from_decided(
            Arc::clone(manifest),
            self.disk.decided.iter().cloned(),
            self.weights.0,
            self.disk.records.clone(),
        )?;
        self.core = Some(Core::new(
            Config {
                key: self.key.clone(),
                checker,
            },
            recovered,
        )?);
        self.incarnation += 1;
        Ok(())
    }

    /// Stops the core. Everything that is not on disk is lost.
    pub(super) fn stop(&mut self) {
        self.core = None;
        self.incarnation += 1;
        self.timers.clear();
        self.revealed.clear();
    }

    /// The number of decided rounds; `None` while the peer is down or away.
    pub(super) fn decided(&self) -> Option<u64> {
        self.core.as_ref().map(|_| self.disk.decided.len() as u64)
    }

    pub(super) fn persist(&mut self, record: Record) {
        match record {
            Record::Decided(decided) => {
                let round = decided.value.round;
                self.disk.decided.push(*decided);
                self.disk
                    .records
                    .retain(|record| !is_log_up_to(record, round));
            }
            record => self.disk.records.push(record),
        }
    }
}

fn is_log_up_to(record: &Record, last: RoundNumber) -> bool {
    matches!(record, Record::AgreementLog { round, .. } if *round <= last)
}

/// The state root of the initial weights.
fn genesis() -> StateRoot {
    blake3::derive_key("commonweal simulated weights v1", b"initial").into()
}

/// The state root after a decided round: the next link of a hash chain over applied
/// contributions.
pub(super) fn applied(root: StateRoot, apply: &Apply) -> StateRoot {
    if apply.contributions.is_empty() {
        return root;
    }
    let mut hasher = blake3::Hasher::new_derive_key("commonweal simulated weights v1");
    hasher
        .update(root.as_bytes())
        .update(&apply.outer_rate_ppm.to_le_bytes());
    for chosen in &apply.contributions {
        hasher
            .update(chosen.peer.as_bytes())
            .update(chosen.commitment.blob.as_bytes());
    }
    (*hasher.finalize().as_bytes()).into()
}
