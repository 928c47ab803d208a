//! Compressing where memory is scarce: the pseudo-gradient is computed chunk by chunk from the
//! weights before and after, and what is left overwrites the error feedback. No vector of the
//! model's size is made.

use rayon::prelude::*;

use crate::codec::body;
use crate::codec::record::{self, Shape};
use crate::codec::rice::Rice;
use crate::feedback::{CHUNKS_AT_A_TIME, Scratch, compress_chunk};
use crate::grid::{Chunk, Grid};
use crate::stored::Stored;
use crate::{Compression, Error, Layout};

/// The weights before and after a round's inner steps.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// Those before, flat, in the layout's order.
    pub base: &'a [f32],
    /// Those after, one slice for each tensor of the layout.
    pub local: &'a [&'a [f32]],
}

impl Change<'_> {
    fn check(&self, layout: &Layout) -> Result<(), Error> {
        layout.check_length("base", self.base)?;
        let (expected, got) = (layout.tensors().len(), self.local.len());
        let lengths = layout.ranges().map(|range| range.len());
        let mut lengths = lengths.zip(self.local.iter().map(|local| local.len()));
        let wrong = lengths.find(|(expected, got)| expected != got);
        match wrong.or((expected != got).then_some((expected, got))) {
            None => Ok(()),
            Some((expected, got)) => Err(Error::Length {
                what: "local",
                expected,
                got,
            }),
        }
    }

    /// Puts a chunk's pseudo-gradient into `values`.
    fn read(&self, layout: &Layout, chunk: &Chunk, values: &mut Vec<f32>) {
        let first = chunk.start - layout.range(chunk.tensor).start;
        let local = &self.local[chunk.tensor][first..first + chunk.length];
        let both = self.base[chunk.range()].iter().zip(local);
        values.clear();
        values.extend(both.map(|(before, after)| before - after));
    }
}

/// Working memory, reused between chunks.
#[derive(Default)]
struct Working {
    scratch: Scratch,
    error: Vec<f32>,
    values: Vec<f32>,
}

impl Working {
    fn read<E: Stored>(
        &mut self,
        layout: &Layout,
        change: &Change<'_>,
        chunk: &Chunk,
        error: &[E],
    ) {
        change.read(layout, chunk, &mut self.values);
        self.error.clear();
        self.error.extend(error.iter().map(|error| error.widen()));
    }

    /// The first value of the last chunk read that cannot be sent, and whether the error feedback
    /// is to blame.
    fn not_finite(&self, decay: f32) -> Option<(usize, bool)> {
        let both = self.values.iter().zip(&self.error);
        let mut sums = both.map(|(value, error)| value + decay * error);
        let place = sums.position(|sum| !sum.is_finite())?;
        Some((place, !self.error[place].is_finite()))
    }
}

/// Does what [`crate::compress`] does with [`crate::pseudo_gradient`], and leaves the next round's
/// error feedback in `error`. Kept in f32 it has the same bits, and so has the body of a round's
/// contribution for the same error feedback.
///
/// # Errors
/// As [`crate::compress`]; `error` is unchanged then.
pub fn compress_in_place<E: Stored>(
    layout: &Layout,
    compression: &Compression,
    error: &mut [E],
    change: &Change<'_>,
) -> Result<Vec<u8>, Error> {
    let (expected, got) = (layout.parameters(), error.len());
    if expected != got {
        let what = "error";
        return Err(Error::Length {
            what,
            expected,
            got,
        });
    }
    change.check(layout)?;
    let grid = Grid::new(layout, compression)?;
    let (decay, rice) = (compression.decay(), Rice::for_settings(compression));
    check_finite(layout, &grid, decay, error, change)?;

    let mut records = vec![0; grid.record_words()];
    let outputs = (
        grid.split_records_mut(&mut records),
        grid.split_values_mut(error),
    )
        .into_par_iter();
    outputs
        .zip(grid.chunks())
        .with_min_len(CHUNKS_AT_A_TIME)
        .for_each_init(Working::default, |working, ((record, error), chunk)| {
            working.read(layout, change, chunk, error);
            let Working {
                scratch,
                error: wide,
                values,
            } = working;
            if let Some(scale) = compress_chunk(decay, wide, values, chunk.keep, scratch) {
                let shape = Shape::of(rice, chunk.length, chunk.keep);
                record::write(record, rice, shape, scale, scratch.kept.iter().copied());
            }
            let both = error.iter_mut().zip(values);
            both.for_each(|(error, left)| *error = E::narrow(*left));
        });
    Ok(body::assemble(rice, &grid, &records))
}

/// Names the first value that cannot be sent.
fn check_finite<E: Stored>(
    layout: &Layout,
    grid: &Grid,
    decay: f32,
    error: &[E],
    change: &Change<'_>,
) -> Result<(), Error> {
    let chunks = grid.chunks().par_iter().with_min_len(CHUNKS_AT_A_TIME);
    let found = chunks.map_init(Working::default, |working, chunk| {
        working.read(layout, change, chunk, &error[chunk.range()]);
        let (place, is_error) = working.not_finite(decay)?;
        let what = if is_error {
            "the error feedback"
        } else {
            "the pseudo-gradient"
        };
        Some(Error::NotFinite {
            what,
            tensor: layout.tensors()[chunk.tensor].name.clone(),
            index: chunk.start - layout.range(chunk.tensor).start + place,
        })
    });
    found.find_map_first(|found| found).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Bf16;
    use crate::testing::{bits, layout, on_any_number_of_threads, values};
    use crate::{compress, pseudo_gradient};

    const LENGTHS: [usize; 4] = [100_000, 1, 4097, 300];

    struct Case {
        layout: Layout,
        base: Vec<f32>,
        local: Vec<f32>,
        error: Vec<f32>,
    }

    impl Case {
        fn new() -> Self {
            let layout = layout(&LENGTHS);
            let [base, local, error] = [1, 2, 3].map(|seed| values(seed, layout.parameters()));
            Self {
                layout,
                base,
                local,
                error,
            }
        }

        fn compress<E: Stored>(&self, error: &mut [E]) -> Result<Vec<u8>, Error> {
            let local: Vec<&[f32]> = self.layout.ranges().map(|part| &self.local[part]).collect();
            let change = Change {
                base: &self.base,
                local: &local,
            };
            compress_in_place(&self.layout, &Compression::default(), error, &change)
        }
    }

    #[test]
    fn in_f32_body_and_error_feedback_are_those_of_compress() {
        let case = Case::new();
        let (body, left) = on_any_number_of_threads(|| {
            let mut error = case.error.clone();
            let body = case.compress(&mut error).unwrap();
            (body, bits(&error))
        });
        let mut delta = case.local.clone();
        pseudo_gradient(&case.base, &mut delta).unwrap();
        let expected = compress(
            &case.layout,
            &Compression::default(),
            &case.error,
            &mut delta,
        );
        assert!(body == expected.unwrap() && left == bits(&delta));
    }

    #[test]
    fn in_sixteen_bits_only_the_rounding_differs() {
        let case = Case::new();
        let mut short: Vec<Bf16> = case.error.iter().copied().map(Bf16::narrow).collect();
        let mut wide: Vec<f32> = short.iter().map(|error| error.widen()).collect();
        let body = case.compress(&mut short).unwrap();
        assert!(body == case.compress(&mut wide).unwrap());
        for (short, wide) in short.iter().zip(wide) {
            assert_eq!(*short, Bf16::narrow(wide));
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_named_and_changes_nothing() {
        let check = |case: &Case, blame: &str| {
            let mut error = case.error.clone();
            match case.compress(&mut error) {
                Err(Error::NotFinite {
                    what,
                    tensor,
                    index,
                }) => assert_eq!((what, tensor.as_str(), index), (blame, "t2", 4)),
                other => panic!("{other:?}"),
            }
            assert_eq!(bits(&error), bits(&case.error));
        };
        let place = 100_001 + 4;
        let mut case = Case::new();
        case.local[place] = f32::INFINITY;
        check(&case, "the pseudo-gradient");
        let mut case = Case::new();
        case.error[place] = f32::NAN;
        check(&case, "the error feedback");
    }

    #[test]
    fn slices_of_another_layout_are_refused() {
        let case = Case::new();
        let what = |error: usize, base: usize, local: &[&[f32]]| {
            let change = Change {
                base: &case.base[..base],
                local,
            };
            let settings = Compression::default();
            let mut error = vec![0.0; error];
            match compress_in_place(&case.layout, &settings, &mut error, &change) {
                Err(Error::Length { what, .. }) => what,
                other => panic!("{other:?}"),
            }
        };
        let all = case.layout.parameters();
        let local: Vec<&[f32]> = case.layout.ranges().map(|part| &case.local[part]).collect();
        assert_eq!(what(all - 1, all, &local), "error");
        assert_eq!(what(all, all - 1, &local), "base");
        assert_eq!(what(all, all, &local[..3]), "local");
        let mut short = local.clone();
        short[2] = &short[2][1..];
        assert_eq!(what(all, all, &short), "local");
    }
}
