//! The hash by which nodes compare ledgers.

use std::collections::BTreeMap;

use weal_proto::{LedgerRoot, PeerId, RoundNumber};

use super::account::Account;
use crate::rules::roster::Roster;

const ROOT_CONTEXT: &str = "commonweal ledger v2";

/// A hash over every account, ticket and the roster.
pub(super) fn root(
    accounts: &BTreeMap<PeerId, Account>,
    tickets: &BTreeMap<PeerId, RoundNumber>,
    roster: &Roster,
) -> LedgerRoot {
    let mut hasher = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
    hasher.update(&length(accounts.len()));
    for (peer, a) in accounts {
        hasher.update(peer.as_bytes());
        for number in [
            a.weight,
            a.contributions,
            a.seen_until.0,
            a.contributed_until.0,
            a.departing,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        for number in [a.priority, a.turn] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&[u8::from(a.member), u8::from(a.banned), u8::from(a.founder)]);
        for number in [a.standing.level, a.standing.worth] {
            hasher.update(&number.to_le_bytes());
        }
        let standing = a.standing;
        for number in [standing.measured, standing.distance, standing.missed] {
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.update(&length(tickets.len()));
    for (peer, round) in tickets {
        hasher
            .update(peer.as_bytes())
            .update(&round.0.to_le_bytes());
    }
    hasher.update(&length(roster.len()));
    for (peer, weight) in roster.iter() {
        hasher.update(peer.as_bytes()).update(&weight.to_le_bytes());
    }
    (*hasher.finalize().as_bytes()).into()
}

fn length(count: usize) -> [u8; 8] {
    u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes()
}
