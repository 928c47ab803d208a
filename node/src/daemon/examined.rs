//! The contributions that this node has examined, still decoded: comparing, applying and measuring
//! them takes no second look at the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use weal_kernels::Contribution;
use weal_proto::{BlobHash, RoundNumber};

/// Bytes of contributions that are kept. Those beyond are read and decoded again where they are
/// needed.
const MOST_BYTES: usize = 256 << 20;

/// Decoded contributions of the newest rounds, within a bound.
pub(super) struct Examined {
    contributions: BTreeMap<BlobHash, (RoundNumber, Arc<Contribution>)>,
    bytes: usize,
    most_bytes: usize,
}

impl Default for Examined {
    fn default() -> Self {
        Self::within(MOST_BYTES)
    }
}

impl Examined {
    fn within(most_bytes: usize) -> Self {
        Self {
            contributions: BTreeMap::new(),
            bytes: 0,
            most_bytes,
        }
    }

    /// Keeps the contribution of a blob, if there is space.
    pub(super) fn keep(
        &mut self,
        blob: BlobHash,
        round: RoundNumber,
        contribution: Arc<Contribution>,
    ) {
        let bytes = size(&contribution);
        if self.bytes + bytes <= self.most_bytes {
            let old = self.contributions.insert(blob, (round, contribution));
            let replaced = old.map_or(0, |(_, contribution)| size(&contribution));
            self.bytes += bytes - replaced.min(bytes);
        }
    }

    /// The contribution of a blob, if it is kept.
    pub(super) fn get(&self, blob: &BlobHash) -> Option<Arc<Contribution>> {
        let (_, contribution) = self.contributions.get(blob)?;
        Some(contribution.clone())
    }

    /// Forgets rounds before this one.
    pub(super) fn forget_before(&mut self, round: RoundNumber) {
        self.contributions.retain(|_, (of, _)| *of >= round);
        let sizes = self.contributions.values().map(|(_, one)| size(one));
        self.bytes = sizes.sum();
    }
}

/// A decoded contribution takes little more memory than its body.
fn size(contribution: &Contribution) -> usize {
    contribution.body().len()
}

#[cfg(test)]
mod tests {
    use weal_kernels::{Compression, Layout, TensorSpec, compress, decode};

    use super::*;

    fn contribution() -> Arc<Contribution> {
        let layout = Layout::new(vec![TensorSpec::new("w", [64])]).unwrap();
        let compression = Compression::default();
        let body = compress(&layout, &compression, &[0.0; 64], &mut [1.0; 64]).unwrap();
        Arc::new(decode(&layout, &compression, &body, body.len()).unwrap())
    }

    #[test]
    fn no_more_is_kept_than_fits_and_old_rounds_make_space() {
        let one = contribution();
        let mut examined = Examined::within(2 * size(&one));
        let blob = |number| BlobHash::from([number; 32]);
        for number in 0..3 {
            examined.keep(blob(number), RoundNumber(number.into()), one.clone());
        }
        let kept = |examined: &Examined| (0..4).map(|n| examined.get(&blob(n)).is_some()).collect();
        let found: Vec<bool> = kept(&examined);
        assert_eq!(found, [true, true, false, false]);
        examined.keep(blob(1), RoundNumber(1), one.clone());
        examined.forget_before(RoundNumber(1));
        examined.keep(blob(3), RoundNumber(3), one);
        let found: Vec<bool> = kept(&examined);
        assert_eq!(found, [false, true, false, true]);
    }
}
