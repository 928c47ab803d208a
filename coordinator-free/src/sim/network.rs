//! Latency, loss, duplicates, partitions.

use std::ops::RangeInclusive;

use super::random::Random;
use crate::interface::time::Millis;

/// What happens to messages between peers.
#[derive(Debug, Clone)]
pub struct Network {
    /// How long a message travels, in milliseconds. A later message may overtake an earlier one.
    pub latency_ms: RangeInclusive<u64>,
    /// How many messages are lost, in parts per million.
    pub loss_ppm: u32,
    /// How many messages arrive twice, in parts per million.
    pub duplicate_ppm: u32,
    /// How many peers a peer forwards an accepted message to (gossip). Only through gossip do two
    /// halves of the network find out that a liar tells them different things.
    pub forward_to: usize,
    /// When the network is split.
    pub partitions: Vec<Partition>,
}

/// A time in which two groups of peers cannot reach each other.
#[derive(Debug, Clone)]
pub struct Partition {
    /// When it begins and ends, in milliseconds of virtual time.
    pub during: RangeInclusive<u64>,
    /// The peers on one side, by index.
    pub cut_off: Vec<usize>,
}

impl Network {
    /// A network that loses nothing.
    pub const fn good() -> Self {
        Self {
            latency_ms: 10..=150,
            loss_ppm: 0,
            duplicate_ppm: 0,
            forward_to: 1,
            partitions: Vec::new(),
        }
    }

    /// The instants at which a message sent now arrives: none, one or two.
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
        if lost || self.is_split(now, from, to) {
            return Vec::new();
        }
        (0..copies)
            .map(|_| now.after(random.within(&self.latency_ms)))
            .collect()
    }

    fn is_split(&self, now: Millis, from: usize, to: usize) -> bool {
        let separates = |p: &Partition| {
            p.during.contains(&now.0) && p.cut_off.contains(&from) != p.cut_off.contains(&to)
        };
        self.partitions.iter().any(separates)
    }
}
