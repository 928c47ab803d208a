//! Error feedback: what is not sent in this round is sent later.
//!
//! With Δ the pseudo-gradient (the weights before the inner steps minus those after), e the error
//! feedback and β the decay:
//!
//! ```text
//! v  = β e + Δ              to send
//! sent = Q(top-k(v))        compressed
//! e' = v - sent             left for later rounds
//! ```
//!
//! This is SparseLoCo (arXiv 2508.15706, algorithm 1); here Q keeps a sign per value and one scale
//! per chunk. Plain error feedback (β = 1; arXiv 1901.09847) never forgets anything. With β below 1
//! values fade that have waited since weights of many rounds ago.
//!
//! Apart from the decay nothing is lost. Where nothing was sent, `e' = v` to the bit. Elsewhere
//! `e'` is `v - sent` rounded once, and exact if `v` is between half of and twice the value sent
//! (Sterbenz's lemma).
//!
//! It all takes one pass over memory: Δ and e are read once, and e' overwrites Δ, 12 bytes per
//! parameter in all. In between a chunk stays in the cache.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::codec::body;
use crate::codec::record::{self, Shape};
use crate::codec::rice::Rice;
use crate::grid::{Chunk, Grid};
use crate::quantise::{Kept, Scale};
use crate::simd::{multiversion, prefetch};
use crate::{Compression, Contribution, Error, Layout, topk};

/// Turns the weights after the inner steps into the pseudo-gradient: `local <- base - local`.
///
/// # Errors
/// [`Error::Length`] if their lengths differ. `local` is unchanged then.
pub fn pseudo_gradient(base: &[f32], local: &mut [f32]) -> Result<(), Error> {
    if base.len() != local.len() {
        return Err(Error::Length {
            what: "local",
            expected: base.len(),
            got: local.len(),
        });
    }
    let pieces = local
        .par_chunks_mut(VALUES_AT_A_TIME)
        .zip(base.par_chunks(VALUES_AT_A_TIME));
    pieces.for_each(|(local, base)| {
        local
            .iter_mut()
            .zip(base)
            .for_each(|(local, base)| *local = base - *local)
    });
    Ok(())
}

/// Compresses a round's pseudo-gradient to the body of a contribution.
///
/// `delta` is the pseudo-gradient (see [`pseudo_gradient`]) and `error` the error feedback (zeros
/// for a new peer), each with one value per parameter. Afterwards `delta` is the next round's error
/// feedback, on the assumption that the contribution will be applied. If it is not chosen, add it
/// back with [`add_back`]. The bytes do not depend on the number of threads.
///
/// # Errors
/// [`Error::Length`], [`Error::Compression`], and [`Error::NotFinite`], which names the tensor, if
/// `error` or the sum to send has a NaN or an infinity. The contents of `delta` are unusable after
/// [`Error::NotFinite`].
pub fn compress(
    layout: &Layout,
    compression: &Compression,
    error: &[f32],
    delta: &mut [f32],
) -> Result<Vec<u8>, Error> {
    layout.check_length("error", error)?;
    layout.check_length("delta", delta)?;
    let grid = Grid::new(layout, compression)?;
    let (decay, rice) = (compression.decay(), Rice::for_settings(compression));

    let mut records = vec![0; grid.record_words()];
    let not_finite = AtomicUsize::new(usize::MAX);
    let outputs = (
        grid.split_records_mut(&mut records),
        grid.split_values_mut(delta),
    )
        .into_par_iter();
    let chunks = outputs
        .zip(grid.chunks())
        .enumerate()
        .with_min_len(CHUNKS_AT_A_TIME);
    chunks.for_each_init(
        Scratch::default,
        |scratch, (number, ((record, values), chunk))| match compress_chunk(
            decay,
            &error[chunk.range()],
            values,
            chunk.keep,
            scratch,
        ) {
            Some(scale) => {
                let shape = Shape::of(rice, chunk.length, chunk.keep);
                record::write(record, rice, shape, scale, scratch.kept.iter().copied());
            }
            None => _ = not_finite.fetch_min(number, Ordering::Relaxed),
        },
    );
    match grid.chunks().get(not_finite.into_inner()) {
        None => Ok(body::assemble(rice, &grid, &records)),
        Some(chunk) => Err(diagnose(layout, chunk, error, delta)),
    }
}

/// Adds a contribution that was not chosen back to the error feedback:
/// `error <- error + decoded`.
///
/// # Errors
/// [`Error::Length`] if `error` does not match the layout, [`Error::ForeignContribution`] if the
/// contribution does not. `error` is unchanged then.
pub fn add_back(
    layout: &Layout,
    contribution: &Contribution,
    error: &mut [f32],
) -> Result<(), Error> {
    contribution.add_to(layout, error, 1.0)
}

/// Chunks per parallel task: enough to hide the cost of scheduling.
pub(crate) const CHUNKS_AT_A_TIME: usize = 8;
/// Values per parallel task, for work without chunks.
const VALUES_AT_A_TIME: usize = 1 << 15;

/// Working memory, reused between chunks.
#[derive(Default)]
pub(crate) struct Scratch {
    topk: topk::Scratch,
    indices: Vec<u16>,
    /// The current chunk's kept values; empty if its scale is zero.
    pub(crate) kept: Vec<Kept>,
}

multiversion! {
    /// Turns a chunk's pseudo-gradient into its next error feedback, puts the `keep` values to
    /// send into `scratch.kept`, and returns the scale; `None` if something is not finite.
    pub(crate) fn compress_chunk(
        decay: f32,
        error: &[f32],
        values: &mut [f32],
        keep: usize,
        scratch: &mut Scratch,
    ) -> Option<Scale> = accumulate_and_send
}

#[inline(always)]
fn accumulate_and_send(
    decay: f32,
    error: &[f32],
    values: &mut [f32],
    keep: usize,
    scratch: &mut Scratch,
) -> Option<Scale> {
    // The next chunk follows this one in memory. Fetch it into the cache meanwhile.
    let next = (error.as_ptr_range().end, values.as_ptr_range().end);
    let ahead = |block: usize| {
        prefetch(next.0.wrapping_add(topk::BLOCK * block));
        prefetch(next.1.wrapping_add(topk::BLOCK * block));
    };
    accumulate(decay, error, values).then(|| send(values, keep, scratch, ahead))
}

/// `values <- decay * error + values`; returns whether all results are finite.
#[inline(always)]
fn accumulate(decay: f32, error: &[f32], values: &mut [f32]) -> bool {
    // No early exit: a loop without branches runs at the speed of memory.
    values
        .iter_mut()
        .zip(error)
        .fold(true, |finite, (value, error)| {
            *value += decay * error;
            finite & value.is_finite()
        })
}

/// Names the value that is not finite in a chunk for which [`accumulate`] returned false.
fn diagnose(layout: &Layout, chunk: &Chunk, error: &[f32], values: &[f32]) -> Error {
    let place = chunk
        .range()
        .find(|&place| !values[place].is_finite())
        .unwrap_or(chunk.start);
    let what = if error[place].is_finite() {
        "the pseudo-gradient"
    } else {
        "the error feedback"
    };
    let tensor = layout.tensors()[chunk.tensor].name.clone();
    Error::NotFinite {
        what,
        tensor,
        index: place - layout.range(chunk.tensor).start,
    }
}

/// Puts a chunk's largest values into `scratch.kept`, subtracts what they decode to from `values`,
/// and returns the scale. If the scale rounds to zero, nothing is kept and nothing subtracted.
#[inline(always)]
fn send(values: &mut [f32], keep: usize, scratch: &mut Scratch, ahead: impl Fn(usize)) -> Scale {
    let Scratch {
        topk,
        indices,
        kept,
    } = scratch;
    indices.resize(keep, 0);
    topk::select(values, topk, indices, ahead);
    kept.clear();
    let scale = Scale::of(
        indices
            .iter()
            .map(|&index| values[usize::from(index)].abs()),
    );
    if scale != Scale::ZERO {
        kept.extend(indices.iter().map(|&index| {
            let value = &mut values[usize::from(index)];
            // Test the value, not the sign bit: minus zero is not negative.
            let sent = Kept::new(index, *value < 0.0);
            *value -= sent.value(scale.to_f32());
            sent
        }));
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use crate::testing::{bits, layout, on_any_number_of_threads, settings, values};
    use proptest::prelude::*;

    /// Compresses `delta`, and returns what was sent and the next error feedback.
    fn sent_and_left(
        lengths: &[usize],
        compression: &Compression,
        delta: &[f32],
        error: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let layout = layout(lengths);
        let mut left = delta.to_vec();
        let body = compress(&layout, compression, error, &mut left)?;
        let contribution = decode(&layout, compression, &body, body.len())?;
        assert_eq!(contribution.body(), body);
        let mut sent = vec![0.0; delta.len()];
        contribution.add_to(&layout, &mut sent, 1.0)?;
        Ok((sent, left))
    }

    fn magnitudes() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => -1.0f32..1.0,
            1 => any::<f32>().prop_map(|value| if value.is_finite() { value / 4.0 } else { 0.0 }),
            1 => (0u32..3).prop_map(f32::from_bits),
            1 => Just(-0.0f32),
        ]
    }

    proptest! {
        /// The error feedback and what was sent add up to what was to be sent: to the bit where
        /// nothing was sent, elsewhere within half a unit in the last place of the error feedback.
        #[test]
        fn nothing_is_lost(
            (delta, error) in prop::collection::vec((magnitudes(), magnitudes()), 1..300)
                .prop_map(|pairs| pairs.into_iter().unzip::<f32, f32, Vec<_>, Vec<_>>()),
            (chunk, keep) in (1usize..64).prop_flat_map(|chunk| (Just(chunk), 1..=chunk)),
            decay_ppm in 0u32..=1_000_000,
        ) {
            let compression = Compression { chunk, keep, decay_ppm };
            let (sent, left) = sent_and_left(&[delta.len()], &compression, &delta, &error).unwrap();
            for (place, (&sent, &left)) in sent.iter().zip(&left).enumerate() {
                let total = delta[place] + compression.decay() * error[place];
                if sent == 0.0 {
                    prop_assert_eq!(left.to_bits(), total.to_bits());
                } else {
                    prop_assert_eq!(left.to_bits(), (total - sent).to_bits());
                    let lost = f64::from(total) - f64::from(sent) - f64::from(left);
                    let half_unit = f64::from(left.abs()) * 2f64.powi(-24);
                    // f64 holds the difference of two f32 only up to its own 53 bits.
                    let slack = f64::from(total.abs().max(sent.abs())) * 2f64.powi(-52);
                    prop_assert!(lost.abs() <= half_unit + slack, "{} {} {}", total, sent, left);
                }
            }
        }
    }

    #[test]
    fn without_decay_everything_is_sent_eventually() {
        let compression = Compression {
            chunk: 64,
            keep: 4,
            decay_ppm: 1_000_000,
        };
        let delta = values(7, 200);
        let (mut total, mut error) = (vec![0.0; 200], vec![0.0; 200]);
        let mut rest = delta.clone();
        for _ in 0..200 {
            let (sent, left) = sent_and_left(&[150, 50], &compression, &rest, &error).unwrap();
            total
                .iter_mut()
                .zip(sent)
                .for_each(|(total, sent)| *total += sent);
            error = left;
            rest.fill(0.0);
        }
        for (total, delta) in total.iter().zip(&delta) {
            assert!((total - delta).abs() < 1e-4, "{total} of {delta}");
        }
    }

    #[test]
    fn the_largest_are_sent_with_their_mean_magnitude() {
        let compression = settings(8, 2);
        let delta = [
            0.0, 3.0, 0.5, -1.0, 0.25, 0.0, 0.0, 0.0, /* the second chunk */ -0.125,
        ];
        let (sent, left) = sent_and_left(&[9], &compression, &delta, &[0.0; 9]).unwrap();
        assert_eq!(sent, [0.0, 2.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.0, -0.125]);
        assert_eq!(left, [0.0, 1.0, 0.5, 1.0, 0.25, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn chunks_never_share_a_scale_across_tensors() {
        let (sent, _) = sent_and_left(
            &[1, 1, 2],
            &settings(4, 4),
            &[1.0, 2.0, -3.0, 5.0],
            &[0.0; 4],
        )
        .unwrap();
        assert_eq!(sent, [1.0, 2.0, -4.0, 4.0]);
    }

    #[test]
    fn zeros_are_not_sent() {
        let layout = layout(&[5000, 1]);
        let zeros = vec![0.0; 5001];
        let body = compress(&layout, &Compression::default(), &zeros, &mut zeros.clone()).unwrap();
        // One bit for each of the three chunks.
        assert_eq!(body, [0b111]);
    }

    #[test]
    fn values_too_small_for_a_scale_wait() {
        let tiny = [f32::from_bits(1), -f32::MIN_POSITIVE, 1e-9];
        let (sent, left) = sent_and_left(&[3], &settings(4, 4), &tiny, &[0.0; 3]).unwrap();
        assert_eq!(sent, [0.0; 3]);
        assert_eq!(bits(&left), bits(&tiny));
    }

    #[test]
    fn a_value_too_large_for_a_scale_is_sent_in_parts() {
        let (sent, left) = sent_and_left(&[1], &settings(4, 4), &[-1000.0], &[0.0]).unwrap();
        assert_eq!((sent[0], left[0]), (-215.25, -784.75));
    }

    #[test]
    fn minus_zero_is_not_negative() {
        let (sent, _) = sent_and_left(&[2], &settings(2, 2), &[-0.0, 1.0], &[0.0; 2]).unwrap();
        assert_eq!(sent, [0.5, 0.5]);
    }

    #[test]
    fn a_value_that_is_not_finite_is_named() {
        let layout = layout(&[5000, 10]);
        let clean = vec![0.5; 5010];
        let spoilt = |value: f32| {
            let mut spoilt = clean.clone();
            spoilt[5003] = value;
            spoilt
        };
        let check = |error: &[f32], delta: &[f32], blame: &str| match compress(
            &layout,
            &Compression::default(),
            error,
            &mut delta.to_vec(),
        ) {
            Err(Error::NotFinite {
                what,
                tensor,
                index,
            }) => {
                assert_eq!((what, tensor.as_str(), index), (blame, "t1", 3));
            }
            other => panic!("{other:?}"),
        };
        for poison in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            check(&clean, &spoilt(poison), "the pseudo-gradient");
            check(&spoilt(poison), &clean, "the error feedback");
        }
        check(&spoilt(f32::MAX), &spoilt(f32::MAX), "the pseudo-gradient");
    }

    #[test]
    fn buffers_of_another_layout_are_refused() {
        let layout = layout(&[4]);
        let what = |error: &[f32], delta: &mut [f32]| match compress(
            &layout,
            &Compression::default(),
            error,
            delta,
        ) {
            Err(Error::Length {
                what,
                expected: 4,
                got: 3,
            }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(&[0.0; 3], &mut [0.0; 4]), "error");
        assert_eq!(what(&[0.0; 4], &mut [0.0; 3]), "delta");
        assert!(matches!(
            pseudo_gradient(&[0.0; 4], &mut [0.0; 3]),
            Err(Error::Length { what: "local", .. })
        ));
    }

    #[test]
    fn a_pseudo_gradient_is_before_minus_after() {
        let mut local = values(1, 100_000);
        let expected: Vec<f32> = local.iter().map(|local| 0.25 - local).collect();
        pseudo_gradient(&[0.25; 100_000], &mut local).unwrap();
        assert_eq!(bits(&local), bits(&expected));
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let layout = layout(&[100_000, 1, 4097, 300]);
        let error = values(1, layout.parameters());
        on_any_number_of_threads(|| {
            let mut delta = values(2, layout.parameters());
            let body = compress(&layout, &Compression::default(), &error, &mut delta).unwrap();
            (body, bits(&delta))
        });
    }

    type CompressChunk = fn(f32, &[f32], &mut [f32], usize, &mut Scratch) -> Option<Scale>;

    /// Compresses random chunks with `compress`. Some have ties, denormals or NaNs.
    fn compressed_by(compress: CompressChunk) -> Vec<(Option<Scale>, Vec<Kept>, Vec<u32>)> {
        let spoil = |seed: u64, values: &mut Vec<f32>| match seed % 5 {
            1 => values.iter_mut().step_by(7).for_each(|value| *value = 0.01),
            2 => values
                .iter_mut()
                .for_each(|value| *value *= f32::MIN_POSITIVE),
            3 => values[seed as usize % 64] = f32::NAN,
            _ => {}
        };
        let chunk = |seed: u64| {
            let length = 64 + seed as usize * 37 % 4033;
            let (error, mut delta) = (values(seed, length), values(seed + 1000, length));
            spoil(seed, &mut delta);
            let mut scratch = Scratch::default();
            let scale = compress(0.95, &error, &mut delta, length.div_ceil(64), &mut scratch);
            (scale, scratch.kept, bits(&delta))
        };
        (0..100).map(chunk).collect()
    }

    #[test]
    fn avx2_changes_no_bit() {
        assert!(compressed_by(compress_chunk) == compressed_by(accumulate_and_send));
    }

    #[test]
    fn a_contribution_that_was_not_chosen_is_added_back() {
        let layout = layout(&[8]);
        let compression = settings(8, 2);
        let delta = [0.0, -4.0, 0.0, 2.0, 0.0, 0.0, -0.5, 0.0];
        let mut left = delta;
        let body = compress(&layout, &compression, &[0.0; 8], &mut left).unwrap();
        let contribution = decode(&layout, &compression, &body, body.len()).unwrap();
        assert_ne!(left, delta);
        add_back(&layout, &contribution, &mut left).unwrap();
        assert_eq!(left, delta);
    }
}
