//! Clipping each contribution to the median norm of every tensor.

use crate::Contribution;

/// The clip factors, `[contribution][tensor]`: `median / norm` if the norm is above the median,
/// else 1.
///
/// The median of a tensor is that of the norms that are not zero, each counted with its
/// contribution's coefficient (in ppm). In rising order it is the first norm at which the counts
/// up to and including it are more than half of all. If they are exactly half, it is the mean of
/// that norm and the next, `(a + b) / 2` in f32. With equal coefficients this is the usual median.
/// So peers that nobody trusts yet cannot raise the median, however many they are.
///
/// All contributions must be of one layout, and have a coefficient each. [`apply`](super::apply)
/// checks that; this function does not.
pub fn clip_factors(contributions: &[Contribution], coefficients_ppm: &[u32]) -> Vec<Vec<f32>> {
    let tensors = contributions
        .iter()
        .map(|contribution| contribution.norms().len())
        .max();
    let norms_of = |tensor: usize| {
        let norms = contributions.iter().zip(coefficients_ppm);
        norms.filter_map(move |(one, &weight)| Some((*one.norms().get(tensor)?, weight)))
    };
    let medians: Vec<f32> = (0..tensors.unwrap_or(0))
        .map(|tensor| median(norms_of(tensor)))
        .collect();
    let factor = |(&norm, &median): (&f32, &f32)| if norm > median { median / norm } else { 1.0 };
    contributions
        .iter()
        .map(|c| c.norms().iter().zip(&medians).map(factor).collect())
        .collect()
}

/// The weighted median of the norms above zero whose weight is above zero; 0 if there are none.
pub(super) fn median(norms: impl Iterator<Item = (f32, u32)>) -> f32 {
    let mut norms: Vec<_> = norms
        .filter(|&(norm, weight)| norm > 0.0 && weight > 0)
        .collect();
    norms.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    let all: u64 = norms.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut twice = 0;
    let mut rising = norms.into_iter();
    while let Some((norm, weight)) = rising.next() {
        twice += 2 * u64::from(weight);
        if twice > all {
            return norm;
        }
        if twice == all {
            return rising.next().map_or(norm, |(next, _)| (norm + next) / 2.0);
        }
    }
    0.0
}
