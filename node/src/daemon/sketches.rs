//! Samples of the contributions of the last rounds, to notice who sends one again.

use std::collections::BTreeMap;

use weal_kernels::Sketch;
use weal_proto::BlobHash;

/// Samples of the contributions that this node compared. Each takes some tens of kilobytes, however
/// large the model is.
#[derive(Debug)]
pub(super) struct Sketches {
    /// Says what is sampled. Nobody else knows it, so nobody can change just that.
    key: u64,
    kept: BTreeMap<BlobHash, Sketch>,
}

impl Default for Sketches {
    fn default() -> Self {
        Self {
            key: rand::random(),
            kept: BTreeMap::new(),
        }
    }
}

impl Sketches {
    pub(super) const fn key(&self) -> u64 {
        self.key
    }

    /// Whether each of these contributions shares `copy_ppm` of its values, in parts per million,
    /// with one of the `earlier` ones. From now on, those earlier ones and these are kept.
    pub(super) fn repeats(
        &mut self,
        found: Vec<(BlobHash, Sketch)>,
        earlier: &[BlobHash],
        copy_ppm: u32,
    ) -> Vec<bool> {
        self.kept.retain(|blob, _| earlier.contains(blob));
        let is_repeated = |(_, one): &(BlobHash, Sketch)| {
            let mut others = self.kept.values();
            others.any(|other| one.shared_ppm(other) >= copy_ppm)
        };
        let repeats = found.iter().map(is_repeated).collect();
        self.kept.extend(found);
        repeats
    }
}

#[cfg(test)]
mod tests {
    use weal_kernels::{Compression, Layout, TensorSpec, compress, decode};

    use super::*;

    const HALF: u32 = 500_000;

    /// The sample of a contribution that sends these four of 64 places.
    fn sketch(sketches: &Sketches, places: [usize; 4]) -> Sketch {
        let layout = Layout::new(vec![TensorSpec::new("w", [64])]).unwrap();
        let compression = Compression {
            chunk: 64,
            keep: 4,
            ..Compression::default()
        };
        let mut delta = [0.0; 64];
        places.iter().for_each(|place| delta[*place] = 1.0);
        let body = compress(&layout, &compression, &delta, &mut [0.0; 64]).unwrap();
        let contribution = decode(&layout, &compression, &body, body.len()).unwrap();
        Sketch::of(&layout, &contribution, sketches.key()).unwrap()
    }

    #[test]
    fn what_was_chosen_before_is_known_again_and_nothing_else_is() {
        let mut sketches = Sketches::default();
        let blob = |number| BlobHash::from([number; 32]);
        let (chosen, left_out) = ([0, 1, 2, 3], [10, 11, 12, 13]);
        let round_0 = vec![
            (blob(0), sketch(&sketches, chosen)),
            (blob(1), sketch(&sketches, left_out)),
        ];
        assert_eq!(sketches.repeats(round_0, &[], HALF), [false, false]);
        let round_1 = vec![
            (blob(2), sketch(&sketches, [0, 1, 20, 21])),
            (blob(3), sketch(&sketches, [0, 22, 20, 21])),
            (blob(4), sketch(&sketches, left_out)),
        ];
        let repeats = sketches.repeats(round_1, &[blob(0)], HALF);
        assert_eq!(repeats, [true, false, false]);
        // The round before that is too old.
        let round_2 = vec![(blob(5), sketch(&sketches, chosen))];
        assert_eq!(sketches.repeats(round_2, &[blob(3)], HALF), [false]);
    }
}
