//! One peer: its disk, its core, its weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{BlobHash, RoundNumber, SigningKey, StateRoot};

use super::clock::Clock;
use super::dishonest::{Audience, Dishonest};
use super::disk::{Disk, Disks};
use super::network::SeenMessages;
use crate::core::{Config, Core, Recovered};
use crate::host::Timers;
use crate::interface::error::Error;
use crate::interface::input::Input;
use crate::interface::output::Record;
use crate::interface::time::Millis;
use crate::interface::view::Phase;
use crate::rules::chain::Chain;
use crate::rules::signatures::CheckSignature;
use crate::rules::verified::Verified;

/// One peer.
pub(super) struct Node {
    pub key: SigningKey,
    /// How it lies, if it is dishonest.
    pub liar: Option<Box<dyn Dishonest>>,
    pub disk: Disk,
    /// A copy of the disk, to be restored later.
    pub copy: Option<Disk>,
    /// The disk is full until then.
    pub disk_full_until: Millis,
    /// `None` while the peer is down or away.
    pub core: Option<Core>,
    pub clock: Clock,
    /// Counts starts and stops. An answer to an earlier incarnation does not reach a later one.
    pub incarnation: u64,
    pub timers: Timers,
    /// The virtual time of the next event that looks at the timers.
    pub wakes_at: Option<Millis>,
    /// The peer writes to its disk until then, and takes no input.
    pub busy_until: Millis,
    /// The weights in memory: the round that starts from them, and their root.
    pub weights: (RoundNumber, StateRoot),
    /// Whom a dishonest peer serves its own blobs.
    pub audiences: BTreeMap<BlobHash, Audience>,
    /// The initial weights' state root.
    initial: StateRoot,
    /// Blobs on their way to this peer, and when they arrive.
    pub transfers: BTreeMap<BlobHash, Millis>,
    /// The gossip filter.
    pub seen: SeenMessages,
    /// Counts trainings started and stopped. A stopped training ends without effect.
    pub trainings: u64,
    /// The phase that the core last reported, and its round.
    pub phase: (RoundNumber, Phase),
    /// The peer is never started again: nobody waits for it.
    pub is_gone: bool,
}

impl Node {
    pub(super) fn new(
        key: SigningKey,
        liar: Option<Box<dyn Dishonest>>,
        initial: StateRoot,
    ) -> Self {
        Self {
            key,
            liar,
            disk: Disk::of_the_beginning(),
            copy: None,
            disk_full_until: Millis(0),
            core: None,
            clock: Clock::default(),
            incarnation: 0,
            timers: Timers::default(),
            wakes_at: None,
            busy_until: Millis(0),
            weights: (RoundNumber(0), initial),
            audiences: BTreeMap::new(),
            initial,
            transfers: BTreeMap::new(),
            seen: SeenMessages::default(),
            trainings: 0,
            phase: (RoundNumber(0), Phase::Waiting),
            is_gone: false,
        }
    }

    /// Starts a core from what is on disk.
    pub(super) fn start(
        &mut self,
        manifest: &Arc<Manifest>,
        checker: Arc<dyn CheckSignature>,
        clock: Clock,
    ) -> Result<(), Error> {
        let newest = self.disk.weights.last_key_value();
        let initial = (RoundNumber(0), self.initial);
        self.weights = newest.map_or(initial, |(round, root)| (*round, *root));
        let snapshot = self.disk.starting_point(self.weights.0);
        let start = match snapshot {
            Some(snapshot) => Chain::restore(Arc::clone(manifest), snapshot)?,
            None => Chain::genesis(Arc::clone(manifest)),
        };
        let first = usize::try_from(start.round().0).unwrap_or(usize::MAX);
        let mut recovered = Recovered::from_decided(
            start,
            self.disk.decided.iter().skip(first).cloned(),
            self.weights.0,
            self.disk.records.clone(),
        )?;
        recovered.genesis = self.disk.may_begin;
        let config = Config {
            key: self.key.clone(),
            checker,
        };
        self.core = Some(Core::new(config, recovered)?);
        self.clock = clock;
        self.incarnation += 1;
        Ok(())
    }

    /// Whether the core holds what all decided rounds lead to, wherever it started from.
    pub(super) fn knows_its_history(&self, manifest: &Arc<Manifest>) -> bool {
        let mut whole = Chain::genesis(Arc::clone(manifest));
        let decided = self.disk.decided.iter().cloned();
        decided
            .map(Verified::from_own_disk)
            .all(|decided| whole.extend(&decided).is_ok())
            && self
                .core
                .as_ref()
                .is_none_or(|core| core.chain().snapshot() == whole.snapshot())
    }

    /// What the core hears of the weights after a start.
    pub(super) fn weights_at_start(&self) -> Input {
        let (round, root) = self.weights;
        match self.disk.weights.is_empty() {
            true => Input::NoWeights,
            false => Input::WeightsReady { round, root },
        }
    }

    /// Stops the core. Everything that is not on disk is lost.
    pub(super) fn stop(&mut self) {
        self.core = None;
        self.incarnation += 1;
        self.timers = Timers::default();
        self.wakes_at = None;
        self.busy_until = Millis(0);
        self.transfers.clear();
        self.seen = SeenMessages::default();
        self.phase = (RoundNumber(0), Phase::Waiting);
    }

    /// Whether it serves the blob to the peer with the index `to`.
    pub(super) fn serves(&self, blob: &BlobHash, to: usize) -> bool {
        let refused = |audience: &Audience| !audience.holds(to);
        self.disk.serves(blob) && !self.audiences.get(blob).is_some_and(refused)
    }

    pub(super) const fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub(super) const fn is_honest(&self) -> bool {
        self.liar.is_none()
    }

    /// What the peer waits for.
    pub(super) fn describe(&self) -> String {
        let lies = if self.is_honest() { "" } else { "lies; " };
        let core = self.core.as_ref();
        let waits = core.map_or_else(|| "down or away".to_owned(), Core::describe);
        format!("{lies}{waits}")
    }

    pub(super) fn persist(&mut self, record: Record, rules: &Disks) {
        self.disk.persist(record, rules);
    }
}
