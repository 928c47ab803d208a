//! The outer step: from the decided contributions to the next round's weights.
//!
//! For each tensor, contribution p is clipped to the median norm of the round, so that no peer's
//! step is larger than usual:
//!
//! ```text
//! clip_p = min(1, median norm / norm_p)
//! theta <- theta - alpha * A(clip_p * contribution_p)
//! ```
//!
//! (SparseLoCo, arXiv 2508.15706; Covenant-72B, arXiv 2603.08163, section on the outer step.)
//!
//! # Bit for bit
//!
//! Every replica must compute the same weights to the last bit, on any processor and with any
//! number of threads. Therefore:
//!
//! - Only IEEE 754 f32 addition, subtraction, multiplication, division and square root are used,
//!   whose results the standard fixes to the last bit. Rust never fuses them, and nothing calls the
//!   system's mathematics library.
//! - No sum crosses threads: each thread owns a tile of the weights, and adds the contributions in
//!   the decided order.
//! - Norms are square roots of exact integer sums.
//!
//! Rounding mode and flush-to-zero flag must be IEEE's defaults, which Rust requires anyway.

use rayon::prelude::*;

use crate::codec::body::TileReader;
use crate::codec::unpack::Unpacked;
use crate::grid::{Chunk, Grid, MAX_CHUNK, Tile};
use crate::state::{StateOutline, hash_values, outline, outline_of};
use crate::wide::{prefetch, widest};
use crate::{Contribution, Error, Layout};

/// The divisor of a coordinate's sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The number of contributions that sent the coordinate.
    MeanOfSenders,
    /// The number of all contributions; one that did not send the coordinate counts as zero.
    MeanOfAll,
    /// The square root of the number of contributions that sent the coordinate. Where they agree,
    /// their values add up; noise grows with that root only, so it is equally large everywhere.
    /// This measured best (docs/benchmarks.md).
    #[default]
    RootOfSenders,
}

/// The outer step: `theta <- theta - alpha * A(clip_p * contribution_p)`, in place.
///
/// Pass the contributions in the decided order; the result depends on it. Coordinates that no
/// contribution sent keep their bits, and an empty list leaves all of `theta` unchanged. The result
/// is bit-identical for any number of threads.
///
/// Per coordinate, in f32: start a sum at 0. For each contribution in order, multiply its scale by
/// its clip factor, and add or subtract the product by its sign. Divide the sum by the divisor of
/// `rule`, multiply by `alpha`, and subtract the product from the weight.
///
/// # Errors
/// [`Error::Length`] if `theta` does not match the layout. [`Error::ForeignContribution`] if a
/// contribution does not, or if its settings differ from the first one's.
/// [`Error::OuterLearningRate`] if `alpha` is negative (minus zero too), infinite or NaN. `theta` is
/// unchanged then.
pub fn apply(
    layout: &Layout,
    theta: &mut [f32],
    contributions: &[Contribution],
    alpha: f32,
    rule: Rule,
) -> Result<(), Error> {
    let Some(step) = Step::new(layout, theta, contributions, alpha, rule)? else {
        return Ok(());
    };
    step.tiles(theta, |_| ());
    Ok(())
}

/// Does what [`apply`] does, and returns the outline of the new `theta` (see [`crate::state`]).
/// Each tile is hashed while it is in the cache.
///
/// # Errors
/// As [`apply`].
pub fn apply_and_outline(
    layout: &Layout,
    theta: &mut [f32],
    contributions: &[Contribution],
    alpha: f32,
    rule: Rule,
) -> Result<StateOutline, Error> {
    match Step::new(layout, theta, contributions, alpha, rule)? {
        Some(step) if step.grid.tiles_are_blob_chunks() => {
            Ok(outline_of(layout, &step.tiles(theta, hash_values)))
        }
        step => {
            step.inspect(|step| _ = step.tiles(theta, |_| ()));
            outline(layout, theta)
        }
    }
}

/// The clip factors, `[contribution][tensor]`: `median / norm` if the norm is above the median, else
/// 1.
///
/// The median of a tensor is taken over the contributions whose norm of it is not zero. For an even
/// number of those it is the mean of the middle two, `(a + b) / 2` in f32.
///
/// All contributions must be of one layout. [`apply`] checks that; this function does not.
pub fn clip_factors(contributions: &[Contribution]) -> Vec<Vec<f32>> {
    let tensors = contributions
        .iter()
        .map(|contribution| contribution.norms().len())
        .max();
    let medians: Vec<f32> = (0..tensors.unwrap_or(0))
        .map(|tensor| {
            median(
                contributions
                    .iter()
                    .filter_map(|c| c.norms().get(tensor).copied()),
            )
        })
        .collect();
    let factor = |(&norm, &median): (&f32, &f32)| if norm > median { median / norm } else { 1.0 };
    contributions
        .iter()
        .map(|c| c.norms().iter().zip(&medians).map(factor).collect())
        .collect()
}

/// The median of the non-zero norms; 0 if there are none.
fn median(norms: impl Iterator<Item = f32>) -> f32 {
    let mut norms: Vec<f32> = norms.filter(|&norm| norm > 0.0).collect();
    norms.sort_unstable_by(f32::total_cmp);
    let half = norms.len() / 2;
    match (
        norms.len() % 2,
        norms.get(half.saturating_sub(1)),
        norms.get(half),
    ) {
        (1, _, Some(&middle)) => middle,
        (_, Some(&below), Some(&above)) => (below + above) / 2.0,
        _ => 0.0,
    }
}

/// An outer step whose arguments have been checked.
struct Step<'a> {
    grid: Grid,
    contributions: &'a [Contribution],
    clips: Vec<Vec<f32>>,
    alpha: f32,
    rule: Rule,
}

impl<'a> Step<'a> {
    /// Checks the arguments. Returns `None` if there are no contributions.
    fn new(
        layout: &Layout,
        theta: &[f32],
        contributions: &'a [Contribution],
        alpha: f32,
        rule: Rule,
    ) -> Result<Option<Self>, Error> {
        layout.check_length("theta", theta)?;
        if !alpha.is_finite() || alpha.is_sign_negative() {
            return Err(Error::OuterLearningRate);
        }
        let Some(first) = contributions.first() else {
            return Ok(None);
        };
        if let Some(position) = contributions.iter().position(|other| !other.is_like(first)) {
            return Err(Error::ForeignContribution { position });
        }
        Ok(Some(Self {
            grid: first.grid(layout)?,
            contributions,
            clips: clip_factors(contributions),
            alpha,
            rule,
        }))
    }

    /// Steps all weights tile by tile. Returns the result of `then` on each stepped tile, in order.
    fn tiles<T: Send>(&self, theta: &mut [f32], then: impl Fn(&[f32]) -> T + Sync) -> Vec<T> {
        let tiles = self
            .grid
            .split_tiles_mut(theta)
            .into_par_iter()
            .zip(self.grid.tiles())
            .enumerate();
        let step = |scratch: &mut Scratch,
                    (number, (theta, tile)): (usize, (&mut [f32], &Tile))| {
            let mut readers: Vec<_> = self
                .contributions
                .iter()
                .map(|one| one.tile(number, tile))
                .collect();
            for chunk in self.grid.chunks_of(tile) {
                step_chunk(
                    self,
                    &mut readers,
                    chunk,
                    &mut theta[tile.place(chunk)],
                    scratch,
                );
            }
            then(theta)
        };
        tiles.map_init(Scratch::default, step).collect()
    }
}

/// Working memory for one chunk, reused between chunks.
struct Scratch {
    /// The sum of each coordinate. As long as the longest chunk, so that no index of a kept value
    /// is out of bounds. Zero between chunks.
    sums: Box<[f32; MAX_CHUNK]>,
    /// The number of contributions that sent each coordinate. Zero between chunks.
    senders: Box<[u16; MAX_CHUNK]>,
    unpacked: Unpacked,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            sums: Box::new([0.0; _]),
            senders: Box::new([0; _]),
            unpacked: Unpacked::default(),
        }
    }
}

widest! {
    /// Steps a chunk's weights by the next chunk of every contribution.
    fn step_chunk(
        step: &Step<'_>,
        readers: &mut [TileReader<'_>],
        chunk: &Chunk,
        theta: &mut [f32],
        scratch: &mut Scratch,
    ) -> () = add_and_step
}

#[inline(always)]
fn add_and_step(
    step: &Step<'_>,
    readers: &mut [TileReader<'_>],
    chunk: &Chunk,
    theta: &mut [f32],
    scratch: &mut Scratch,
) {
    let Scratch {
        sums,
        senders,
        unpacked,
    } = scratch;
    // The next weights follow these in memory. Fetch them into the cache meanwhile.
    let ahead = theta.as_ptr().wrapping_add(theta.len());
    let blocks = theta.len().div_ceil(readers.len() * BLOCK);
    for (turn, (reader, clip)) in readers.iter_mut().zip(&step.clips).enumerate() {
        (turn * blocks..(turn + 1) * blocks)
            .for_each(|block| prefetch(ahead.wrapping_add(BLOCK * block)));
        let (scale, kept) = reader.next(chunk, unpacked);
        let scale = clip[chunk.tensor] * scale;
        for value in kept {
            sums[value.index()] += value.value(scale);
            senders[value.index()] += 1;
        }
    }
    // A coordinate that nobody sent has the sum 0, and `theta - alpha * 0` is `theta` whatever its
    // sign. So only the divisor needs a branch.
    let all = step.contributions.len() as f32;
    let blocks = theta
        .chunks_mut(BLOCK)
        .zip(sums.chunks_mut(BLOCK))
        .zip(senders.chunks_mut(BLOCK));
    for ((theta, sums), senders) in blocks {
        match step.rule {
            Rule::MeanOfSenders => {
                step_block(step.alpha, theta, sums, senders, |count| count.max(1.0))
            }
            Rule::RootOfSenders => step_block(step.alpha, theta, sums, senders, |count| {
                count.max(1.0).sqrt()
            }),
            Rule::MeanOfAll => step_block(step.alpha, theta, sums, senders, |_| all),
        }
        sums.fill(0.0);
        senders.fill(0);
    }
}

/// Weights stepped at a time, so that their sums are cleared while they are in the cache.
const BLOCK: usize = 64;

/// Steps some weights. `divisor` gives a sum's divisor for a number of senders.
#[inline(always)]
fn step_block(
    alpha: f32,
    theta: &mut [f32],
    sums: &[f32],
    senders: &[u16],
    divisor: impl Fn(f32) -> f32,
) {
    for ((theta, sum), &senders) in theta.iter_mut().zip(sums).zip(senders) {
        *theta -= alpha * (sum / divisor(senders.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::body;
    use crate::testing::{bits, layout, on_any_number_of_threads, settings, values};
    use crate::{Compression, compress, decode};
    use proptest::prelude::*;

    const RULES: [Rule; 3] = [Rule::MeanOfSenders, Rule::MeanOfAll, Rule::RootOfSenders];

    /// A contribution made from `values` by top-k and the quantiser.
    fn contribution(layout: &Layout, compression: &Compression, values: &[f32]) -> Contribution {
        let body = compress(
            layout,
            compression,
            &vec![0.0; values.len()],
            &mut values.to_vec(),
        )
        .unwrap();
        decode(layout, compression, &body, body.len()).unwrap()
    }

    /// Contributions with chunks of a single value, which are sent exactly.
    fn exact<const N: usize>(
        lengths: &[usize],
        values: &[[f32; N]],
    ) -> (Layout, Vec<Contribution>) {
        let (layout, one) = (layout(lengths), settings(1, 1));
        let contributions = values
            .iter()
            .map(|values| contribution(&layout, &one, values))
            .collect();
        (layout, contributions)
    }

    fn applied(
        layout: &Layout,
        theta: &[f32],
        set: &[Contribution],
        alpha: f32,
        rule: Rule,
    ) -> Vec<f32> {
        let mut theta = theta.to_vec();
        apply(layout, &mut theta, set, alpha, rule).unwrap();
        theta
    }

    #[test]
    fn each_rule_divides_by_its_own_count() {
        let (layout, set) = exact(
            &[1, 1, 1],
            &[
                [1.0, 2.0, 0.0],
                [1.0, 0.0, 0.0],
                [4.0, 0.0, 0.0],
                [1.0, -2.0, 0.0],
            ],
        );
        // Only the third contribution's first tensor is above the median, 1, and clipped to it.
        let theta = [8.0, 8.0, 8.0];
        assert_eq!(
            applied(&layout, &theta, &set, 0.5, Rule::MeanOfSenders),
            [7.5, 8.0, 8.0]
        );
        assert_eq!(
            applied(&layout, &theta, &set[..3], 0.5, Rule::MeanOfSenders),
            [7.5, 7.0, 8.0]
        );
        assert_eq!(
            applied(&layout, &theta, &set[..2], 0.5, Rule::MeanOfAll),
            [7.5, 7.5, 8.0]
        );
        assert_eq!(
            applied(&layout, &theta, &set, 0.5, Rule::RootOfSenders),
            [7.0, 8.0, 8.0]
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let median = |norms: &[f32]| super::median(norms.iter().copied());
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[0.0, 0.0]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median(&[0.0, 9.0, 0.0, 0.0, 1.0]), 5.0);
    }

    #[test]
    fn norms_above_the_median_are_clipped_to_it() {
        let (_, set) = exact(&[1, 1], &[[1.0, 1.0], [2.0, 0.0], [8.0, 0.0]]);
        assert_eq!(clip_factors(&set), [[1.0, 1.0], [1.0, 1.0], [0.25, 1.0]]);
        assert_eq!(clip_factors(&[]), Vec::<Vec<f32>>::new());
    }

    #[test]
    fn an_empty_decision_changes_nothing() {
        let (layout, zeros) = exact(&[2], &[[0.0, 0.0]]);
        let theta = [-0.0, f32::from_bits(1)];
        for rule in RULES {
            assert_eq!(
                bits(&applied(&layout, &theta, &[], 1.0, rule)),
                bits(&theta)
            );
            assert_eq!(
                bits(&applied(&layout, &theta, &zeros, 1.0, rule)),
                bits(&theta)
            );
        }
    }

    #[test]
    fn a_coordinate_that_nobody_sent_keeps_its_bits() {
        let layout = layout(&[4]);
        let set = [contribution(
            &layout,
            &settings(4, 1),
            &[0.0, 1.0, 0.0, 0.0],
        )];
        for alpha in [0.0, 0.7] {
            let theta = [-0.0, 1.0, f32::from_bits(1), -1e30];
            let after = applied(&layout, &theta, &set, alpha, Rule::MeanOfSenders);
            let untouched = |values: &[f32]| [bits(&values[..1]), bits(&values[2..])].concat();
            assert_eq!(untouched(&after), untouched(&theta));
        }
    }

    #[test]
    fn what_cannot_be_applied_leaves_the_weights_alone() {
        let (layout, set) = exact(&[2], &[[1.0, 2.0]]);
        let foreign = contribution(
            &crate::testing::layout(&[1, 1]),
            &settings(1, 1),
            &[1.0, 2.0],
        );
        let other_settings = contribution(&layout, &settings(2, 2), &[1.0, 2.0]);
        let mut theta = [1.0, 2.0];
        let mut refusal = |set: &[Contribution], alpha| {
            let refused = apply(&layout, &mut theta, set, alpha, Rule::MeanOfSenders);
            assert_eq!(theta, [1.0, 2.0]);
            refused.unwrap_err()
        };
        for alpha in [-1.0, -0.0, f32::NAN, f32::INFINITY] {
            assert_eq!(refusal(&set, alpha), Error::OuterLearningRate);
        }
        assert_eq!(
            refusal(std::slice::from_ref(&foreign), 1.0),
            Error::ForeignContribution { position: 0 }
        );
        assert_eq!(
            refusal(&[set[0].clone(), foreign], 1.0),
            Error::ForeignContribution { position: 1 }
        );
        assert_eq!(
            refusal(&[set[0].clone(), other_settings], 1.0),
            Error::ForeignContribution { position: 1 }
        );
        let short = apply(&layout, &mut theta[1..], &set, 1.0, Rule::MeanOfSenders);
        assert!(matches!(
            short,
            Err(Error::Length {
                expected: 2,
                got: 1,
                ..
            })
        ));
    }

    /// The definition, one coordinate at a time.
    fn by_definition(
        layout: &Layout,
        theta: &[f32],
        set: &[Contribution],
        alpha: f32,
        rule: Rule,
    ) -> Vec<f32> {
        let clips = clip_factors(set);
        let dense = |(contribution, clip): (&Contribution, &Vec<f32>)| {
            let mut dense = vec![0.0; theta.len()];
            contribution
                .add_clipped_to(layout, &mut dense, 1.0, clip)
                .unwrap();
            dense
        };
        let dense: Vec<Vec<f32>> = set.iter().zip(&clips).map(dense).collect();
        let step = |(place, &theta): (usize, &f32)| {
            let sent = dense
                .iter()
                .map(|values| values[place])
                .filter(|&value| value != 0.0);
            let senders = sent.clone().count();
            let sum = sent.fold(0.0, |sum: f32, value| sum + value);
            let divisor = match rule {
                Rule::MeanOfSenders => senders.max(1) as f32,
                Rule::MeanOfAll => set.len().max(1) as f32,
                Rule::RootOfSenders => (senders.max(1) as f32).sqrt(),
            };
            theta - alpha * (sum / divisor)
        };
        theta.iter().enumerate().map(step).collect()
    }

    proptest! {
        #[test]
        fn applying_is_the_definition_to_the_bit(
            lengths in prop::collection::vec(1usize..150, 1..4),
            peers in 0u64..7, seed in 0u64..1 << 32, alpha in 0.0f32..2.0, rule in 0usize..3,
        ) {
            let (layout, compression) = (layout(&lengths), settings(32, 5));
            let theta = values(seed, layout.parameters());
            let set: Vec<Contribution> = (1..=peers)
                .map(|peer| contribution(&layout, &compression, &values(seed + peer, layout.parameters())))
                .collect();
            let rule = RULES[rule];
            let after = applied(&layout, &theta, &set, alpha, rule);
            prop_assert_eq!(bits(&after), bits(&by_definition(&layout, &theta, &set, alpha, rule)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_weights_do_not_depend_on_the_tiles(
            lengths in prop::collection::vec(1usize..40_000, 1..4), tile in 1usize..50_000, seed in 0u64..1 << 32,
            rule in 0usize..3,
        ) {
            let (layout, compression) = (layout(&lengths), settings(1024, 20));
            let bodies: Vec<Vec<u8>> = (1..=3)
                .map(|peer| contribution(&layout, &compression, &values(seed + peer, layout.parameters())).body().to_vec())
                .collect();
            let rule = RULES[rule];
            let stepped = |tile: usize| {
                let grid = Grid::with_tiles(&layout, &compression, tile).unwrap();
                let decode = |body: &Vec<u8>| body::decode(&compression, &grid, body).unwrap();
                let set: Vec<_> = bodies.iter().map(|body| Contribution::new(&layout, &compression, &grid, decode(body))).collect();
                let mut theta = values(seed, layout.parameters());
                let step = Step { grid, contributions: &set, clips: clip_factors(&set), alpha: 0.7, rule };
                step.tiles(&mut theta, |_| ());
                bits(&theta)
            };
            prop_assert_eq!(stepped(tile), stepped(usize::MAX));
        }
    }

    #[test]
    fn the_outline_is_of_the_stepped_weights() {
        for chunk in [64, 4096, 1000] {
            let (layout, compression) = (
                layout(&[(1 << 18) + 70_000, 3, 5000]),
                settings(chunk, chunk.div_ceil(64)),
            );
            let set: Vec<_> = (1..=3)
                .map(|peer| contribution(&layout, &compression, &values(peer, layout.parameters())))
                .collect();
            for set in [&set[..], &[]] {
                let mut theta = values(0, layout.parameters());
                let outlined =
                    apply_and_outline(&layout, &mut theta, set, 0.7, Rule::MeanOfSenders);
                assert_eq!(
                    bits(&theta),
                    bits(&applied(
                        &layout,
                        &values(0, theta.len()),
                        set,
                        0.7,
                        Rule::MeanOfSenders
                    ))
                );
                assert_eq!(outlined, outline(&layout, &theta));
            }
        }
    }

    #[test]
    fn wide_vectors_change_no_bit() {
        let (layout, compression) = (layout(&[4096 * 3 + 1000]), settings(4096, 64));
        let contributions: Vec<Contribution> = (1..=7)
            .map(|peer| contribution(&layout, &compression, &values(peer, layout.parameters())))
            .collect();
        for rule in RULES {
            let theta = values(0, layout.parameters());
            let step = Step::new(&layout, &theta, &contributions, 0.7, rule)
                .unwrap()
                .unwrap();
            let tile = &step.grid.tiles()[0];
            let stepped_by = |step_by: fn(
                &Step<'_>,
                &mut [TileReader<'_>],
                &Chunk,
                &mut [f32],
                &mut Scratch,
            )| {
                let (mut theta, mut scratch) = (theta.clone(), Scratch::default());
                let mut readers: Vec<_> =
                    contributions.iter().map(|one| one.tile(0, tile)).collect();
                for chunk in step.grid.chunks() {
                    step_by(
                        &step,
                        &mut readers,
                        chunk,
                        &mut theta[chunk.range()],
                        &mut scratch,
                    );
                }
                bits(&theta)
            };
            assert_eq!(stepped_by(step_chunk), stepped_by(add_and_step));
        }
    }

    #[test]
    fn the_weights_do_not_depend_on_the_number_of_threads() {
        let (layout, compression) = (layout(&[100_000, 1, 4097, 300]), settings(4096, 64));
        let theta = values(0, layout.parameters());
        let set: Vec<Contribution> = (1..=9)
            .map(|peer| contribution(&layout, &compression, &values(peer, layout.parameters())))
            .collect();
        for rule in RULES {
            on_any_number_of_threads(|| bits(&applied(&layout, &theta, &set, 0.7, rule)));
        }
    }
}
