//! Which tensors have a second moment: all, but for the matrices that Muon updates.

use std::ops::Range;

use weal_kernels::Layout;

use crate::engine::optimiser::is_block_matrix;

/// Where each tensor's second moment lies in a flat vector of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seconds {
    /// Empty for a tensor without one.
    ranges: Vec<Range<usize>>,
}

impl Seconds {
    pub(crate) fn new(layout: &Layout, has_muon: bool) -> Self {
        let mut start = 0;
        let ranges = layout.tensors().iter().zip(layout.ranges());
        let range = ranges.map(|(tensor, range)| {
            let has_none = has_muon && is_block_matrix(tensor);
            let count = if has_none { 0 } else { range.len() };
            start += count;
            start - count..start
        });
        Self {
            ranges: range.collect(),
        }
    }

    /// Values of all second moments together.
    pub(crate) fn len(&self) -> usize {
        self.ranges.last().map_or(0, |last| last.end)
    }

    /// The place of a tensor's second moment; empty if it has none.
    pub(super) fn range(&self, tensor: usize) -> Range<usize> {
        self.ranges[tensor].clone()
    }

    /// One entry for each tensor: `some` of those with a second moment, `none` of the others.
    pub(super) fn each<T>(&self, some: impl Fn(usize) -> T, none: impl Fn() -> T) -> Vec<T> {
        let tensors = self.ranges.iter().enumerate();
        tensors
            .map(|(tensor, range)| {
                if range.is_empty() {
                    none()
                } else {
                    some(tensor)
                }
            })
            .collect()
    }
}
