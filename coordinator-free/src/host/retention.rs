//! What a store keeps and deletes.
//!
//! Besides the newest weights a store keeps *checkpoints*: the weights of every
//! [`CHECKPOINT_EVERY`]th round, the same rounds on every node. A node that is far behind fetches
//! the newest checkpoint, and has the time until all peers delete it, which is as many rounds as
//! their checkpoints cover. Then it applies the rounds since.

use weal_proto::RoundNumber;

/// Weights that are never deleted, however few the settings name: the newest, and those before them
/// in case the newest turn out to be damaged.
const LEAST_WEIGHTS: usize = 2;

/// Rounds from one checkpoint to the next.
pub const CHECKPOINT_EVERY: u64 = 32;

/// A node whose weights are this many rounds behind fetches newer ones instead of applying round
/// after round.
pub const FETCH_WEIGHTS_FROM: u64 = 64;
/// Snapshots of decided state that a store keeps. One of them is always older than the weights of a
/// node that applies rounds, since it is at most [`FETCH_WEIGHTS_FROM`] rounds behind.
pub const SNAPSHOTS: usize = 3;

/// Rounds from one milestone to the next.
pub const MILESTONE_EVERY: u64 = 1_024;

/// The weights that a store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptWeights {
    /// Those of this many newest rounds, and never fewer than two.
    pub newest: usize,
    /// This many newest checkpoints.
    pub checkpoints: usize,
}

/// Whether the weights at the start of a round are a checkpoint.
pub const fn is_checkpoint(round: RoundNumber) -> bool {
    round.0.is_multiple_of(CHECKPOINT_EVERY)
}

/// Whether a store keeps a snapshot of what was decided before a round.
pub const fn has_snapshot(round: RoundNumber) -> bool {
    is_checkpoint(round) && round.0 > 0
}

/// Whether a store keeps the snapshot of what was decided before a round for ever, so that
/// newcomers may begin from it.
pub const fn is_milestone(round: RoundNumber) -> bool {
    round.0.is_multiple_of(MILESTONE_EVERY) && round.0 > 0
}

/// The snapshots that a node may start from, the best first. It has the weights of the round
/// `weights`, and `decided` is the first round that is not decided. `stored` rises.
///
/// A newer snapshot saves work. But the node applies the rounds since its weights again, so it has
/// to know them, unless it is so far behind that it fetches newer weights. Then it has to know one
/// decided round at least, which proves the root of the weights to fetch.
pub fn starting_points(
    stored: &[RoundNumber],
    weights: RoundNumber,
    decided: RoundNumber,
) -> Vec<RoundNumber> {
    let fetches = decided.0.saturating_sub(weights.0) >= FETCH_WEIGHTS_FROM;
    let newest_first = stored.iter().rev().copied();
    newest_first
        .filter(|round| *round <= weights || fetches && *round < decided)
        .collect()
}

/// The oldest round whose contributions a store keeps once `decided` is decided, if it keeps those
/// of `keep` rounds before it.
///
/// `checkpoint` is the oldest checkpoint that the store keeps. Who has fetched that, or the one
/// before it, still needs all contributions since.
pub fn oldest_kept(
    decided: RoundNumber,
    keep: u64,
    checkpoint: Option<RoundNumber>,
) -> RoundNumber {
    let newest = decided.0.saturating_sub(keep);
    let needed = checkpoint.map(|round| round.0.saturating_sub(CHECKPOINT_EVERY));
    RoundNumber(needed.map_or(newest, |needed| needed.min(newest)))
}

/// Which of the `stored` weights a store deletes. `stored` rises.
pub fn surplus_weights(stored: &[RoundNumber], keep: KeptWeights) -> Vec<RoundNumber> {
    let old = stored.len().saturating_sub(keep.newest.max(LEAST_WEIGHTS));
    let checkpoints = stored.iter().filter(|round| is_checkpoint(**round)).count();
    let mut old_checkpoints = checkpoints.saturating_sub(keep.checkpoints);
    let old = stored.iter().take(old).copied();
    old.filter(|round| {
        if !is_checkpoint(*round) {
            return true;
        }
        let is_old = old_checkpoints > 0;
        old_checkpoints = old_checkpoints.saturating_sub(1);
        is_old
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surplus(stored: &[u64], newest: usize, checkpoints: usize) -> Vec<u64> {
        let stored: Vec<_> = stored.iter().copied().map(RoundNumber).collect();
        let keep = KeptWeights {
            newest,
            checkpoints,
        };
        let surplus = surplus_weights(&stored, keep);
        surplus.into_iter().map(|round| round.0).collect()
    }

    #[test]
    fn contributions_are_kept_for_some_rounds() {
        assert_eq!(oldest_kept(RoundNumber(70), 64, None), RoundNumber(6));
        assert_eq!(oldest_kept(RoundNumber(3), 64, None), RoundNumber(0));
    }

    #[test]
    fn contributions_since_the_checkpoint_before_the_oldest_are_kept() {
        let kept = |decided, checkpoint| {
            oldest_kept(RoundNumber(decided), 8, Some(RoundNumber(checkpoint))).0
        };
        assert_eq!((kept(127, 64), kept(128, 96)), (32, 64));
        assert_eq!((kept(40, 0), kept(100, 128)), (0, 92));
    }

    #[test]
    fn at_least_two_weights_are_kept() {
        assert_eq!(surplus(&[1, 2, 3, 4, 5], 4, 0), [1]);
        assert_eq!(surplus(&[1, 2, 3], 0, 0), [1]);
        assert_eq!(surplus(&[1], 4, 0), [0_u64; 0]);
    }

    #[test]
    fn checkpoints_stay_until_enough_newer_ones_are_there() {
        assert_eq!(surplus(&[0, 31, 32, 33, 34, 35], 2, 2), [31, 33]);
        assert_eq!(surplus(&[0, 32, 62, 63, 64], 2, 2), [0, 62]);
        assert_eq!(surplus(&[0, 32, 64, 65], 2, 0), [0, 32]);
        assert_eq!(surplus(&[32, 64, 96], 2, 1), [32]);
    }

    fn starts(stored: &[u64], weights: u64, decided: u64) -> Vec<u64> {
        let stored: Vec<_> = stored.iter().copied().map(RoundNumber).collect();
        let points = starting_points(&stored, RoundNumber(weights), RoundNumber(decided));
        points.into_iter().map(|round| round.0).collect()
    }

    #[test]
    fn a_node_starts_from_the_newest_snapshot_before_its_weights() {
        assert_eq!(starts(&[32, 64, 96], 96, 97), [96, 64, 32]);
        assert_eq!(starts(&[32, 64, 96], 95, 97), [64, 32]);
        assert_eq!(starts(&[64], 63, 96), [0_u64; 0]);
    }

    #[test]
    fn a_node_that_fetches_weights_starts_from_any_snapshot_that_a_decision_follows() {
        assert_eq!(starts(&[64, 96, 128], 0, 129), [128, 96, 64]);
        assert_eq!(starts(&[64, 96, 128], 0, 128), [96, 64]);
    }

    #[test]
    fn every_milestone_has_a_snapshot() {
        let mut milestones = (0..5_000).map(RoundNumber).filter(|it| is_milestone(*it));
        assert_eq!(milestones.next(), Some(RoundNumber(1_024)));
        assert!(milestones.all(has_snapshot));
    }

    #[test]
    fn no_node_has_to_read_all_rounds() {
        for decided in CHECKPOINT_EVERY..500 {
            let made = (0..=decided).filter(|round| has_snapshot(RoundNumber(*round)));
            let made: Vec<_> = made.collect();
            let stored = &made[made.len().saturating_sub(SNAPSHOTS)..];
            for weights in 0..=decided {
                let start = starts(stored, weights, decided).first().copied();
                let read = decided - start.unwrap_or(0);
                assert!(
                    read <= SNAPSHOTS as u64 * CHECKPOINT_EVERY,
                    "{weights}, {decided}"
                );
            }
        }
    }

    /// However long it takes to fetch one, a checkpoint that is the newest stays for as many rounds
    /// as the checkpoints cover, less one period, and so do the contributions since.
    #[test]
    fn a_slow_node_has_time_to_fetch_a_checkpoint_and_then_the_contributions() {
        let keep = KeptWeights {
            newest: 4,
            checkpoints: 2,
        };
        let mut stored = Vec::new();
        for now in 0..300 {
            stored.push(RoundNumber(now));
            let surplus = surplus_weights(&stored, keep);
            stored.retain(|round| !surplus.contains(round));
            let oldest = stored.iter().copied().find(|round| is_checkpoint(*round));
            let needed = now.saturating_sub(now % CHECKPOINT_EVERY + CHECKPOINT_EVERY);
            assert_eq!(oldest, Some(RoundNumber(needed)));
            let kept = oldest_kept(RoundNumber(now), 0, oldest);
            assert!(kept.0 + CHECKPOINT_EVERY <= needed || kept.0 == 0);
        }
    }
}
