//! Peers that come and go, and disks that fail.

use super::disk::{Disk, DiskFaultKind};
use super::event::{Event, Local};
use super::node::Node;
use super::scenario::Absence;
use super::world::World;
use crate::interface::input::Input;

/// How long a peer that has announced that it leaves stays up, in milliseconds.
const LEAVES_AFTER_MS: u64 = 1_000;

impl World {
    /// Whether chance stops the peer before it carries out its next output.
    pub(super) fn crashes(&mut self, peer: usize) -> bool {
        let crashes = self.scenario.crash_ppm > 0
            && self.random.chance(self.scenario.crash_ppm)
            && self.may_go_down();
        if crashes {
            self.outcome.crashes += 1;
            self.restart_later(peer);
        }
        crashes
    }

    /// Whether the peer's next write fails. The node then ends, as the daemon does.
    pub(super) fn write_fails(&mut self, peer: usize) -> bool {
        let is_full = self.now < self.nodes[peer].disk_full_until;
        let fails = self.scenario.disks.fails_ppm > 0
            && self.random.chance(self.scenario.disks.fails_ppm)
            && self.may_go_down();
        if is_full || fails {
            self.outcome.failed_writes += 1;
            self.restart_later(peer);
        }
        is_full || fails
    }

    fn may_go_down(&self) -> bool {
        let is_down = |node: &&Node| !node.is_up() && node.incarnation > 0;
        self.nodes.iter().filter(is_down).count() < self.scenario.most_down
    }

    fn restart_later(&mut self, peer: usize) {
        self.nodes[peer].stop();
        let down = self.scenario.down_ms.clone();
        let delay = self.random.within(&down);
        let full_for = self.nodes[peer].disk_full_until.since(self.now);
        self.schedule(delay + full_for, Event::Start { peer });
    }

    /// Some peer has decided this many rounds: what is due happens.
    pub(super) fn come_and_go(&mut self, decided: u64) {
        self.join_and_leave(decided);
        self.fail_disks(decided);
        self.lose_power(decided);
    }

    fn join_and_leave(&mut self, decided: u64) {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.scenario.absences)
            .into_iter()
            .partition(|a| decided >= a.leaves_in.unwrap_or(a.joins_at));
        self.scenario.absences = later;
        for absence in due {
            let peer = absence.peer;
            if absence.leaves_in.is_some() {
                self.scenario.absences.push(Absence {
                    leaves_in: None,
                    ..absence
                });
                self.announce_leave(peer);
                self.schedule(LEAVES_AFTER_MS, Event::Stop { peer });
            } else {
                self.schedule(0, Event::Start { peer });
            }
        }
    }

    pub(super) fn announce_leave(&mut self, peer: usize) {
        self.schedule_local(peer, 0, Local::Answer(Input::Leave));
    }

    fn fail_disks(&mut self, decided: u64) {
        for fault in &self.scenario.disk_faults {
            if let DiskFaultKind::RolledBack { copied_in } = fault.kind
                && copied_in == decided
            {
                let node = &mut self.nodes[fault.peer];
                node.copy = Some(node.disk.clone());
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.scenario.disk_faults)
            .into_iter()
            .partition(|fault| decided >= fault.in_round);
        self.scenario.disk_faults = later;
        for fault in due {
            let peer = fault.peer;
            match fault.kind {
                DiskFaultKind::Lost => {
                    self.nodes[peer].disk = Disk::default();
                    self.audit.forgets(peer);
                }
                DiskFaultKind::RolledBack { .. } => self.roll_back(peer),
                DiskFaultKind::Full { for_ms } => {
                    self.nodes[peer].disk_full_until = self.now.after(for_ms);
                }
            }
            self.restart_later(peer);
        }
    }

    /// Restores a peer's disk from its copy, if there is one.
    pub(super) fn roll_back(&mut self, peer: usize) {
        if let Some(copy) = self.nodes[peer].copy.take() {
            self.nodes[peer].disk = copy;
            self.audit.forgets(peer);
        }
    }

    /// Everybody goes down at the same instant.
    fn lose_power(&mut self, decided: u64) {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.scenario.power_cuts)
            .into_iter()
            .partition(|round| decided >= *round);
        self.scenario.power_cuts = later;
        if due.is_empty() {
            return;
        }
        for peer in 0..self.nodes.len() {
            if self.nodes[peer].is_up() {
                self.outcome.crashes += 1;
                self.restart_later(peer);
            }
        }
    }
}
