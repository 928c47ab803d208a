//! What each peer has earned, computed from decided rounds alone.
//!
//! A peer earns weight with each decided contribution, and all weights decay every round. A
//! newcomer's weight counts only after a probation, and then in growing part (vesting). Nothing
//! here looks at connections or at a clock: a peer is absent when decided rounds lack its
//! signature. All arithmetic is on integers and saturates, so every node computes the same ledger.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::manifest::{Manifest, Membership, PPM};
use weal_proto::{Envelope, LedgerRoot, PeerId, RoundNumber, RoundSet};

use crate::rules::roster::Roster;

const ROOT_CONTEXT: &str = "commonweal ledger v1";

/// One peer's standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The weight that it has earned, less decay.
    pub weight: u64,
    /// The number of its contributions in decided rounds.
    pub contributions: u64,
    /// The round after the last decided one that holds a contribution or an attestation from it.
    pub seen_until: RoundNumber,
    /// The round after the last decided one that holds a contribution from it.
    pub contributed_until: RoundNumber,
    /// Whether it may attest. A member with a voting weight above 0 also votes.
    pub member: bool,
    /// Whether it has contradicted itself. A ban is for ever.
    pub banned: bool,
    /// Whether the manifest names it. A founder's weight counts from the start.
    pub founder: bool,
}

impl Account {
    /// How much its vote counts: nothing during probation, then a part of its weight that grows
    /// with each contribution until all of it counts.
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

/// What a decided round says about peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Peers whose contribution was chosen.
    pub contributors: BTreeSet<PeerId>,
    /// Peers whose attestation is in the round set.
    pub attesters: BTreeSet<PeerId>,
    /// Members that announced that they leave.
    pub leavers: BTreeSet<PeerId>,
    /// Peers that contradicted themselves.
    pub equivocators: BTreeSet<PeerId>,
}

impl Outcome {
    /// Reads the outcome of a round set without checking the set.
    pub(crate) fn of(set: &RoundSet) -> Self {
        let signers =
            |envelopes: &[Envelope]| envelopes.iter().map(|envelope| envelope.signer).collect();
        Self {
            contributors: signers(&set.contributions),
            attesters: signers(&set.attestations),
            leavers: signers(&set.leaves),
            equivocators: set
                .evidence
                .iter()
                .map(|evidence| evidence.first.signer)
                .collect(),
        }
    }
}

/// Every peer's account, and the voters that follow from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    accounts: BTreeMap<PeerId, Account>,
    roster: Roster,
}

impl Ledger {
    /// The ledger before round 0: it holds the founders only.
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

    /// The voters of the round that this ledger is for.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// A peer's account, if it has one.
    pub fn account(&self, peer: &PeerId) -> Option<&Account> {
        self.accounts.get(peer)
    }

    /// All accounts, sorted by peer.
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

    /// A hash over every account and the roster.
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

    /// Moves to the round after `round`, which had this outcome.
    ///
    /// A leave is applied before contributions: a peer that contributes in the same round stays a
    /// member.
    pub(crate) fn apply(&mut self, round: RoundNumber, outcome: &Outcome, rules: &Membership) {
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
        for peer in &outcome.equivocators {
            self.update(peer, |account| {
                account.weight = 0;
                account.member = false;
                account.banned = true;
            });
        }
        self.drop_absent(round, rules);

        let roster = roster_of(&self.accounts, rules);
        // Without voters nothing could ever be decided again, so the last voters keep their votes.
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
        // Accounts of absent peers without any weight would only make the ledger grow.
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
    use crate::sim::fixtures::{manifest, peer};
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
    fn silence_ends_membership_and_a_contribution_restores_it_with_the_remaining_weight() {
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
    fn an_attestation_keeps_a_member_from_counting_as_absent() {
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
    fn an_equivocator_loses_its_weight_and_is_banned_for_ever() {
        let mut ledger = ledger();
        let outcome = Outcome {
            equivocators: [peer(1)].into(),
            ..contributed(&[1, 2])
        };
        ledger.apply(RoundNumber(0), &outcome, &rules());
        assert!(ledger.is_banned(&peer(1)));
        assert_eq!(ledger.roster().weight(&peer(1)), 0);
        ledger.apply(RoundNumber(1), &contributed(&[2]), &rules());
        assert!(ledger.is_banned(&peer(1)));
    }

    #[test]
    fn the_last_voters_keep_their_votes_when_everyone_leaves() {
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
            .prop_map(|(contributors, attesters, leavers, equivocators)| Outcome {
                contributors,
                attesters,
                leavers,
                equivocators,
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
        fn whatever_is_decided_the_roster_has_voters_and_a_total_that_the_engine_can_bear(
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
                prop_assert!(
                    ledger
                        .iter()
                        .filter(|(_, account)| account.banned)
                        .all(|(_, account)| account.weight == 0 && !account.member)
                );
            }
        }
    }
}
