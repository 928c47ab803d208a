//! What a round's training has to say about others' contributions.

use std::ops::Range;

use weal_kernels::own_work::Part;
use weal_kernels::{Compression, Layout, OwnWork, decode, entries};

use super::Learner;
use crate::error::{Error, Result};
use crate::sampling::uniform;

/// Most values of v, and of Δ, that are kept: 32 MiB of both together. Of every 4096 values a
/// contribution sends 32, so that a cosine is still taken over 32,768 places.
const MOST_KEPT: usize = 1 << 22;

/// What a learner sent in a round.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    /// The body of the contribution.
    pub body: &'a [u8],
    /// What it was compressed with.
    pub compression: &'a Compression,
}

impl Learner {
    /// What this round's training says about others' contributions. Call it after
    /// [`Self::compress`], and before anything else is measured or trained.
    ///
    /// Of a large model it keeps a part of each tensor, drawn with `seed`, which nobody else should
    /// know.
    ///
    /// # Errors
    /// [`Error::Length`] if `theta` belongs to another model, [`Error::Compress`] if the body does.
    /// [`Error::Device`] if the device fails.
    pub fn own_work(&mut self, theta: &[f32], sent: &Sent<'_>, seed: &[u8; 32]) -> Result<OwnWork> {
        let (found, expected) = (theta.len(), self.layout.parameters());
        if found != expected {
            return Err(Error::Length {
                what: "the agreed weights",
                found,
                expected,
            });
        }
        let layout = &self.layout;
        let contribution = decode(layout, sent.compression, sent.body, sent.body.len());
        let contribution = contribution.map_err(Error::Compress)?;
        let sent_entries = entries(layout, &contribution).map_err(Error::Compress)?;
        let kept = kept(layout, seed, MOST_KEPT);
        let local = self.engine.weights_in(&kept)?;
        let unsent = self.engine.error_feedback_in(&kept)?;
        let parts = kept.into_iter().zip(local.into_iter().zip(unsent));
        let parts = parts
            .enumerate()
            .map(|(tensor, (kept, (local, mut to_send)))| {
                let first = kept.start - layout.range(tensor).start;
                let entries = &sent_entries[tensor];
                for (place, value) in entries.places.iter().zip(&entries.values) {
                    // Places before the part wrap around, and are out of it too.
                    if let Some(left) = to_send.get_mut(place.wrapping_sub(first)) {
                        *left += value;
                    }
                }
                let learnt = theta[kept.clone()].iter().zip(local);
                Part {
                    start: kept.start,
                    to_send,
                    learnt: learnt.map(|(before, after)| before - after).collect(),
                }
            });
        OwnWork::new(layout, parts.collect()).map_err(Error::Compress)
    }
}

/// The places that are kept of each tensor: all, if there are at most `most`.
fn kept(layout: &Layout, seed: &[u8; 32], most: usize) -> Vec<Range<usize>> {
    let parameters = layout.parameters();
    let tensors = layout.ranges().enumerate();
    tensors
        .map(|(tensor, range)| {
            if parameters <= most {
                return range;
            }
            let length = (range.len() as u128 * most as u128 / parameters as u128) as usize;
            let starts = (range.len() - length + 1) as u64;
            let start = range.start + uniform(seed, tensor as u64, starts) as usize;
            start..start + length
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use weal_kernels::TensorSpec;

    use super::*;

    #[test]
    fn a_part_of_each_tensor_is_kept_where_only_the_seed_says() {
        let tensor = |name: &str, length: usize| TensorSpec::new(name, [length]);
        let layout = Layout::new(vec![tensor("a", 1000), tensor("b", 3), tensor("c", 9000)]);
        let layout = layout.unwrap();
        let whole: Vec<_> = layout.ranges().collect();
        assert_eq!(kept(&layout, &[0; 32], 10_003), whole);
        let some = |seed| kept(&layout, &[seed; 32], 1000);
        assert_ne!(some(1), some(2));
        let lengths: Vec<_> = some(1).iter().map(Range::len).collect();
        assert_eq!(lengths, [99, 0, 899]);
        for (part, whole) in some(1).iter().zip(whole) {
            assert!(whole.start <= part.start && part.end <= whole.end);
        }
    }
}
