//! Who is taken when there are more than may be.

use std::collections::BTreeSet;

use weal_proto::{PeerId, Seed};

use crate::rules::beacon;
use crate::rules::ledger::Ledger;

/// Newcomers' part of the places, when members could fill them all.
const NEWCOMERS_PART: usize = 4;

/// At most `limit` of the candidates: members first, but for a quarter of the places (at least one)
/// kept for newcomers; among each, by the round's random order. So a crowd of fresh keys can
/// neither crowd members out nor be made to measure for an early place.
pub(crate) fn choose(
    candidates: impl IntoIterator<Item = PeerId>,
    limit: usize,
    ledger: &Ledger,
    seed: Seed,
) -> BTreeSet<PeerId> {
    let (mut members, mut newcomers): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|peer| ledger.is_member(peer));
    let by_rank = |peer: &PeerId| (beacon::rank(seed, *peer), *peer);
    members.sort_by_cached_key(by_rank);
    newcomers.sort_by_cached_key(by_rank);

    let reserved = newcomers.len().min((limit / NEWCOMERS_PART).max(1));
    let of_members = members.len().min(limit.saturating_sub(reserved));
    let of_newcomers = limit.saturating_sub(of_members);
    members
        .into_iter()
        .take(of_members)
        .chain(newcomers.into_iter().take(of_newcomers))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{manifest, peer};

    fn chosen(candidates: &[u8], limit: usize) -> (usize, usize) {
        let ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4, 5, 6]));
        let chosen = choose(
            candidates.iter().map(|n| peer(*n)),
            limit,
            &ledger,
            [1; 32].into(),
        );
        let members = chosen.iter().filter(|peer| ledger.is_member(peer)).count();
        (members, chosen.len() - members)
    }

    #[test]
    fn all_are_taken_when_there_is_room() {
        assert_eq!(chosen(&[1, 2, 11, 12], 8), (2, 2));
    }

    #[test]
    fn a_crowd_of_newcomers_gets_a_quarter_of_the_places() {
        assert_eq!(chosen(&[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15], 4), (3, 1));
        assert_eq!(chosen(&[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15], 8), (6, 2));
    }

    #[test]
    fn newcomers_fill_what_members_leave() {
        assert_eq!(chosen(&[1, 11, 12, 13], 3), (1, 2));
        assert_eq!(chosen(&[11, 12, 13], 2), (0, 2));
    }

    #[test]
    fn places_without_newcomers_go_to_members() {
        assert_eq!(chosen(&[1, 2, 3, 4, 5, 6], 4), (4, 0));
    }
}
