//! Scenarios drawn from a seed, with every kind of fault in some mix.
//!
//! Each seed switches kinds of faults on and off and draws their rates (swarm testing: Groce et
//! al., ISSTA 2012). A mix in which some faults are missing reaches states that "everything at
//! once" hides.

use super::disk::{DiskFault, DiskFaultKind, Disks};
use super::liar::Lie;
use super::network::{Eclipse, Network, OneWay, Partition};
use super::random::Random;
use super::scenario::{Absence, Scenario};
use crate::host::retention::KeptWeights;

/// The last instant of virtual time at which the network is disturbed, in milliseconds.
const DISTURBED_UNTIL_MS: u64 = 200_000;

impl Scenario {
    /// A scenario whose size, network, faults and liars all follow from the seed. Fewer than a
    /// third of the founders lie, lose their disks, leave or crash at the same time, so every round
    /// must be decided.
    pub fn swarm(seed: u64) -> Self {
        Draw(Random::new(seed ^ 0x5357_4152_4d00)).scenario(seed)
    }
}

struct Draw(Random);

impl Draw {
    /// True for half of all seeds.
    fn coin(&mut self) -> bool {
        self.0.chance(500_000)
    }

    /// A number in the range, or 0 for half of all seeds.
    fn sometimes(&mut self, from: u64, to: u64) -> u64 {
        if self.coin() {
            self.0.within(&(from..=to))
        } else {
            0
        }
    }

    fn scenario(mut self, seed: u64) -> Scenario {
        let founders = self.0.within(&(4..=12)) as usize;
        let newcomers = self.sometimes(1, 3) as usize;
        // Liars, forgetful peers, leavers and those that crash at the same time stay below a third.
        let spare = (founders - 1) / 3;
        let liars = self.0.within(&(0..=spare as u64)) as usize;
        let forgetful = self.0.within(&(0..=(spare - liars) as u64)) as usize;
        let leavers =
            self.0
                .within(&(0..=(spare - liars - forgetful).min(1) as u64)) as usize;
        let most_down = spare - liars - forgetful - leavers;
        let peers = founders + newcomers;
        let mut scenario = Scenario {
            founders,
            rounds: self.0.within(&(8..=16)),
            give_up_after_ms: 3 * 60 * 60 * 1000,
            network: self.network(peers),
            crash_ppm: self.sometimes(100, 3_000) as u32,
            most_down,
            missing_blob_ppm: self.sometimes(1_000, 50_000) as u32,
            // Weights damaged at several voters at once are a fault of them all.
            damage_ppm: self.sometimes(1_000, 5_000) as u32 * most_down.min(1) as u32,
            clock_starts_at_ms: 0..=self.sometimes(60_000, 3_600_000),
            clock_drift_ppm: self.sometimes(50, 20_000) as u32,
            disks: self.disks(),
            power_cuts: self.power_cuts(),
            ..Scenario::calm(seed, peers)
        };
        scenario.liars = (0..liars).map(|peer| self.liar(peer)).collect();
        scenario.disk_faults = (liars..liars + forgetful)
            .map(|peer| self.disk_fault(peer))
            .collect();
        scenario.absences = (founders..peers).map(|peer| self.newcomer(peer)).collect();
        if leavers > 0 {
            scenario.absences.push(Absence {
                peer: founders - 1,
                leaves_in: Some(self.0.within(&(2..=4))),
                joins_at: self.0.within(&(6..=8)),
            });
        }
        scenario
    }

    fn network(&mut self, peers: usize) -> Network {
        let slowest = self.0.within(&(20..=900));
        let partitions = self.sometimes(1, 3);
        let one_way = self.sometimes(1, 4);
        Network {
            latency_ms: self.0.within(&(1..=20))..=slowest,
            loss_ppm: self.sometimes(1_000, 150_000) as u32,
            duplicate_ppm: self.sometimes(1_000, 50_000) as u32,
            mesh_degree: self.0.within(&(2..=8)) as usize,
            uplink_bits_per_s: self.sometimes(2_000_000, 50_000_000),
            downlink_bits_per_s: self.sometimes(5_000_000, 200_000_000),
            partitions: (0..partitions).map(|_| self.partition(peers)).collect(),
            one_way: (0..one_way).map(|_| self.one_way(peers)).collect(),
            eclipses: (0..self.sometimes(1, 1))
                .map(|_| self.eclipse(peers))
                .collect(),
            ..Network::good()
        }
    }

    fn span(&mut self) -> std::ops::RangeInclusive<u64> {
        let from = self.0.within(&(0..=DISTURBED_UNTIL_MS - 40_000));
        from..=from + self.0.within(&(2_000..=40_000))
    }

    fn partition(&mut self, peers: usize) -> Partition {
        let cut_off = 1 + self.0.below(peers / 2);
        Partition {
            during: self.span(),
            cut_off: self.0.shuffled(peers).split_off(peers - cut_off),
        }
    }

    fn one_way(&mut self, peers: usize) -> OneWay {
        let pair = self.0.shuffled(peers);
        OneWay {
            during: self.span(),
            from: pair[0],
            to: pair[1],
        }
    }

    /// A peer that knows nobody but one or two others, which may lie.
    fn eclipse(&mut self, peers: usize) -> Eclipse {
        let others = self.0.shuffled(peers);
        let around = 2 + self.0.below(2);
        Eclipse {
            during: self.span(),
            victim: others[0],
            by: others[1..around].to_vec(),
        }
    }

    fn disks(&mut self) -> Disks {
        Disks {
            write_ms: 0..=self.sometimes(1, 40),
            fails_ppm: self.sometimes(10, 1_000) as u32,
            stores_weights_ppm: self.0.one_of(&[500_000, 900_000, 1_000_000]),
            keep_contributions: self.0.one_of(&[2, 8, 64]),
            keep_weights: self.0.one_of(&[
                KeptWeights {
                    newest: 2,
                    checkpoints: 0,
                },
                KeptWeights {
                    newest: 4,
                    checkpoints: 2,
                },
            ]),
        }
    }

    fn power_cuts(&mut self) -> Vec<u64> {
        (0..self.sometimes(1, 2))
            .map(|_| self.0.within(&(1..=7)))
            .collect()
    }

    fn liar(&mut self, peer: usize) -> (usize, Lie, u64) {
        let lies = [
            Lie::TwoProposals,
            Lie::TwoVotes,
            Lie::TwoCommitments,
            Lie::MadeUpRoots,
            Lie::Grinds,
            Lie::Withholds,
            Lie::Nonsense,
        ];
        (peer, self.0.one_of(&lies), self.0.within(&(0..=6)))
    }

    fn disk_fault(&mut self, peer: usize) -> DiskFault {
        let in_round = self.0.within(&(2..=7));
        let kind = match self.0.below(3) {
            0 => DiskFaultKind::Lost,
            1 => DiskFaultKind::RolledBack {
                copied_in: self.0.within(&(1..=in_round)),
            },
            _ => DiskFaultKind::Full {
                for_ms: self.0.within(&(5_000..=60_000)),
            },
        };
        DiskFault {
            peer,
            in_round,
            kind,
        }
    }

    fn newcomer(&mut self, peer: usize) -> Absence {
        Absence {
            peer,
            leaves_in: None,
            joins_at: self.0.within(&(1..=6)),
        }
    }
}
