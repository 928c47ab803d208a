//! How the weight of voters that have left shrinks.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::PeerId;
use weal_proto::manifest::{Membership, PPM};

use super::account::{Account, scale};
use crate::rules::roster::Roster;

/// The round that has just been decided.
pub(super) struct Decided<'a> {
    /// Its voters.
    pub voters: &'a Roster,
    /// Those of them that operators declared gone for ever.
    pub gone: &'a BTreeSet<PeerId>,
}

/// Whoever has just left departs with the weight of its last vote. All that depart lose a given
/// part of the total weight together, those first that have been silent for longest.
pub(super) fn shrink(
    accounts: &mut BTreeMap<PeerId, Account>,
    decided: Decided<'_>,
    rules: &Membership,
) {
    let mut departing = Vec::new();
    for (peer, account) in accounts.iter_mut() {
        if account.member || account.banned {
            account.departing = 0;
            continue;
        }
        // Its vote of the round that has ended: a member's, or what was left of it.
        account.departing = if decided.gone.contains(peer) {
            0
        } else {
            decided.voters.weight(peer)
        };
        if account.departing > 0 {
            departing.push((account.seen_until, *peer));
        }
    }
    departing.sort_unstable();
    let mut budget = scale(
        decided.voters.total().0,
        rules.quorum_shrink_ppm.into(),
        PPM.into(),
    )
    .max(1);
    for (_, peer) in departing {
        if let Some(account) = accounts.get_mut(&peer) {
            let taken = account.departing.min(budget);
            account.departing -= taken;
            budget -= taken;
        }
    }
}
