//! Error feedback: what could not be sent this round is sent later.
//!
//! With `base` the round's weights, `local` those after the inner steps, and β the decay:
//!
//! ```text
//! v     = β e + (base - local)      what there is to send
//! sent  = Q(top-k(v))               what fits
//! e    <- v - sent                  what is left
//! ```
//!
//! This is SparseLoCo (arXiv 2508.15706, algorithm 1), with a sign and one scale a chunk for Q. Plain
//! error feedback (β = 1; arXiv 1901.09847) never loses anything; β below 1 forgets what has been
//! waiting since weights that are long gone.
//!
//! Nothing is lost beyond the decay: where nothing was sent, `e = v` to the bit; where something was,
//! `e` is `v - sent` rounded once, and exact whenever `v` is between half and twice what was sent
//! (Sterbenz's lemma).

use rayon::prelude::*;

use crate::codec::body::{self, Planes};
use crate::contribution::CHUNKS_AT_A_TIME;
use crate::grid::{Chunk, Grid};
use crate::quantise::{Kept, Scale};
use crate::{Compression, Contribution, Error, Layout, topk};

/// Compresses a round's pseudo-gradient to the body of a contribution.
///
/// `base` are the weights at the round's start, `local` those after the inner steps, `error` the
/// error feedback (zeros for a new peer), each with one value for every parameter. `error` is brought
/// up to date as if the contribution will be applied; if it isn't chosen, give it back with
/// [`add_back`]. The bytes are the same for any number of threads.
///
/// # Errors
/// [`Error::Length`], [`Error::Compression`], and [`Error::NotFinite`], which names the tensor, where
/// `local`, `base`, `error` or what there is to send has a NaN or an infinity. `error` is then as it
/// was.
pub fn compress(
    layout: &Layout,
    compression: &Compression,
    base: &[f32],
    local: &[f32],
    error: &mut [f32],
) -> Result<Vec<u8>, Error> {
    layout.check_length("base", base)?;
    layout.check_length("local", local)?;
    layout.check_length("error", error)?;
    let grid = Grid::new(layout, compression)?;
    let decay = compression.decay();
    check_finite(layout, &grid, &Sources { decay, base, local, error })?;

    let mut planes = Planes::zero(&grid);
    let kept = grid.split_kept_mut(&mut planes.kept);
    let error = grid.split_values_mut(error);
    let outputs = (&mut planes.scales, kept, error).into_par_iter().zip(grid.chunks());
    outputs.with_min_len(CHUNKS_AT_A_TIME).for_each_init(Scratch::default, |scratch, ((scale, kept, error), chunk)| {
        accumulate(decay, &base[chunk.range()], &local[chunk.range()], error);
        *scale = send(error, kept, scratch);
    });
    Ok(body::encode(compression, &grid, &planes))
}

/// Gives back to the error feedback what a contribution carried that was not chosen:
/// `error <- error + decoded`.
///
/// # Errors
/// [`Error::Length`] when `error` is not of this layout, [`Error::ForeignContribution`] when the
/// contribution isn't. `error` is unchanged then.
pub fn add_back(layout: &Layout, contribution: &Contribution, error: &mut [f32]) -> Result<(), Error> {
    contribution.add_to(layout, error, 1.0)
}

/// Working memory, kept between chunks.
#[derive(Default)]
struct Scratch {
    topk: topk::Scratch,
    indices: Vec<u16>,
}

/// `error <- decay * error + (base - local)`.
fn accumulate(decay: f32, base: &[f32], local: &[f32], error: &mut [f32]) {
    for ((error, base), local) in error.iter_mut().zip(base).zip(local) {
        *error = to_send(decay, *base, *local, *error);
    }
}

#[inline]
fn to_send(decay: f32, base: f32, local: f32, error: f32) -> f32 {
    decay * error + (base - local)
}

/// Writes a chunk's largest values to `kept`, takes what they decode to out of `values`, and returns
/// the scale. Where the scale rounds to zero, nothing is kept and nothing taken.
fn send(values: &mut [f32], kept: &mut [Kept], scratch: &mut Scratch) -> Scale {
    let indices = &mut scratch.indices;
    indices.resize(kept.len(), 0);
    topk::select(values, &mut scratch.topk, indices);
    let scale = Scale::of(indices.iter().map(|&index| values[usize::from(index)].abs()));
    if scale == Scale::ZERO {
        return scale;
    }
    for (kept, &index) in kept.iter_mut().zip(indices.iter()) {
        let value = &mut values[usize::from(index)];
        // Not the sign bit: minus zero is no negative value.
        *kept = Kept::new(index, *value < 0.0);
        *value -= kept.value(scale.to_f32());
    }
    scale
}

/// What a pseudo-gradient is made of.
struct Sources<'a> {
    decay: f32,
    base: &'a [f32],
    local: &'a [f32],
    error: &'a [f32],
}

/// Checks everything that [`compress`] is about to send, before it changes anything.
fn check_finite(layout: &Layout, grid: &Grid, sources: &Sources<'_>) -> Result<(), Error> {
    let chunks = grid.chunks().par_iter().with_min_len(CHUNKS_AT_A_TIME);
    match chunks.find_first(|chunk| !sources.are_finite(chunk)) {
        None => Ok(()),
        Some(chunk) => Err(sources.diagnose(layout, chunk)),
    }
}

impl Sources<'_> {
    /// Whether all that is to be sent of a chunk is finite, for which all its sources must be.
    fn are_finite(&self, chunk: &Chunk) -> bool {
        let (base, local) = (&self.base[chunk.range()], &self.local[chunk.range()]);
        let sources = self.error[chunk.range()].iter().zip(base).zip(local);
        // No early way out: a loop without branches runs at the speed of memory.
        sources.fold(true, |finite, ((error, base), local)| {
            finite & to_send(self.decay, *base, *local, *error).is_finite()
        })
    }

    /// Says which source of a chunk is to blame.
    fn diagnose(&self, layout: &Layout, chunk: &Chunk) -> Error {
        let found = chunk.range().find_map(|place| {
            let (base, local, error) = (self.base[place], self.local[place], self.error[place]);
            let candidates = [
                ("the local weight", local),
                ("the base weight", base),
                ("the error feedback", error),
                ("the pseudo-gradient", to_send(self.decay, base, local, error)),
            ];
            let guilty = candidates.into_iter().find(|(_, value)| !value.is_finite());
            guilty.map(|(what, _)| (what, place))
        });
        let (what, place) = found.unwrap_or(("the pseudo-gradient", chunk.start));
        let tensor = layout.tensors()[chunk.tensor].name.clone();
        Error::NotFinite { what, tensor, index: place - layout.range(chunk.tensor).start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use crate::testing::{bits, layout, on_any_number_of_threads, settings, values};
    use proptest::prelude::*;

    /// Compresses `delta` (as `0 - (-delta)`), and returns what was sent and what is left.
    fn sent_and_left(
        lengths: &[usize],
        compression: &Compression,
        delta: &[f32],
        error: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let layout = layout(lengths);
        let base = vec![0.0; delta.len()];
        let local: Vec<f32> = delta.iter().map(|value| -value).collect();
        let mut left = error.to_vec();
        let body = compress(&layout, compression, &base, &local, &mut left)?;
        let contribution = decode(&layout, compression, &body, body.len())?;
        assert_eq!(contribution.encode(&layout)?, body);
        let mut sent = base;
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
        /// What is left and what was sent add up to what there was to send: to the bit where nothing
        /// was sent, and within half a unit in the last place of what is left elsewhere.
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
                let total = compression.decay() * error[place] + (0.0 - -delta[place]);
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
    fn without_decay_all_is_sent_in_the_end() {
        let compression = Compression { chunk: 64, keep: 4, decay_ppm: 1_000_000 };
        let delta = values(7, 200);
        let (mut total, mut error) = (vec![0.0; 200], vec![0.0; 200]);
        let mut rest = delta.clone();
        for _ in 0..200 {
            let (sent, left) = sent_and_left(&[150, 50], &compression, &rest, &error).unwrap();
            total.iter_mut().zip(sent).for_each(|(total, sent)| *total += sent);
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
        let delta = [0.0, 3.0, 0.5, -1.0, 0.25, 0.0, 0.0, 0.0, /* the second chunk */ -0.125];
        let (sent, left) = sent_and_left(&[9], &compression, &delta, &[0.0; 9]).unwrap();
        assert_eq!(sent, [0.0, 2.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.0, -0.125]);
        assert_eq!(left, [0.0, 1.0, 0.5, 1.0, 0.25, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn each_tensor_has_scales_of_its_own() {
        let (sent, _) = sent_and_left(&[1, 1, 2], &settings(4, 4), &[1.0, 2.0, -3.0, 5.0], &[0.0; 4]).unwrap();
        assert_eq!(sent, [1.0, 2.0, -4.0, 4.0]);
    }

    #[test]
    fn zeros_are_not_sent() {
        let layout = layout(&[5000, 1]);
        let zeros = vec![0.0; 5001];
        let body = compress(&layout, &Compression::default(), &zeros, &zeros, &mut zeros.clone()).unwrap();
        assert_eq!(body, [0; 6]);
    }

    #[test]
    fn what_is_too_small_for_a_half_waits() {
        let tiny = [f32::from_bits(1), -f32::MIN_POSITIVE, 1e-9];
        let (sent, left) = sent_and_left(&[3], &settings(4, 4), &tiny, &[0.0; 3]).unwrap();
        assert_eq!(sent, [0.0; 3]);
        assert_eq!(bits(&left), bits(&tiny));
    }

    #[test]
    fn what_is_too_large_for_a_half_is_sent_bit_by_bit() {
        let (sent, left) = sent_and_left(&[1], &settings(4, 4), &[-100_000.0], &[0.0]).unwrap();
        assert_eq!((sent[0], left[0]), (-65504.0, -34496.0));
    }

    #[test]
    fn minus_zero_is_no_negative_value() {
        let (sent, _) = sent_and_left(&[2], &settings(2, 2), &[-0.0, 1.0], &[0.0; 2]).unwrap();
        assert_eq!(sent, [0.5, 0.5]);
    }

    #[test]
    fn what_is_not_finite_is_named_and_nothing_is_changed() {
        let layout = layout(&[5000, 10]);
        let clean = vec![0.5; 5010];
        let spoilt = |value: f32| {
            let mut spoilt = clean.clone();
            spoilt[5003] = value;
            spoilt
        };
        let check = |base: &[f32], local: &[f32], error: &[f32], blame: &str| {
            let mut after = error.to_vec();
            let refused = compress(&layout, &Compression::default(), base, local, &mut after);
            assert_eq!(bits(&after), bits(error));
            match refused {
                Err(Error::NotFinite { what, tensor, index }) => {
                    assert_eq!((what, tensor.as_str(), index), (blame, "t1", 3));
                }
                other => panic!("{other:?}"),
            }
        };
        for poison in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            check(&clean, &spoilt(poison), &clean, "the local weight");
            check(&spoilt(poison), &clean, &clean, "the base weight");
            check(&clean, &clean, &spoilt(poison), "the error feedback");
        }
        check(&spoilt(f32::MAX), &spoilt(-f32::MAX), &clean, "the pseudo-gradient");
    }

    #[test]
    fn buffers_of_another_layout_are_refused() {
        let layout = layout(&[4]);
        let (right, wrong) = ([0.0; 4], [0.0; 3]);
        let what = |base: &[f32], local: &[f32], error: &mut [f32]| match compress(
            &layout,
            &Compression::default(),
            base,
            local,
            error,
        ) {
            Err(Error::Length { what, expected: 4, got: 3 }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(&wrong, &right, &mut right.clone()), "base");
        assert_eq!(what(&right, &wrong, &mut right.clone()), "local");
        assert_eq!(what(&right, &right, &mut wrong.clone()), "error");
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let layout = layout(&[100_000, 1, 4097, 300]);
        let (base, local) = (values(1, layout.parameters()), values(2, layout.parameters()));
        on_any_number_of_threads(|| {
            let mut error = values(3, layout.parameters());
            let body = compress(&layout, &Compression::default(), &base, &local, &mut error).unwrap();
            (body, bits(&error))
        });
    }

    #[test]
    fn what_was_not_chosen_is_given_back() {
        let layout = layout(&[8]);
        let compression = settings(8, 2);
        let local = [0.0, -4.0, 0.0, 2.0, 0.0, 0.0, -0.5, 0.0];
        let mut error = [0.0; 8];
        let body = compress(&layout, &compression, &[0.0; 8], &local, &mut error).unwrap();
        let contribution = decode(&layout, &compression, &body, body.len()).unwrap();
        add_back(&layout, &contribution, &mut error).unwrap();
        assert_eq!(error, local.map(|value| 0.0 - value));
    }
}
