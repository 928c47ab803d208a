//! Whom a peer reaches at an instant.

use std::ops::RangeInclusive;

use super::Network;
use crate::interface::time::Millis;

/// A time in which two groups of peers cannot reach each other.
#[derive(Debug, Clone)]
pub struct Partition {
    /// When it begins and ends, in milliseconds of virtual time.
    pub during: RangeInclusive<u64>,
    /// The peers on one side, by index.
    pub cut_off: Vec<usize>,
}

/// A time in which nothing passes from one peer to another, although the way back is open.
#[derive(Debug, Clone)]
pub struct OneWay {
    /// When it begins and ends, in milliseconds of virtual time.
    pub during: RangeInclusive<u64>,
    /// The peer that sends in vain, by index.
    pub from: usize,
    /// The peer that hears nothing of it, by index.
    pub to: usize,
}

/// A time in which all connections of a peer lead to a few others.
#[derive(Debug, Clone)]
pub struct Eclipse {
    /// When it begins and ends, in milliseconds of virtual time.
    pub during: RangeInclusive<u64>,
    /// The peer that is eclipsed, by index.
    pub victim: usize,
    /// The only peers that it is connected to, by index.
    pub by: Vec<usize>,
}

impl Network {
    /// Whether two peers can be connected now. One-way links look open: neither side knows.
    pub(in crate::sim) fn connects(&self, now: Millis, one: usize, other: usize) -> bool {
        let separates = |p: &Partition| {
            p.during.contains(&now.0) && p.cut_off.contains(&one) != p.cut_off.contains(&other)
        };
        let hides = |e: &Eclipse, victim: usize, outside: usize| {
            e.victim == victim && e.during.contains(&now.0) && !e.by.contains(&outside)
        };
        !self.partitions.iter().any(separates)
            && !self
                .eclipses
                .iter()
                .any(|e| hides(e, one, other) || hides(e, other, one))
    }

    /// Whether a message sent now arrives, as far as conditions decide it.
    pub(in crate::sim) fn passes(&self, now: Millis, from: usize, to: usize) -> bool {
        let swallows = |w: &OneWay| w.from == from && w.to == to && w.during.contains(&now.0);
        self.connects(now, from, to) && !self.one_way.iter().any(swallows)
    }

    /// The instant of virtual time after which no partition, one-way link or eclipse is left.
    pub(in crate::sim) fn calm_after(&self) -> Millis {
        let partitions = self.partitions.iter().map(|p| *p.during.end());
        let one_way = self.one_way.iter().map(|w| *w.during.end());
        let eclipses = self.eclipses.iter().map(|e| *e.during.end());
        Millis(partitions.chain(one_way).chain(eclipses).max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network {
            partitions: vec![Partition {
                during: 10..=20,
                cut_off: vec![0, 1],
            }],
            one_way: vec![OneWay {
                during: 30..=40,
                from: 2,
                to: 3,
            }],
            eclipses: vec![Eclipse {
                during: 50..=60,
                victim: 4,
                by: vec![5],
            }],
            ..Network::good()
        }
    }

    #[test]
    fn a_partition_separates_its_two_sides_while_it_lasts() {
        let network = network();
        assert!(!network.passes(Millis(10), 0, 2));
        assert!(network.passes(Millis(10), 0, 1));
        assert!(network.passes(Millis(21), 0, 2));
    }

    #[test]
    fn a_one_way_link_swallows_one_direction_and_nobody_knows() {
        let network = network();
        assert!(!network.passes(Millis(35), 2, 3));
        assert!(network.passes(Millis(35), 3, 2));
        assert!(network.connects(Millis(35), 2, 3));
    }

    #[test]
    fn an_eclipsed_peer_reaches_only_those_around_it() {
        let network = network();
        assert!(!network.connects(Millis(55), 4, 0));
        assert!(!network.connects(Millis(55), 0, 4));
        assert!(network.connects(Millis(55), 4, 5));
        assert_eq!(network.calm_after(), Millis(60));
    }
}
