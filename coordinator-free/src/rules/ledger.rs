//! What each peer has earned, from decided rounds alone.
//!
//! All arithmetic is on integers and saturates, so every replica computes the same ledger. A weight
//! is earned by decided contributions and decays every round; a newcomer's counts only after a
//! probation, and then in growing part. Nothing here looks at who is connected, or at a clock: a
//! peer is absent when decided rounds lack its signature.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::manifest::{Manifest, Membership, PPM};
use weal_proto::{LedgerRoot, PeerId, RoundNumber};

use crate::rules::roster::Roster;

const ROOT_CONTEXT: &str = "commonweal ledger v1";

/// What is known of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// What it has earned and not lost to decay.
    pub weight: u64,
    /// Decided contributions.
    pub contributions: u64,
    /// The round after the last one that holds a contribution or attestation of it.
    pub seen_until: RoundNumber,
    /// The round after the last one that holds a contribution of it.
    pub contributed_until: RoundNumber,
    /// Whether it is on the roster, with or without a vote.
    pub member: bool,
    /// Whether it has contradicted itself: it may never come back.
    pub banned: bool,
    /// Whether the manifest names it: its weight counts from the start.
    pub founder: bool,
}

impl Account {
    /// What its vote counts: nothing before the end of the probation, then a part of its weight
    /// that grows with each contribution until it is vested.
    pub fn voting_weight(&self, rules: &Membership) -> u64 {
        if self.banned || !self.member {
            return 0;
        }
        if self.founder {
            return self.weight;
        }
        let Some(past_probation) = self
            .contributions
            .checked_sub(u64::from(rules.probation_rounds))
        else {
            return 0;
        };
        let whole = u64::from(rules.vesting_rounds).saturating_add(1);
        let part = past_probation.saturating_add(1).min(whole);
        scale(self.weight, part, whole)
    }
}

/// What a decided round says of its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whose contribution was chosen.
    pub contributors: BTreeSet<PeerId>,
    /// Whose attestation is in the proof.
    pub attesters: BTreeSet<PeerId>,
    /// Who said that it leaves.
    pub leavers: BTreeSet<PeerId>,
    /// Who contradicted itself.
    pub offenders: BTreeSet<PeerId>,
}

/// Every peer's account, and who may vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    accounts: BTreeMap<PeerId, Account>,
    roster: Roster,
}

impl Ledger {
    /// The ledger before round 0: founders only.
    pub fn genesis(manifest: &Manifest) -> Self {
        let founder = |weight| Account {
            weight,
            member: true,
            founder: true,
            ..Account::default()
        };
        let accounts: BTreeMap<_, _> = manifest
            .founders
            .iter()
            .map(|f| (f.peer, founder(f.weight.0)))
            .collect();
        let roster = roster_of(&accounts, &manifest.membership);
        Self { accounts, roster }
    }

    /// Who may vote in the round that this ledger is for.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// A peer's account, if it has one.
    pub fn account(&self, peer: &PeerId) -> Option<&Account> {
        self.accounts.get(peer)
    }

    /// All accounts, by peer.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Account)> {
        self.accounts.iter().map(|(peer, account)| (*peer, account))
    }

    /// Whether a peer is a member.
    pub fn is_member(&self, peer: &PeerId) -> bool {
        self.account(peer).is_some_and(|account| account.member)
    }

    /// Whether a peer is banned.
    pub fn is_banned(&self, peer: &PeerId) -> bool {
        self.account(peer).is_some_and(|account| account.banned)
    }

    /// Commits to every account and to the roster.
    pub fn root(&self) -> LedgerRoot {
        let mut hasher = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
        hasher.update(&length(self.accounts.len()));
        for (peer, a) in &self.accounts {
            hasher.update(peer.as_bytes());
            for number in [
                a.weight,
                a.contributions,
                a.seen_until.0,
                a.contributed_until.0,
            ] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(&[u8::from(a.member), u8::from(a.banned), u8::from(a.founder)]);
        }
        hasher.update(&length(self.roster.len()));
        for (peer, weight) in self.roster.iter() {
            hasher.update(peer.as_bytes()).update(&weight.to_le_bytes());
        }
        (*hasher.finalize().as_bytes()).into()
    }

    /// Goes on to the round after `round`, which had this outcome.
    ///
    /// A Leave counts before a contribution of the same round: whoever contributes is here.
    pub fn apply(&mut self, round: RoundNumber, outcome: &Outcome, rules: &Membership) {
        for account in self.accounts.values_mut() {
            account.weight = scale(account.weight, rules.weight_decay_ppm.into(), PPM.into());
        }
        for peer in &outcome.leavers {
            self.update(peer, |account| account.member = false);
        }
        for peer in &outcome.contributors {
            let account = self.accounts.entry(*peer).or_default();
            if account.banned {
                continue;
            }
            account.weight = account.weight.saturating_add(rules.credit);
            account.contributions = account.contributions.saturating_add(1);
            account.contributed_until = round.next();
            account.seen_until = round.next();
            account.member = true;
        }
        for peer in &outcome.attesters {
            self.update(peer, |account| account.seen_until = round.next());
        }
        for peer in &outcome.offenders {
            self.update(peer, |account| {
                account.weight = 0;
                account.member = false;
                account.banned = true;
            });
        }
        self.drop_absent(round, rules);

        let roster = roster_of(&self.accounts, rules);
        // Without voters nothing could ever be decided again: the last ones stay in charge.
        if !roster.is_empty() {
            self.roster = roster;
        }
    }

    fn update(&mut self, peer: &PeerId, change: impl FnOnce(&mut Account)) {
        if let Some(account) = self.accounts.get_mut(peer) {
            change(account);
        }
    }

    fn drop_absent(&mut self, round: RoundNumber, rules: &Membership) {
        for account in self.accounts.values_mut() {
            let absent = round.next().0.saturating_sub(account.seen_until.0);
            if absent >= u64::from(rules.absence_rounds) {
                account.member = false;
            }
        }
        // Who has nothing left and is not here would only make the ledger grow.
        self.accounts
            .retain(|_, account| account.member || account.banned || account.weight > 0);
    }
}

fn roster_of(accounts: &BTreeMap<PeerId, Account>, rules: &Membership) -> Roster {
    Roster::new(
        accounts
            .iter()
            .map(|(peer, account)| (*peer, account.voting_weight(rules))),
    )
}

/// ⌊value · part / whole⌋; `part` is at most `whole`.
fn scale(value: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(value)
        .saturating_mul(part.into())
        .checked_div(whole.into())
        .unwrap_or(0);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn length(count: usize) -> [u8; 8] {
    u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{manifest, peer};
    use proptest::prelude::*;

    fn rules() -> Membership {
        Membership {
            weight_decay_ppm: 900_000,
            credit: 1000,
            probation_rounds: 2,
            vesting_rounds: 1,
            absence_rounds: 3,
        }
    }

    fn contributed(peers: &[u8]) -> Outcome {
        Outcome {
            contributors: peers.iter().map(|n| peer(*n)).collect(),
            ..Outcome::default()
        }
    }

    fn ledger() -> Ledger {
        Ledger::genesis(&manifest(&[1, 2]))
    }

    #[test]
    fn a_newcomer_votes_only_after_probation_and_then_in_growing_part() {
        let mut ledger = ledger();
        let mut votes = Vec::new();
        for round in 0..5 {
            ledger.apply(RoundNumber(round), &contributed(&[1, 2, 9]), &rules());
            let account = ledger.account(&peer(9)).copied().unwrap_or_default();
            assert!(account.member);
            votes.push((ledger.roster().weight(&peer(9)), account.weight));
        }
        assert_eq!(
            votes,
            [
                (0, 1000),
                (950, 1900),
                (2710, 2710),
                (3439, 3439),
                (4095, 4095)
            ]
        );
    }

    #[test]
    fn a_founder_votes_from_the_start_and_decays_like_everyone() {
        let mut ledger = ledger();
        let before = ledger.roster().weight(&peer(1));
        ledger.apply(RoundNumber(0), &contributed(&[2]), &rules());
        assert_eq!(ledger.roster().weight(&peer(1)), before * 9 / 10);
    }

    #[test]
    fn silence_ends_membership_and_a_contribution_brings_it_back_with_what_is_left() {
        let mut ledger = ledger();
        for round in 0..3 {
            assert!(ledger.is_member(&peer(1)), "round {round}");
            ledger.apply(RoundNumber(round), &contributed(&[2]), &rules());
        }
        assert!(!ledger.is_member(&peer(1)));
        let left = ledger.account(&peer(1)).map_or(0, |account| account.weight);
        assert!(left > 0);
        ledger.apply(RoundNumber(3), &contributed(&[1, 2]), &rules());
        assert_eq!(ledger.roster().weight(&peer(1)), left * 9 / 10 + 1000);
    }

    #[test]
    fn an_attestation_is_a_sign_of_life() {
        let mut ledger = ledger();
        for round in 0..5 {
            let outcome = Outcome {
                attesters: [peer(1)].into(),
                ..contributed(&[2])
            };
            ledger.apply(RoundNumber(round), &outcome, &rules());
        }
        assert!(ledger.is_member(&peer(1)));
    }

    #[test]
    fn an_offender_loses_everything_for_good() {
        let mut ledger = ledger();
        let outcome = Outcome {
            offenders: [peer(1)].into(),
            ..contributed(&[1, 2])
        };
        ledger.apply(RoundNumber(0), &outcome, &rules());
        assert!(ledger.is_banned(&peer(1)));
        assert_eq!(ledger.roster().weight(&peer(1)), 0);
        ledger.apply(RoundNumber(1), &contributed(&[2]), &rules());
        assert!(ledger.is_banned(&peer(1)));
    }

    #[test]
    fn the_last_voters_stay_when_all_leave() {
        let mut ledger = ledger();
        let before = ledger.roster().clone();
        let outcome = Outcome {
            leavers: [peer(1), peer(2)].into(),
            ..Outcome::default()
        };
        ledger.apply(RoundNumber(0), &outcome, &rules());
        assert_eq!(ledger.roster(), &before);
        assert!(!ledger.is_member(&peer(1)));
    }

    #[test]
    fn the_root_covers_every_account() {
        let mut ledger = ledger();
        let mut roots = BTreeSet::from([ledger.root()]);
        for round in 0..4 {
            ledger.apply(RoundNumber(round), &contributed(&[1]), &rules());
            assert!(roots.insert(ledger.root()));
        }
    }

    fn any_peers() -> impl Strategy<Value = BTreeSet<PeerId>> {
        prop::collection::btree_set(0..12_u8, 0..6)
            .prop_map(|peers| peers.into_iter().map(|n| [n; 32].into()).collect())
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        (
            any_peers(),
            any_peers(),
            any_peers(),
            prop::collection::btree_set(Just([3; 32].into()), 0..2),
        )
            .prop_map(|(contributors, attesters, leavers, offenders)| Outcome {
                contributors,
                attesters,
                leavers,
                offenders,
            })
    }

    fn any_rules() -> impl Strategy<Value = Membership> {
        (
            1..=PPM,
            prop_oneof![1..10_u64, Just(1 << 40), Just(u64::MAX)],
            0..4_u32,
            0..4_u32,
            1..5_u32,
        )
            .prop_map(
                |(weight_decay_ppm, credit, probation_rounds, vesting_rounds, absence_rounds)| {
                    Membership {
                        weight_decay_ppm,
                        credit,
                        probation_rounds,
                        vesting_rounds,
                        absence_rounds,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn whatever_is_decided_somebody_votes_within_the_engines_range(
            outcomes in prop::collection::vec(any_outcome(), 1..30),
            rules in any_rules(),
        ) {
            let mut ledger = ledger();
            let mut again = ledger.clone();
            for (round, outcome) in (0..).map(RoundNumber).zip(&outcomes) {
                ledger.apply(round, outcome, &rules);
                again.apply(round, outcome, &rules);
                prop_assert!(!ledger.roster().is_empty());
                prop_assert!(ledger.roster().total().0 < 1 << 60);
                prop_assert_eq!(ledger.root(), again.root());
                prop_assert!(ledger.iter().all(|(_, account)| !account.banned || (account.weight == 0 && !account.member)));
            }
        }
    }
}
