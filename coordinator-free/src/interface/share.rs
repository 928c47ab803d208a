//! The samples that a round deals to a peer.

use std::ops::Range;

/// The positions that a round deals to a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// The peer's positions, in the order in which it trains on them. Empty for a newcomer, which
    /// is not on the list of the round: it draws at random from what lies ahead.
    pub spans: Vec<Range<u64>>,
    /// The first position that no share of the round or of an earlier one reaches.
    pub ahead: u64,
}

impl Share {
    /// What is left of the share after its first `used` positions.
    pub(crate) fn rest(&self, mut used: u64) -> Vec<Range<u64>> {
        let mut rest = Vec::new();
        for span in &self.spans {
            let passed = used.min(span.end.saturating_sub(span.start));
            used -= passed;
            rest.push(span.start.saturating_add(passed)..span.end);
        }
        rest
    }
}
