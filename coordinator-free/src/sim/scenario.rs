//! What a simulated run is like.

use std::ops::RangeInclusive;

use weal_proto::SigningKey;
use weal_proto::manifest::Manifest;

use super::disk::{DiskFault, Disks};
use super::liar::Lie;
use super::manifest::manifest;
use super::network::{Network, Partition};
use super::script::Script;

/// A time in which a peer is not part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// The peer's index, from 0.
    pub peer: usize,
    /// The peer announces in this round that it leaves, and stops soon after. `None` if it has
    /// never been part of the run.
    pub leaves_in: Option<u64>,
    /// The peer joins, or returns, when some peer has decided this many rounds.
    pub joins_at: u64,
}

/// A peer that takes longer than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// The peer's index, from 0.
    pub peer: usize,
    /// How much longer it trains, in milliseconds.
    pub train_ms: u64,
    /// How much longer it takes to apply a round, in milliseconds.
    pub apply_ms: u64,
}

/// A simulated run: its peers, its network and its faults.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Determines everything that is random.
    pub seed: u64,
    /// The number of peers, liars included.
    pub peers: usize,
    /// The number of founders. They are the first peers.
    pub founders: usize,
    /// The run ends when all honest peers have decided this many rounds.
    pub rounds: u64,
    /// The run fails after this much virtual time, in milliseconds.
    pub give_up_after_ms: u64,
    /// The run fails if no round is decided for this many milliseconds although more than two
    /// thirds of the weight are up and connected.
    pub stall_ms: u64,
    /// What happens to messages between peers.
    pub network: Network,
    /// The probability of a crash before each output, in parts per million.
    pub crash_ppm: u32,
    /// The most peers that are down at a time because of crashes.
    pub most_down: usize,
    /// How long a crashed peer stays down, in milliseconds.
    pub down_ms: RangeInclusive<u64>,
    /// How long training takes, in milliseconds.
    pub train_ms: RangeInclusive<u64>,
    /// The peers that take longer.
    pub slow: Vec<Slow>,
    /// The length of a contribution, in bytes.
    pub blob_bytes: RangeInclusive<u64>,
    /// The length of all weights, in bytes.
    pub weights_bytes: u64,
    /// What a peer's clock shows when it starts, in milliseconds.
    pub clock_starts_at_ms: RangeInclusive<u64>,
    /// The most that a clock runs fast or slow, in parts per million.
    pub clock_drift_ppm: u32,
    /// How the peers' disks behave.
    pub disks: Disks,
    /// What happens to some of them.
    pub disk_faults: Vec<DiskFault>,
    /// Everybody goes down at once when some peer has decided this many rounds.
    pub power_cuts: Vec<u64>,
    /// The probability that a peer never gets a contribution, in parts per million.
    pub missing_blob_ppm: u32,
    /// The probability that a peer's weights are damaged while it applies a round, in parts per
    /// million.
    pub damage_ppm: u32,
    /// The peers that join, leave and return.
    pub absences: Vec<Absence>,
    /// The peers that lie: index, kind of lie, and the first round in which it lies.
    pub liars: Vec<(usize, Lie, u64)>,
    /// What happens and what is expected, step by step.
    pub script: Script,
}

impl Scenario {
    /// Honest founders on a good network, for 10 rounds.
    pub fn calm(seed: u64, peers: usize) -> Self {
        Self {
            seed,
            peers,
            founders: peers,
            rounds: 10,
            give_up_after_ms: 60 * 60 * 1000,
            stall_ms: 10 * 60 * 1000,
            network: Network::good(),
            crash_ppm: 0,
            most_down: 0,
            down_ms: 500..=8_000,
            train_ms: 1_000..=6_000,
            slow: Vec::new(),
            blob_bytes: 1_000..=100_000,
            weights_bytes: 1_000_000,
            clock_starts_at_ms: 0..=0,
            clock_drift_ppm: 0,
            disks: Disks::good(),
            disk_faults: Vec::new(),
            power_cuts: Vec::new(),
            missing_blob_ppm: 0,
            damage_ppm: 0,
            absences: Vec::new(),
            liars: Vec::new(),
            script: Script::new(),
        }
    }

    /// Ten peers for 20 rounds: seven founders, of which two lie, a newcomer that leaves and
    /// returns, and two that join later. One message in twenty is lost, and peers crash. No founder
    /// leaves: with two of seven that lie, more than a third of the weight would be gone.
    pub fn stormy(seed: u64) -> Self {
        let join = |peer, joins_at| Absence {
            peer,
            leaves_in: None,
            joins_at,
        };
        Self {
            founders: 7,
            rounds: 20,
            network: Network {
                loss_ppm: 50_000,
                duplicate_ppm: 20_000,
                ..Network::good()
            },
            crash_ppm: 300,
            most_down: 2,
            disks: Disks {
                stores_weights_ppm: 500_000,
                ..Disks::good()
            },
            missing_blob_ppm: 20_000,
            damage_ppm: 5_000,
            absences: vec![
                join(8, 2),
                join(9, 6),
                Absence {
                    peer: 7,
                    leaves_in: Some(5),
                    joins_at: 10,
                },
            ],
            liars: vec![(0, Lie::TwoProposals, 2), (1, Lie::TwoProposals, 8)],
            ..Self::calm(seed, 10)
        }
    }

    /// The worst that the rules must survive: ten founders of which three lie, one message in seven
    /// lost, latencies of up to a second, three partitions, a crash every few seconds, damaged
    /// weights, and two peers that leave and return.
    pub fn hurricane(seed: u64) -> Self {
        let lie = |n: usize| {
            let lies = [Lie::TwoProposals, Lie::TwoVotes, Lie::TwoCommitments];
            lies[(seed as usize / 3 + n) % lies.len()]
        };
        let partition = |from: u64| Partition {
            during: from..=from + 15_000,
            cut_off: vec![(seed % 10) as usize, ((seed + from) % 10) as usize, 3],
        };
        let away = |peer, leaves_in, joins_at| Absence {
            peer,
            leaves_in: Some(leaves_in),
            joins_at,
        };
        Self {
            founders: 10,
            network: Network {
                latency_ms: 10..=900,
                loss_ppm: 150_000,
                duplicate_ppm: 20_000,
                partitions: vec![partition(20_000), partition(60_000), partition(120_000)],
                ..Network::good()
            },
            crash_ppm: 2_000,
            most_down: 4,
            missing_blob_ppm: 50_000,
            damage_ppm: 20_000,
            absences: vec![away(4, 4, 8), away(5, 6, 9)],
            liars: vec![(0, lie(0), 0), (1, lie(1), 3), (2, lie(2), 6)],
            ..Self::stormy(seed)
        }
    }

    /// How much longer a peer takes than the others.
    pub(super) fn slowness(&self, peer: usize) -> Slow {
        let slow = self.slow.iter().copied().find(|slow| slow.peer == peer);
        slow.unwrap_or(Slow {
            peer,
            train_ms: 0,
            apply_ms: 0,
        })
    }

    /// A peer's key, derived from the seed.
    pub(super) fn key(&self, peer: usize) -> SigningKey {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal simulated key v1");
        hasher
            .update(&self.seed.to_le_bytes())
            .update(&(peer as u64).to_le_bytes());
        SigningKey::from_seed(*hasher.finalize().as_bytes())
    }

    /// The run's manifest.
    pub(super) fn manifest(&self) -> Manifest {
        manifest((0..self.founders).map(|peer| self.key(peer).peer()))
    }
}
