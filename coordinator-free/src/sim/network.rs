//! Latency, loss, duplicates, partitions.

use std::ops::RangeInclusive;

use super::random::Random;
use crate::interface::time::Millis;

/// What happens to messages.
#[derive(Debug, Clone)]
pub struct Network {
    /// How long a message travels, in milliseconds; so later ones overtake earlier ones.
    pub latency_ms: RangeInclusive<u64>,
    /// How many are lost, in parts per million.
    pub loss_ppm: u32,
    /// How many arrive twice, in parts per million.
    pub duplicate_ppm: u32,
    /// To how many others a peer passes on what it accepts: gossip. Two halves that are told
    /// different things hear of it only through this.
    pub passed_on_to: usize,
    /// When the network falls apart.
    pub partitions: Vec<Partition>,
}

/// A time in which some peers hear nothing of the others.
#[derive(Debug, Clone)]
pub struct Partition {
    /// From when until when, in milliseconds of virtual time.
    pub during: RangeInclusive<u64>,
    /// The peers on one side.
    pub cut_off: Vec<usize>,
}

impl Network {
    /// Nothing is lost.
    pub const fn good() -> Self {
        Self {
            latency_ms: 10..=150,
            loss_ppm: 0,
            duplicate_ppm: 0,
            passed_on_to: 1,
            partitions: Vec::new(),
        }
    }

    /// When a message sent now arrives: never, once, or twice.
    pub(super) fn arrivals(
        &self,
        now: Millis,
        from: usize,
        to: usize,
        random: &mut Random,
    ) -> Vec<Millis> {
        let lost = random.chance(self.loss_ppm);
        let copies = if random.chance(self.duplicate_ppm) {
            2
        } else {
            1
        };
        if lost || self.parted(now, from, to) {
            return Vec::new();
        }
        (0..copies)
            .map(|_| now.after(random.within(&self.latency_ms)))
            .collect()
    }

    fn parted(&self, now: Millis, from: usize, to: usize) -> bool {
        let apart = |p: &Partition| {
            p.during.contains(&now.0) && p.cut_off.contains(&from) != p.cut_off.contains(&to)
        };
        self.partitions.iter().any(apart)
    }
}
