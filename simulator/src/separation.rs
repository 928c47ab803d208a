//! How well each signal tells dishonest contributions from honest ones.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::Measured;
use crate::simulation::Played;
use crate::summary::HONEST;

/// For each signal, the chance that an honest contribution of a round measures more than a
/// dishonest one of the same round (the area under the ROC curve): 1 separates, 0.5 says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Separation {
    /// By net overlap.
    pub net: f64,
    /// By agreement with honest peers' work.
    pub work: f64,
    /// By the loss on the contributor's samples.
    pub own: f64,
    /// By the loss on held-out text.
    pub held: f64,
    /// By the lower of net overlap and agreement, each as a part of its median in the round.
    pub combined: f64,
}

impl Played {
    /// The separation of each behaviour, on average over these rounds.
    pub fn separation(&self, rounds: std::ops::Range<u64>) -> BTreeMap<&'static str, Separation> {
        let mut sums: BTreeMap<&'static str, (Separation, f64)> = BTreeMap::new();
        for (_, round) in self.history.rounds().range(rounds) {
            for (name, found) in self.of_round(&round.measured) {
                let (sum, count) = sums.entry(name).or_default();
                *sum = sum.plus(found);
                *count += 1.0;
            }
        }
        let mean = |(name, (sum, count)): (&'static str, (Separation, f64))| {
            (name, sum.times(1.0 / count))
        };
        sums.into_iter().map(mean).collect()
    }

    fn of_round(&self, all: &BTreeMap<usize, Measured>) -> BTreeMap<&'static str, Separation> {
        let median = |signal: fn(&Measured) -> i32| {
            let mut values: Vec<i32> = all.values().map(signal).collect();
            values.sort_unstable();
            f64::from(values.get(values.len() / 2).copied().unwrap_or(0).max(1))
        };
        let medians = (median(|one| one.net), median(|one| one.work));
        let combined =
            |one: &Measured| (f64::from(one.net) / medians.0).min(f64::from(one.work) / medians.1);
        let of = |name: &str| -> Vec<&Measured> {
            let wanted = all.iter().filter(|(index, _)| self.name(**index) == name);
            wanted.map(|(_, measured)| measured).collect()
        };
        let honest = of(HONEST);
        let liars = self.options.dishonest.iter();
        liars
            .map(|(behaviour, _)| (behaviour.name, of(behaviour.name)))
            .filter(|(_, dishonest)| !dishonest.is_empty() && !honest.is_empty())
            .map(|(name, dishonest)| {
                let auc = |signal: &dyn Fn(&Measured) -> f64| area(&honest, &dishonest, signal);
                let found = Separation {
                    net: auc(&|one| one.net.into()),
                    work: auc(&|one| one.work.into()),
                    own: auc(&|one| one.own.into()),
                    held: auc(&|one| one.held.into()),
                    combined: auc(&combined),
                };
                (name, found)
            })
            .collect()
    }
}

impl Separation {
    fn plus(self, other: Self) -> Self {
        Self {
            net: self.net + other.net,
            work: self.work + other.work,
            own: self.own + other.own,
            held: self.held + other.held,
            combined: self.combined + other.combined,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            net: self.net * factor,
            work: self.work * factor,
            own: self.own * factor,
            held: self.held * factor,
            combined: self.combined * factor,
        }
    }
}

/// The area under the ROC curve: pairs in which the honest one has more, and half of the ties.
fn area(honest: &[&Measured], dishonest: &[&Measured], signal: &dyn Fn(&Measured) -> f64) -> f64 {
    let mut wins = 0.0;
    for one in honest {
        for other in dishonest {
            wins += match signal(one).total_cmp(&signal(other)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    wins / (honest.len() * dishonest.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs_in_the_right_order() {
        let measured = |net| Measured {
            net,
            ..Measured::default()
        };
        let (low, middle, high) = (measured(1), measured(2), measured(3));
        let net = |one: &Measured| f64::from(one.net);
        assert_eq!(area(&[&high, &middle], &[&low], &net), 1.0);
        assert_eq!(area(&[&low], &[&high], &net), 0.0);
        assert_eq!(area(&[&middle, &high], &[&middle], &net), 0.75);
    }
}
