//! The entries of a contribution: which weights it changes, and by how much.

use rayon::prelude::*;

use crate::codec::unpack::Unpacked;
use crate::{Contribution, Error, Layout};

/// What a contribution changes in one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entries {
    /// Where, counted from the tensor's first value. They rise.
    pub places: Vec<usize>,
    /// The value at each of these places.
    pub values: Vec<f32>,
}

/// The entries of a contribution, tensor by tensor, in the layout's order.
///
/// # Errors
/// [`Error::ForeignContribution`] if the contribution was decoded for another layout.
pub fn entries(layout: &Layout, contribution: &Contribution) -> Result<Vec<Entries>, Error> {
    let grid = contribution.grid(layout)?;
    let tiles = grid.tiles().par_iter().enumerate();
    let of_tiles: Vec<(usize, Entries)> = tiles
        .map_init(Unpacked::default, |unpacked, (number, tile)| {
            let mut reader = contribution.tile(number, tile);
            let (mut found, mut tensor) = (Entries::default(), 0);
            for chunk in grid.chunks_of(tile) {
                tensor = chunk.tensor;
                let first = chunk.start - layout.range(tensor).start;
                let (scale, kept) = reader.next(chunk, unpacked);
                let places = kept.iter().map(|value| first + value.index());
                found.places.extend(places);
                found
                    .values
                    .extend(kept.iter().map(|value| value.value(scale)));
            }
            (tensor, found)
        })
        .collect();
    let mut entries = vec![Entries::default(); layout.tensors().len()];
    for (tensor, found) in of_tiles {
        entries[tensor].places.extend(found.places);
        entries[tensor].values.extend(found.values);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layout, on_any_number_of_threads, settings, values};
    use crate::{compress, decode};

    #[test]
    fn entries_are_the_values_that_the_contribution_adds() {
        let layout = layout(&[100, 7, 300_000]);
        let compression = settings(64, 4);
        let zeros = vec![0.0; layout.parameters()];
        let mut delta = values(5, layout.parameters());
        delta[100..107].fill(0.0);
        let body = compress(&layout, &compression, &zeros, &mut delta).unwrap();
        let contribution = decode(&layout, &compression, &body, body.len()).unwrap();
        let mut dense = zeros.clone();
        contribution.add_to(&layout, &mut dense, 1.0).unwrap();

        let found = on_any_number_of_threads(|| entries(&layout, &contribution).unwrap());
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], Entries::default());
        for (range, found) in layout.ranges().zip(&found) {
            let expected = dense[range].iter().enumerate();
            let expected: Vec<_> = expected.filter(|(_, value)| **value != 0.0).collect();
            let places: Vec<_> = expected.iter().map(|(place, _)| *place).collect();
            let values: Vec<_> = expected.iter().map(|(_, value)| **value).collect();
            assert_eq!((&found.places, &found.values), (&places, &values));
        }
    }

    #[test]
    fn another_layout_has_no_entries() {
        let (ours, theirs) = (layout(&[64]), layout(&[32, 32]));
        let compression = settings(16, 4);
        let body = compress(&theirs, &compression, &[0.0; 64], &mut values(1, 64)).unwrap();
        let foreign = decode(&theirs, &compression, &body, body.len()).unwrap();
        let refusal = Err(Error::ForeignContribution { position: 0 });
        assert_eq!(entries(&ours, &foreign), refusal);
    }
}
