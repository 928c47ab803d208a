//! Which peers get a place when there are more candidates than places.

use std::collections::BTreeSet;

use weal_proto::{PeerId, Seed};

use crate::rules::beacon;
use crate::rules::ledger::Ledger;

/// One place in this many is reserved for newcomers.
const NEWCOMERS_PART: usize = 4;

/// Chooses at most `limit` of the candidates. Members get all places but a quarter (at least one),
/// which is reserved for newcomers; a place that one group does not need goes to the other. Within
/// each group, the round's random order decides. So an attacker with many fresh keys can neither
/// crowd members out nor pick keys that win.
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
    use crate::sim::fixtures::{manifest, peer};

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
    fn everyone_gets_a_place_when_there_are_enough() {
        assert_eq!(chosen(&[1, 2, 11, 12], 8), (2, 2));
    }

    #[test]
    fn a_crowd_of_newcomers_gets_a_quarter_of_the_places() {
        assert_eq!(chosen(&[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15], 4), (3, 1));
        assert_eq!(chosen(&[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15], 8), (6, 2));
    }

    #[test]
    fn newcomers_get_the_places_that_members_do_not_need() {
        assert_eq!(chosen(&[1, 11, 12, 13], 3), (1, 2));
        assert_eq!(chosen(&[11, 12, 13], 2), (0, 2));
    }

    #[test]
    fn members_get_the_places_that_newcomers_do_not_need() {
        assert_eq!(chosen(&[1, 2, 3, 4, 5, 6], 4), (4, 0));
    }
}
