//! What a store keeps and deletes.

use weal_proto::RoundNumber;

/// Weights that are never deleted, however few the settings name: the newest, and those before them
/// in case the newest turn out to be damaged.
const LEAST_WEIGHTS: usize = 2;

/// The oldest round whose contributions a store keeps once `decided` is decided, if it keeps those
/// of `keep` rounds before it.
pub const fn oldest_kept(decided: RoundNumber, keep: u64) -> RoundNumber {
    RoundNumber(decided.0.saturating_sub(keep))
}

/// How many of the oldest of `stored` weights a store deletes, if it keeps those of `keep` rounds.
pub fn surplus_weights(stored: usize, keep: usize) -> usize {
    stored.saturating_sub(keep.max(LEAST_WEIGHTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributions_are_kept_for_some_rounds() {
        assert_eq!(oldest_kept(RoundNumber(70), 64), RoundNumber(6));
        assert_eq!(oldest_kept(RoundNumber(3), 64), RoundNumber(0));
    }

    #[test]
    fn at_least_two_weights_are_kept() {
        assert_eq!(surplus_weights(5, 4), 1);
        assert_eq!(surplus_weights(3, 0), 1);
        assert_eq!(surplus_weights(1, 4), 0);
    }
}
