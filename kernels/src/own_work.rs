//! What a peer itself learnt in a round, kept to compare others' contributions with.
//!
//! Honest peers that train from the same weights largely agree: where one sends a value, another's
//! unsent value at that place has the same sign far more often than not. So a peer that trained can
//! judge a contribution without any forward pass. The measure is the cosine between the
//! contribution and the peer's own values, over the places that the contribution sends:
//!
//! ```text
//! cos = Σ cᵢ wᵢ / √(Σ cᵢ² · Σ wᵢ²)     over the places i that it sends
//! ```
//!
//! w is either v = β e + Δ, all that the peer had to send, or Δ, what it learnt in this round alone
//! (see [`crate::feedback`]). v reveals a peer that worked too little, Δ one that sends old work
//! again. (FLTrust, arXiv 2012.13995, with a peer's own work as the reference as in BALANCE, arXiv
//! 2406.10416.)
//!
//! A large model's v and Δ are not kept whole. Part of each tensor is enough: the error of a cosine
//! over n places is about 1/√n. Nobody else can know which part.

use std::ops::Range;

use rayon::prelude::*;

use crate::codec::unpack::Unpacked;
use crate::{Contribution, Error, Layout};

/// See the module.
#[derive(Clone, PartialEq)]
pub struct OwnWork {
    layout: [u8; 32],
    tensors: Vec<Part>,
}

/// A part of a tensor, and what the peer has there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The first of its places in the flat vector.
    pub start: usize,
    /// v = β e + Δ: all that the peer had to send, before it compressed.
    pub to_send: Vec<f32>,
    /// Δ: the weights before the round's training less those after.
    pub learnt: Vec<f32>,
}

impl Part {
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.to_send.len()
    }
}

/// How much a contribution agrees with a peer's own work. Parts per million: 1,000,000 if they
/// point the same way, −1,000,000 if the opposite way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The cosine with all that the peer had to send.
    pub to_send_ppm: i32,
    /// The cosine with what the peer learnt in this round alone.
    pub learnt_ppm: i32,
}

/// The sums of one contribution: over the places that it sends and that are kept.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Σ c².
    sent: f64,
    /// Σ c·v and Σ v².
    to_send: [f64; 2],
    /// Σ c·Δ and Σ Δ².
    learnt: [f64; 2],
}

impl Sums {
    fn add(&mut self, sent: f32, to_send: f32, learnt: f32) {
        let [sent, to_send, learnt] = [sent, to_send, learnt].map(f64::from);
        self.sent += sent * sent;
        for (sums, own) in [(&mut self.to_send, to_send), (&mut self.learnt, learnt)] {
            sums[0] += sent * own;
            sums[1] += own * own;
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.sent += other.sent;
        for (sums, more) in [
            (&mut self.to_send, other.to_send),
            (&mut self.learnt, other.learnt),
        ] {
            sums[0] += more[0];
            sums[1] += more[1];
        }
        self
    }

    /// 0 where the peer has nothing but zeros.
    fn cosine_ppm(&self, [product, squares]: [f64; 2]) -> i32 {
        let cosine = product / (self.sent * squares).sqrt();
        // The cast turns a NaN to 0, which is what 0 / 0 should count as.
        (cosine * 1e6).round().clamp(-1e6, 1e6) as i32
    }
}

impl OwnWork {
    /// Own work from one part for each tensor of the layout, in order. A part may be empty.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is a part for each tensor, inside it, with as many values
    /// learnt as to send.
    pub fn new(layout: &Layout, tensors: Vec<Part>) -> Result<Self, Error> {
        let wrong = |expected, got| Error::Length {
            what: "own work",
            expected,
            got,
        };
        if tensors.len() != layout.tensors().len() {
            return Err(wrong(layout.tensors().len(), tensors.len()));
        }
        for (range, part) in layout.ranges().zip(&tensors) {
            let inside = range.start <= part.start && part.range().end <= range.end;
            if part.learnt.len() != part.to_send.len() || !inside {
                return Err(wrong(part.to_send.len(), part.learnt.len()));
            }
        }
        Ok(Self {
            layout: layout.hash(),
            tensors,
        })
    }

    /// How much a contribution agrees with it; `None` if it sends nothing at the places kept here.
    ///
    /// # Errors
    /// [`Error::ForeignContribution`] if the contribution belongs to another layout.
    pub fn agreement(
        &self,
        layout: &Layout,
        contribution: &Contribution,
    ) -> Result<Option<Agreement>, Error> {
        if self.layout != layout.hash() {
            return Err(Error::ForeignContribution { position: 0 });
        }
        let grid = contribution.grid(layout)?;
        let sums = grid.tiles().par_iter().enumerate();
        let sums: Vec<Sums> = sums
            .map_init(Unpacked::default, |unpacked, (number, tile)| {
                let mut sums = Sums::default();
                let mut reader = contribution.tile(number, tile);
                for chunk in grid.chunks_of(tile) {
                    let part = &self.tensors[chunk.tensor];
                    let (scale, kept) = reader.next(chunk, unpacked);
                    for value in kept {
                        // Places before the part wrap around, and are out of it too.
                        let place = (chunk.start + value.index()).wrapping_sub(part.start);
                        if let (Some(to_send), Some(learnt)) =
                            (part.to_send.get(place), part.learnt.get(place))
                        {
                            sums.add(value.value(scale), *to_send, *learnt);
                        }
                    }
                }
                sums
            })
            .collect();
        let sums = sums.into_iter().fold(Sums::default(), Sums::join);
        Ok((sums.sent > 0.0).then(|| Agreement {
            to_send_ppm: sums.cosine_ppm(sums.to_send),
            learnt_ppm: sums.cosine_ppm(sums.learnt),
        }))
    }
}

impl std::fmt::Debug for OwnWork {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values: usize = self.tensors.iter().map(|part| part.to_send.len()).sum();
        formatter
            .debug_struct("OwnWork")
            .field("values", &values)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layout, on_any_number_of_threads, settings, values};
    use crate::{Compression, compress, decode};

    const LENGTHS: [usize; 3] = [10_000, 1, 70_000];

    fn contribution(layout: &Layout, values: &[f32]) -> Contribution {
        let compression = Compression {
            decay_ppm: 1_000_000,
            ..settings(512, 32)
        };
        let zeros = vec![0.0; layout.parameters()];
        let body = compress(layout, &compression, &zeros, &mut values.to_vec()).unwrap();
        decode(layout, &compression, &body, body.len()).unwrap()
    }

    /// Own work that keeps these places of each tensor.
    fn own(layout: &Layout, kept: &[Range<usize>], to_send: &[f32], learnt: &[f32]) -> OwnWork {
        let parts = layout.ranges().zip(kept).map(|(tensor, kept)| {
            let range = tensor.start + kept.start..tensor.start + kept.end;
            Part {
                start: range.start,
                to_send: to_send[range.clone()].to_vec(),
                learnt: learnt[range].to_vec(),
            }
        });
        OwnWork::new(layout, parts.collect()).unwrap()
    }

    fn whole() -> Vec<Range<usize>> {
        LENGTHS.iter().map(|length| 0..*length).collect()
    }

    /// The definition, in float64, one place after the other.
    fn reference(dense: &[f32], own: &[f32], kept: &[Range<usize>]) -> f64 {
        let (mut product, mut sent, mut squares) = (0.0, 0.0, 0.0);
        let mut first = 0;
        for (length, kept) in LENGTHS.iter().zip(kept) {
            for place in kept.clone().map(|place| first + place) {
                let (c, w) = (f64::from(dense[place]), f64::from(own[place]));
                if c != 0.0 {
                    product += c * w;
                    sent += c * c;
                    squares += w * w;
                }
            }
            first += length;
        }
        product / (sent * squares).sqrt()
    }

    #[test]
    fn agreement_is_the_cosine_over_the_places_sent_and_kept() {
        let layout = layout(&LENGTHS);
        let count = layout.parameters();
        let (theirs, noise, learnt) = (values(1, count), values(2, count), values(3, count));
        let to_send: Vec<f32> = theirs.iter().zip(&noise).map(|(a, b)| a + b).collect();
        let contribution = contribution(&layout, &theirs);
        let mut dense = vec![0.0; count];
        contribution.add_to(&layout, &mut dense, 1.0).unwrap();
        for kept in [whole(), vec![17..9_000, 0..0, 30_000..31_000]] {
            let own = own(&layout, &kept, &to_send, &learnt);
            let found = on_any_number_of_threads(|| own.agreement(&layout, &contribution).unwrap());
            let found = found.unwrap();
            for (found, own) in [(found.to_send_ppm, &to_send), (found.learnt_ppm, &learnt)] {
                let expected = reference(&dense, own, &kept) * 1e6;
                assert!(
                    (f64::from(found) - expected).abs() <= 0.6,
                    "{found} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_same_work_agrees_and_turned_work_disagrees() {
        let layout = layout(&LENGTHS);
        let mine = values(1, layout.parameters());
        let turned: Vec<f32> = mine.iter().map(|value| -value).collect();
        let zeros = vec![0.0; mine.len()];
        let own = own(&layout, &whole(), &mine, &zeros);
        let same = own.agreement(&layout, &contribution(&layout, &mine));
        let opposite = own.agreement(&layout, &contribution(&layout, &turned));
        let (same, opposite) = (same.unwrap().unwrap(), opposite.unwrap().unwrap());
        assert!(same.to_send_ppm > 900_000, "{same:?}");
        assert_eq!(opposite.to_send_ppm, -same.to_send_ppm);
        // A peer that learnt nothing agrees with nobody.
        assert_eq!(same.learnt_ppm, 0);
    }

    #[test]
    fn nothing_sent_where_something_is_kept_gives_no_agreement() {
        let layout = layout(&LENGTHS);
        let zeros = vec![0.0; layout.parameters()];
        let mine = values(1, zeros.len());
        let nowhere = own(&layout, &[0..0, 0..0, 0..0], &mine, &mine);
        let everywhere = own(&layout, &whole(), &mine, &mine);
        let (empty, full) = (contribution(&layout, &zeros), contribution(&layout, &mine));
        assert_eq!(nowhere.agreement(&layout, &full), Ok(None));
        assert_eq!(everywhere.agreement(&layout, &empty), Ok(None));
    }

    #[test]
    fn parts_that_do_not_fit_the_layout_are_refused() {
        let layout = layout(&[4, 4]);
        let part = |start, values| Part {
            start,
            to_send: vec![0.0; values],
            learnt: vec![0.0; values],
        };
        for wrong in [
            vec![part(0, 4)],
            vec![part(0, 4), part(3, 2)],
            vec![part(0, 5), part(4, 4)],
            vec![
                part(0, 4),
                Part {
                    learnt: vec![0.0],
                    ..part(4, 4)
                },
            ],
        ] {
            let refused = OwnWork::new(&layout, wrong.clone());
            assert!(matches!(refused, Err(Error::Length { .. })), "{wrong:?}");
        }
        let other = OwnWork::new(&layout, vec![part(0, 4), part(4, 4)]).unwrap();
        let foreign = contribution(&self::layout(&[8]), &[0.0; 8]);
        assert!(other.agreement(&self::layout(&[8]), &foreign).is_err());
    }
}
