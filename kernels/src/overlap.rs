//! How much the contributions of a round agree with one another, from their places and signs alone.
//!
//! Honest peers learn the same thing from different text. So where two of them send a value at the
//! same place, its signs nearly always agree: in 97 to 99 % of the cases. Signs that are turned,
//! random, trained on rubbish or a round old do not. For each pair of contributions this module
//! counts the shared places whose signs agree and those whose signs differ. Of these it makes two
//! signals:
//!
//! - the *net overlap* of a contribution, the median over the others of agreeing minus differing
//!   places, as a part of the values it sent. Liars have little of it, unless they send what honest
//!   peers send. Because it is a median, liars who praise each other change little as long as more
//!   than half of the others are honest.
//! - the *share in common* of two contributions. Of independent ones it is small; a copy has nearly
//!   all, however much noise is added to the rest.
//!
//! All are counts of whole numbers. Their order does not matter, so everybody who holds the same
//! contributions computes the same signals.
//!
//! # Cost
//!
//! A table of each chunk's places lists the senders of a place. Adding a value costs one step and
//! one more for each earlier sender of its place: of n contributions with v values each, n·v in
//! all, plus the number of shared places, which is at most n²·v/2 if all are copies.

use rayon::prelude::*;

use crate::codec::unpack::Unpacked;
use crate::grid::{Grid, MAX_CHUNK, MILLION, Tile};
use crate::{Contribution, Error, Layout};

/// The most contributions that can be compared, so that a sender's number fits 16 bits with a sign.
pub const MOST_COMPARED: usize = 1 << 15;

/// The agreeing and differing signs of every pair of contributions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlaps {
    /// The number of values of each contribution.
    values: Vec<usize>,
    /// One row for each contribution; only the columns of earlier contributions are used.
    pairs: Vec<Pair>,
}

/// The shared places of two contributions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair {
    /// Places where both signs are equal.
    pub agreeing: u64,
    /// Places where they differ.
    pub differing: u64,
}

/// A contribution's net overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    /// The median over the others of agreeing minus differing places, in parts per million of the
    /// contribution's values: from −1,000,000 to 1,000,000.
    pub ppm: i32,
    /// One standard deviation of that number if the signs were drawn at random, in the same unit:
    /// the root of the median number of shared places.
    pub noise_ppm: u32,
}

impl Overlaps {
    /// Compares every pair of contributions.
    ///
    /// # Errors
    /// [`Error::ForeignContribution`] if one was decoded for another layout, or for settings other
    /// than the first one's. [`Error::TooManyToCompare`] if there are more than [`MOST_COMPARED`].
    pub fn of(layout: &Layout, contributions: &[&Contribution]) -> Result<Self, Error> {
        let count = contributions.len();
        if count > MOST_COMPARED {
            return Err(Error::TooManyToCompare { got: count });
        }
        let values = contributions.iter().map(|one| one.values()).collect();
        let Some(first) = contributions.first() else {
            let pairs = Vec::new();
            return Ok(Self { values, pairs });
        };
        let is_foreign = |other: &&Contribution| !other.is_like(first);
        if let Some(position) = contributions.iter().position(is_foreign) {
            return Err(Error::ForeignContribution { position });
        }
        let grid = first.grid(layout)?;
        let tiles = grid.tiles().par_iter().enumerate();
        let counted = tiles.fold(
            || Table::new(count),
            |mut table, (number, tile)| {
                table.add(contributions, &grid, number, tile);
                table
            },
        );
        let pairs = counted
            .map(|table| table.pairs)
            .reduce(|| vec![Pair::default(); count * count], added);
        Ok(Self { values, pairs })
    }

    /// The shared places of two contributions; none if either does not exist.
    pub fn pair(&self, one: usize, other: usize) -> Pair {
        let count = self.values.len();
        let (first, second) = (one.min(other), one.max(other));
        let exists = first != second && second < count;
        let pair = exists.then(|| self.pairs.get(second * count + first));
        pair.flatten().copied().unwrap_or_default()
    }

    /// The net overlap of a contribution with the others that `among` marks: those of peers with
    /// history, so that a crowd of newcomers cannot decide what agrees. Others without values do
    /// not count. `None` if no other is left, or if the contribution has no values itself.
    ///
    /// Of an even number of others, the lower of the middle two counts. Fractions are cut off.
    pub fn net(&self, of: usize, among: &[bool]) -> Option<Net> {
        let sent = *self.values.get(of).filter(|values| **values > 0)?;
        let others = self.values.iter().zip(among).enumerate();
        let pairs: Vec<Pair> = others
            .filter(|(other, (values, among))| *other != of && **values > 0 && **among)
            .map(|(other, _)| self.pair(of, other))
            .collect();
        let net = lower_median(pairs.iter().map(|pair| pair.net()))?;
        let shared = lower_median(pairs.iter().map(|pair| pair.shared()))?;
        let ppm = |number: i128| number * i128::from(MILLION) / sent as i128;
        Some(Net {
            ppm: ppm(net.into()) as i32,
            noise_ppm: ppm(shared.isqrt().into()) as u32,
        })
    }

    /// The places of two contributions with equal signs, in parts per million of the values of
    /// whichever has fewer; 0 if either has none. Independent contributions share some, copies
    /// share all.
    pub fn shared_ppm(&self, one: usize, other: usize) -> u32 {
        let of = |number: usize| self.values.get(number).copied().unwrap_or(0);
        let fewer = of(one).min(of(other)).max(1);
        let agreeing = u128::from(self.pair(one, other).agreeing);
        (agreeing * u128::from(MILLION) / fewer as u128) as u32
    }
}

impl Pair {
    fn net(self) -> i64 {
        self.agreeing as i64 - self.differing as i64
    }

    fn shared(self) -> u64 {
        self.agreeing + self.differing
    }

    fn plus(self, other: Self) -> Self {
        Self {
            agreeing: self.agreeing + other.agreeing,
            differing: self.differing + other.differing,
        }
    }
}

/// The median; of an even number, the lower of the middle two.
fn lower_median<T: Ord>(numbers: impl Iterator<Item = T>) -> Option<T> {
    let mut numbers: Vec<T> = numbers.collect();
    let middle = numbers.len().checked_sub(1)? / 2;
    numbers.sort_unstable();
    numbers.into_iter().nth(middle)
}

fn added(mut sum: Vec<Pair>, other: Vec<Pair>) -> Vec<Pair> {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum = sum.plus(other);
    }
    sum
}

/// Counts pairs chunk by chunk.
struct Table {
    pairs: Vec<Pair>,
    /// For each place of the chunk, the last entry of it plus one; 0 if nobody sent it yet.
    heads: Box<[u32; MAX_CHUNK]>,
    /// The values of the chunk so far.
    entries: Vec<Entry>,
    unpacked: Unpacked,
}

/// One value of one contribution.
#[derive(Clone, Copy)]
struct Entry {
    sender: u16,
    place: u16,
    is_negative: bool,
    /// The entry of the place before this one, plus one; 0 if there is none.
    before: u32,
}

impl Table {
    fn new(contributions: usize) -> Self {
        Self {
            pairs: vec![Pair::default(); contributions * contributions],
            heads: Box::new([0; _]),
            entries: Vec::new(),
            unpacked: Unpacked::default(),
        }
    }

    fn add(&mut self, contributions: &[&Contribution], grid: &Grid, number: usize, tile: &Tile) {
        let mut readers: Vec<_> = contributions
            .iter()
            .map(|one| one.tile(number, tile))
            .collect();
        let count = contributions.len();
        for chunk in grid.chunks_of(tile) {
            for (sender, reader) in readers.iter_mut().enumerate() {
                let row = &mut self.pairs[sender * count..][..count];
                for value in reader.next(chunk, &mut self.unpacked).1 {
                    let (place, is_negative) = (value.index(), value.is_negative());
                    let mut next = self.heads[place];
                    let before = next;
                    while let Some(entry) = next.checked_sub(1).map(|at| self.entries[at as usize])
                    {
                        let pair = &mut row[usize::from(entry.sender)];
                        let agrees = u64::from(entry.is_negative == is_negative);
                        pair.agreeing += agrees;
                        pair.differing += 1 - agrees;
                        next = entry.before;
                    }
                    self.entries.push(Entry {
                        sender: sender as u16,
                        place: place as u16,
                        is_negative,
                        before,
                    });
                    self.heads[place] = self.entries.len() as u32;
                }
            }
            for entry in self.entries.drain(..) {
                self.heads[usize::from(entry.place)] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layout, on_any_number_of_threads, settings, values};
    use crate::{compress, decode};
    use proptest::prelude::*;

    fn contribution(layout: &Layout, (chunk, keep): (usize, usize), sent: &[f32]) -> Contribution {
        let compression = settings(chunk, keep);
        let zeros = vec![0.0; sent.len()];
        let body = compress(layout, &compression, &zeros, &mut sent.to_vec()).unwrap();
        decode(layout, &compression, &body, body.len()).unwrap()
    }

    fn dense(layout: &Layout, contribution: &Contribution) -> Vec<f32> {
        let mut out = vec![0.0; layout.parameters()];
        contribution.add_to(layout, &mut out, 1.0).unwrap();
        out
    }

    /// Contributions that hold exactly these signs, one value per chunk.
    fn signs<const N: usize>(rows: &[[f32; N]]) -> Overlaps {
        let layout = layout(&[1; N]);
        let all: Vec<_> = rows
            .iter()
            .map(|row| contribution(&layout, (1, 1), row))
            .collect();
        Overlaps::of(&layout, &all.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn net_overlap_is_the_median_over_the_others() {
        let overlaps = signs(&[
            [1.0, 1.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, 1.0, -1.0, 0.0],
            [1.0, -1.0, 0.0, 0.0, 1.0],
            [-1.0, -1.0, -1.0, -1.0, 0.0],
        ]);
        let pair = |agreeing, differing| Pair {
            agreeing,
            differing,
        };
        assert_eq!(overlaps.pair(0, 1), pair(3, 1));
        assert_eq!(overlaps.pair(2, 0), pair(1, 1));
        assert_eq!(overlaps.pair(3, 0), pair(0, 4));
        assert_eq!(overlaps.pair(0, 0), pair(0, 0));
        let net = |of, among: &[bool]| overlaps.net(of, among).map(|net| net.ppm);
        // Of the first: 2, 0 and -4 of 4 values. Without the third, the lower of 2 and -4.
        assert_eq!(net(0, &[true; 4]), Some(0));
        assert_eq!(net(0, &[true, true, false, true]), Some(-1_000_000));
        assert_eq!(net(0, &[false, true, false, false]), Some(500_000));
        assert_eq!(net(0, &[true, false, false, false]), None);
        assert_eq!(net(9, &[true; 4]), None);
        assert_eq!(overlaps.shared_ppm(0, 1), 750_000);
        assert_eq!(overlaps.shared_ppm(0, 2), 333_333);
    }

    #[test]
    fn a_contribution_without_values_has_no_net_and_no_voice() {
        let overlaps = signs(&[[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]);
        assert_eq!(overlaps.net(1, &[true; 3]), None);
        assert_eq!(
            overlaps.net(0, &[true; 3]).map(|net| net.ppm),
            Some(1_000_000)
        );
        assert_eq!(overlaps.shared_ppm(0, 1), 0);
    }

    #[test]
    fn noise_is_the_root_of_the_shared_places() {
        let overlaps = signs(&[[1.0; 16], [-1.0; 16]]);
        let net = Net {
            ppm: -1_000_000,
            noise_ppm: 250_000,
        };
        assert_eq!(overlaps.net(0, &[true; 2]), Some(net));
    }

    #[test]
    fn nothing_and_strangers_are_no_accident() {
        let (ours, theirs) = (layout(&[64]), layout(&[32, 32]));
        assert!(Overlaps::of(&ours, &[]).unwrap().net(0, &[]).is_none());
        let [one, foreign] =
            [&ours, &theirs].map(|layout| contribution(layout, (16, 4), &values(1, 64)));
        let refusal = Error::ForeignContribution { position: 1 };
        assert_eq!(Overlaps::of(&ours, &[&one, &foreign]), Err(refusal));
        assert!(Overlaps::of(&theirs, &[&one]).is_err());
    }

    #[test]
    fn counts_do_not_depend_on_the_number_of_threads() {
        let layout = layout(&[600_000, 3, 5000]);
        let all: Vec<_> = (0..5)
            .map(|seed| contribution(&layout, (4096, 32), &values(seed, layout.parameters())))
            .collect();
        let compared =
            on_any_number_of_threads(|| Overlaps::of(&layout, &all.iter().collect::<Vec<_>>()));
        assert!(compared.is_ok());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_dense_values_in_any_order(
            lengths in prop::collection::vec(1usize..200, 1..4),
            seeds in prop::collection::vec(0u64..6, 0..7),
        ) {
            let layout = layout(&lengths);
            // Few seeds, so that some are copies of each other.
            let all: Vec<_> = seeds
                .iter()
                .map(|seed| contribution(&layout, (32, 8), &values(*seed, layout.parameters())))
                .collect();
            let overlaps = Overlaps::of(&layout, &all.iter().collect::<Vec<_>>()).unwrap();
            let reversed = Overlaps::of(&layout, &all.iter().rev().collect::<Vec<_>>()).unwrap();
            let dense: Vec<_> = all.iter().map(|one| dense(&layout, one)).collect();
            let last = all.len().saturating_sub(1);
            for (i, one) in dense.iter().enumerate() {
                for (j, other) in dense.iter().enumerate().filter(|(j, _)| *j != i) {
                    let shared = || one.iter().zip(other).filter(|(a, b)| *a * *b != 0.0);
                    let agreeing = shared().filter(|(a, b)| *a * *b > 0.0).count() as u64;
                    let differing = shared().count() as u64 - agreeing;
                    prop_assert_eq!(overlaps.pair(i, j), Pair { agreeing, differing });
                    prop_assert_eq!(overlaps.pair(i, j), reversed.pair(last - j, last - i));
                    prop_assert_eq!(
                        Ok(overlaps.shared_ppm(i, j)), all[i].overlap_ppm(&layout, &all[j])
                    );
                }
                let everyone = vec![true; all.len()];
                prop_assert_eq!(overlaps.net(i, &everyone), reversed.net(last - i, &everyone));
            }
        }
    }
}
