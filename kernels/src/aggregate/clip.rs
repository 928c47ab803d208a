//! Clipping each contribution to the median norm of every tensor.

use crate::Contribution;

/// The clip factors, `[contribution][tensor]`: `median / norm` if the norm is above the median,
/// else 1.
///
/// The median of a tensor is taken over the contributions whose norm of it is not zero. For an even
/// number of those it is the mean of the middle two, `(a + b) / 2` in f32.
///
/// All contributions must be of one layout. [`apply`](super::apply) checks that; this function does
/// not.
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
pub(super) fn median(norms: impl Iterator<Item = f32>) -> f32 {
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
