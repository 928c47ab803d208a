//! Scripts: exact situations, step by step.
//!
//! A [`Script`] runs beside the scenario's own faults. Its steps come one after another: it waits
//! until something is true, does something at that very moment (even between two outputs of one
//! step of a core), and expects things.
//!
//! ```
//! use weal_coordinator_free::sim::{Scenario, Script, Until, run};
//! use weal_proto::Kind;
//!
//! // Peer 2 loses its log after it has signed its attestation of round 3. It comes back, and
//! // follows the others.
//! let script = Script::new()
//!     .when(Until::signed(2, Kind::Attestation, 3))
//!     .stop(2)
//!     .lose_records(2)
//!     .start(2)
//!     .expect_within(120_000, Until::decided(2, 6));
//! run(&Scenario { script, rounds: 6, ..Scenario::calm(1, 4) })?;
//! # Ok::<(), weal_coordinator_free::sim::Violation>(())
//! ```

use std::collections::{BTreeSet, VecDeque};

use weal_proto::{Kind, RoundNumber};

use crate::interface::time::Millis;

/// Something that becomes true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// This much virtual time has passed since the run began, in milliseconds.
    Time(u64),
    /// A peer has stored a message of its own on its disk, and not yet sent it.
    Stored(usize, Kind, RoundNumber),
    /// A peer has signed and sent a message.
    Signed(usize, Kind, RoundNumber),
    /// A peer has decided this many rounds.
    Decided(usize, u64),
    /// Some honest peer has decided this many rounds.
    AnyDecided(u64),
    /// A peer is up and has weights to train from.
    Trains(usize),
}

impl Until {
    /// This peer has signed a message of this kind in this round, and sent it.
    pub const fn signed(peer: usize, kind: Kind, round: u64) -> Self {
        Self::Signed(peer, kind, RoundNumber(round))
    }

    /// This peer has stored its message of this kind in this round, and not yet sent it.
    pub const fn stored(peer: usize, kind: Kind, round: u64) -> Self {
        Self::Stored(peer, kind, RoundNumber(round))
    }

    /// This peer has decided this many rounds.
    pub const fn decided(peer: usize, rounds: u64) -> Self {
        Self::Decided(peer, rounds)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Wait(Until),
    Expect { within_ms: u64, what: Until },
    Refuse { for_ms: u64, what: Until },
    Act(Act),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Stop(usize),
    Start(usize),
    Retire(usize),
    LoseRecords(usize),
    LoseDisk(usize),
    CopyDisk(usize),
    RestoreDisk(usize),
    Leave(usize),
    Cut(Vec<usize>, u64),
    Silence(usize, usize, u64),
    Eclipse(usize, Vec<usize>, u64),
}

/// Steps that are taken one after another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script {
    steps: VecDeque<Step>,
    taken: usize,
    /// The time until which the current step may wait.
    deadline: Option<Millis>,
    pub(super) signed: BTreeSet<(usize, Kind, RoundNumber)>,
    pub(super) stored: BTreeSet<(usize, Kind, RoundNumber)>,
}

impl Script {
    /// A script without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until this is true.
    #[must_use]
    pub fn when(self, what: Until) -> Self {
        self.step(Step::Wait(what))
    }

    /// Fails the run unless this becomes true within some milliseconds.
    #[must_use]
    pub fn expect_within(self, within_ms: u64, what: Until) -> Self {
        self.step(Step::Expect { within_ms, what })
    }

    /// Fails the run if this becomes true within some milliseconds.
    #[must_use]
    pub fn refuse_for(self, for_ms: u64, what: Until) -> Self {
        self.step(Step::Refuse { for_ms, what })
    }

    /// Stops a peer, as a power cut does.
    #[must_use]
    pub fn stop(self, peer: usize) -> Self {
        self.step(Step::Act(Act::Stop(peer)))
    }

    /// Stops these peers at the same instant.
    #[must_use]
    pub fn stop_all(self, peers: impl IntoIterator<Item = usize>) -> Self {
        peers.into_iter().fold(self, Self::stop)
    }

    /// Starts a peer from what is on its disk.
    #[must_use]
    pub fn start(self, peer: usize) -> Self {
        self.step(Step::Act(Act::Start(peer)))
    }

    /// Starts these peers at the same instant.
    #[must_use]
    pub fn start_all(self, peers: impl IntoIterator<Item = usize>) -> Self {
        peers.into_iter().fold(self, Self::start)
    }

    /// Stops a peer for ever.
    #[must_use]
    pub fn retire(self, peer: usize) -> Self {
        self.step(Step::Act(Act::Retire(peer)))
    }

    /// Loses a stopped peer's records of the running round, which keep it from contradicting
    /// itself.
    #[must_use]
    pub fn lose_records(self, peer: usize) -> Self {
        self.step(Step::Act(Act::LoseRecords(peer)))
    }

    /// Replaces a stopped peer's disk by an empty one.
    #[must_use]
    pub fn lose_disk(self, peer: usize) -> Self {
        self.step(Step::Act(Act::LoseDisk(peer)))
    }

    /// Copies a peer's disk, for [`Script::restore_disk`].
    #[must_use]
    pub fn copy_disk(self, peer: usize) -> Self {
        self.step(Step::Act(Act::CopyDisk(peer)))
    }

    /// Rolls a stopped peer's disk back to the copy.
    #[must_use]
    pub fn restore_disk(self, peer: usize) -> Self {
        self.step(Step::Act(Act::RestoreDisk(peer)))
    }

    /// A peer announces that it leaves.
    #[must_use]
    pub fn leave(self, peer: usize) -> Self {
        self.step(Step::Act(Act::Leave(peer)))
    }

    /// Cuts peers off from all others for some milliseconds.
    #[must_use]
    pub fn cut(self, peers: &[usize], for_ms: u64) -> Self {
        self.step(Step::Act(Act::Cut(peers.to_vec(), for_ms)))
    }

    /// Swallows what one peer sends to another for some milliseconds.
    #[must_use]
    pub fn silence(self, from: usize, to: usize, for_ms: u64) -> Self {
        self.step(Step::Act(Act::Silence(from, to, for_ms)))
    }

    /// Leaves a peer connected to these only for some milliseconds.
    #[must_use]
    pub fn eclipse(self, victim: usize, by: &[usize], for_ms: u64) -> Self {
        self.step(Step::Act(Act::Eclipse(victim, by.to_vec(), for_ms)))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// Whether no step is left.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The step that the script is at.
    pub(super) fn current(&self) -> Option<Step> {
        self.steps.front().cloned()
    }

    pub(super) fn next(&mut self) {
        self.steps.pop_front();
        self.taken += 1;
        self.deadline = None;
    }

    /// The first time that the current step is looked at sets its deadline.
    pub(super) fn is_over(&mut self, now: Millis, after_ms: u64) -> bool {
        now >= *self.deadline.get_or_insert(now.after(after_ms))
    }

    /// The number of steps taken.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }
}
