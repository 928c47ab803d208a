//! What each peer has earned, computed from decided rounds alone.
//!
//! A peer earns weight with each contribution that voters measured as useful (see
//! [`trust`](super::trust)), and all weights decay every round. A newcomer's weight counts only
//! after a probation, and then in growing part (vesting). A voter that leaves or falls silent is
//! not waited for, but its weight leaves the quorum only slowly: otherwise whoever is awake last
//! would own the run. Nothing here looks at connections or at a clock: a peer is absent when
//! decided rounds lack its signature. All arithmetic is on integers and saturates, so every node
//! computes the same ledger.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::manifest::{Manifest, Membership, PPM, Trust};
use weal_proto::{Attestation, Envelope, LedgerRoot, PeerId, RoundNumber, RoundSet, limits};

use crate::rules::roster::Roster;
use crate::rules::trust::credit::credits;
use crate::rules::trust::score::Scores;
use crate::rules::trust::standing::{self, Standing, Usual};

const ROOT_CONTEXT: &str = "commonweal ledger v2";
/// The most newcomers that wait for a place.
const MAX_TICKETS: usize = 256;
/// A ticket that has waited for this many rounds ends.
const TICKET_ROUNDS: u64 = 1_024;

/// What one peer has earned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The weight that it has earned, less decay.
    pub weight: u64,
    /// The number of its contributions that earned weight.
    pub contributions: u64,
    /// What its contributions and its measurements of others' have proved.
    pub standing: Standing,
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
    /// Whose turn it is to propose: see [`Roster::proposer`].
    pub priority: i64,
    /// Whose turn it is to have a place: see [`Places`](crate::Places).
    pub turn: i64,
    /// The weight with which a voter that has left still counts.
    pub departing: u64,
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

    /// Whether decided rounds up to this one lack its signature for too long.
    fn is_silent(&self, round: RoundNumber, rules: &Membership) -> bool {
        let silence = round.next().0.saturating_sub(self.seen_until.0);
        silence >= u64::from(rules.absence_rounds).saturating_add(limits::LATE_ROUNDS)
    }

    /// Whether the peer was heard after it signed a leave for `round`: in a later round than the
    /// one in which it said so. A peer that goes on has not left.
    pub(crate) fn outlived_leave(&self, round: RoundNumber) -> bool {
        self.seen_until > round.next()
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
    /// Peers with an attestation of an earlier round, and that round.
    pub late: BTreeSet<(RoundNumber, PeerId)>,
    /// Newcomers that a ticket of theirs is decided of.
    pub tickets: BTreeSet<PeerId>,
    /// Newcomers that held a place in the round: their tickets are used up.
    pub placed: BTreeSet<PeerId>,
    /// What the round changes about its members' turns.
    pub turns: BTreeMap<PeerId, i64>,
    /// Voters that operators declared gone for ever.
    pub gone: BTreeSet<PeerId>,
}

impl Outcome {
    /// Reads the outcome of a round set without checking the set. `placed` and `turns` do not stand
    /// in it.
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
            late: set.late.iter().filter_map(late).collect(),
            tickets: signers(&set.tickets),
            gone: set.gone.iter().copied().collect(),
            ..Self::default()
        }
    }
}

fn late(envelope: &Envelope) -> Option<(RoundNumber, PeerId)> {
    let attestation: Attestation = envelope.open().ok()?;
    Some((attestation.round, envelope.signer))
}

/// Every peer's account, and the voters that follow from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    accounts: BTreeMap<PeerId, Account>,
    /// Newcomers that wait for a place, with the round that decided their ticket.
    tickets: BTreeMap<PeerId, RoundNumber>,
    roster: Roster,
}

impl Ledger {
    /// The ledger before round 0: it holds the founders only.
    pub fn genesis(manifest: &Manifest) -> Self {
        let founder = |weight| Account {
            weight,
            member: true,
            founder: true,
            standing: Standing::founder(&manifest.trust),
            ..Account::default()
        };
        let accounts: BTreeMap<_, _> = manifest
            .founders
            .iter()
            .map(|f| (f.peer, founder(f.weight.0)))
            .collect();
        let roster = roster_of(&accounts, &manifest.membership);
        Self {
            accounts,
            tickets: BTreeMap::new(),
            roster,
        }
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

    /// Newcomers that wait for a place, with the round that decided their ticket.
    pub fn tickets(&self) -> impl Iterator<Item = (PeerId, RoundNumber)> {
        self.tickets.iter().map(|(peer, round)| (*peer, *round))
    }

    /// Whether a ticket of this peer is decided and not used yet.
    pub fn has_ticket(&self, peer: &PeerId) -> bool {
        self.tickets.contains_key(peer)
    }

    /// How many more tickets may be decided.
    pub(crate) fn room_for_tickets(&self) -> usize {
        MAX_TICKETS.saturating_sub(self.tickets.len())
    }

    /// A hash over every account, ticket and the roster.
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
        hasher.update(&length(self.tickets.len()));
        for (peer, round) in &self.tickets {
            hasher
                .update(peer.as_bytes())
                .update(&round.0.to_le_bytes());
        }
        hasher.update(&length(self.roster.len()));
        for (peer, weight) in self.roster.iter() {
            hasher.update(peer.as_bytes()).update(&weight.to_le_bytes());
        }
        (*hasher.finalize().as_bytes()).into()
    }

    /// How much each account's contribution counts in the outer step of the next round, in ppm; 0
    /// for peers on probation and for those without an account.
    pub(crate) fn coefficients_ppm(&self, rules: &Trust) -> BTreeMap<PeerId, u32> {
        let usual = self.usual(rules).level;
        let coefficient = |account: &Account| account.standing.coefficient_ppm(usual, rules);
        self.accounts
            .iter()
            .map(|(peer, account)| (*peer, coefficient(account)))
            .collect()
    }

    /// What is usual among peers with history.
    fn usual(&self, rules: &Trust) -> Usual {
        let accounts = self.accounts.values();
        let standings = accounts.map(|account| (&account.standing, account.weight));
        Usual::of(standings, rules)
    }

    /// Voters whose measurements are far from everybody else's.
    fn suspects(&self, rules: &Trust) -> BTreeSet<PeerId> {
        let voters = self.roster.iter();
        let standings =
            voters.filter_map(|(peer, _)| Some((peer, &self.accounts.get(&peer)?.standing)));
        standing::suspects(standings, rules)
    }

    /// The voters that may be drawn to measure contributions, with their weights: all members but
    /// suspects. Voters that have left do not measure.
    pub(crate) fn measurers(&self, rules: &Trust) -> impl Iterator<Item = (PeerId, u64)> {
        let suspects = self.suspects(rules);
        let voters = self.roster.iter();
        voters.filter(move |(peer, _)| self.is_member(peer) && !suspects.contains(peer))
    }

    /// Takes in the scores of a settled round: standing first, then the credit for it. A newcomer
    /// becomes a member once its standing is above zero.
    ///
    /// Call it before [`Self::apply`] of the round in which the scores are settled.
    pub(crate) fn settle(&mut self, scores: &Scores, membership: &Membership, rules: &Trust) {
        for peer in self.suspects(rules) {
            if !scores.voters.contains_key(&peer) {
                self.update(&peer, |account| account.standing.forgive(rules));
            }
        }
        for (voter, duty) in &scores.voters {
            self.update(voter, |account| account.standing.take_duty(*duty, rules));
        }
        let suspects = self.suspects(rules);
        let counted = self.counted(scores, &suspects);
        for (peer, score) in &counted {
            self.update(peer, |account| {
                let had_standing = account.standing.level > 0;
                account.standing.take_score(*score, rules);
                if !had_standing && account.standing.level > 0 && !account.banned {
                    account.member = true;
                }
            });
        }
        let earned = self.earned(&counted, &suspects, rules);
        for (peer, credit) in credits(&earned, membership.credit, rules) {
            self.update(&peer, |account| {
                account.weight = account.weight.saturating_add(credit);
                let earned = u64::from(credit > 0);
                account.contributions = account.contributions.saturating_add(earned);
            });
        }
    }

    /// What each score counts for. A suspect's is at most zero, and zero if it did not contribute:
    /// so it loses standing in any case.
    fn counted(&self, scores: &Scores, suspects: &BTreeSet<PeerId>) -> BTreeMap<PeerId, i32> {
        let counted = |(peer, score): (&PeerId, &Option<i32>)| {
            let standing = self.accounts.get(peer).map(|account| account.standing);
            let standing = standing.unwrap_or_default();
            Some((*peer, standing.counted((*score)?, scores.doubt)))
        };
        let mut counted: BTreeMap<_, _> = scores.contributors.iter().filter_map(counted).collect();
        for peer in suspects {
            let score = counted.entry(*peer).or_default();
            *score = (*score).min(0);
        }
        counted
    }

    /// What each contributor earns, in ppm of the credit.
    fn earned(
        &self,
        counted: &BTreeMap<PeerId, i32>,
        suspects: &BTreeSet<PeerId>,
        rules: &Trust,
    ) -> BTreeMap<PeerId, i32> {
        let usual = self.usual(rules);
        let earned = |(peer, score): (&PeerId, &i32)| {
            let account = self.accounts.get(peer).filter(|account| !account.banned)?;
            let standing = account.standing;
            let was_trusted = standing.measured > rules.probation; // this score is counted in
            let earns = was_trusted && !suspects.contains(peer);
            earns.then(|| (*peer, standing.earned_ppm(*score, &usual, rules)))
        };
        counted.iter().filter_map(earned).collect()
    }

    /// Moves to the round after `round`, which had this outcome.
    ///
    /// A contribution brings back a member that was absent or had left. A leave is applied before
    /// contributions: a peer that contributes in the same round stays a member.
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
            account.contributed_until = round.next();
            account.seen_until = round.next();
            account.member |= account.standing.level > 0;
        }
        for peer in &outcome.attesters {
            self.update(peer, |account| account.seen_until = round.next());
        }
        for (attested, peer) in &outcome.late {
            self.update(peer, |account| {
                account.seen_until = account.seen_until.max(attested.next());
            });
        }
        for peer in outcome.equivocators.iter().chain(&outcome.gone) {
            self.update(peer, |account| {
                account.weight = 0;
                account.member = false;
                account.departing = 0;
            });
        }
        for peer in &outcome.equivocators {
            self.update(peer, |account| account.banned = true);
        }
        for (peer, turn) in &outcome.turns {
            self.update(peer, |account| account.turn = *turn);
        }
        self.end_tickets(round, outcome);
        self.end_membership(round, rules);
        self.begin_roster(&outcome.gone, rules);
        // Accounts of silent peers without any weight would only make the ledger grow. A newcomer's
        // contribution is settled before its silence counts.
        self.accounts.retain(|_, account| {
            let has_weight = account.weight > 0 || account.departing > 0;
            has_weight || account.banned || !account.is_silent(round, rules)
        });
    }

    fn end_tickets(&mut self, round: RoundNumber, outcome: &Outcome) {
        self.tickets.retain(|peer, decided| {
            let account = self.accounts.get(peer);
            let needless = account.is_some_and(|account| account.member || account.banned);
            let old = decided.0.saturating_add(TICKET_ROUNDS) <= round.0;
            !outcome.placed.contains(peer) && !needless && !old
        });
        for peer in &outcome.tickets {
            self.tickets.entry(*peer).or_insert(round);
        }
    }

    /// The voters of the next round. Those that have left still count, less what this round takes
    /// from them.
    fn begin_roster(&mut self, gone: &BTreeSet<PeerId>, rules: &Membership) {
        for (peer, priority) in self.roster.priorities_after_round() {
            self.update(&peer, |account| account.priority = priority);
        }
        self.depart(gone, rules);
        let roster = roster_of(&self.accounts, rules);
        // Without voters nothing could ever be decided again, so the last voters keep their votes.
        if !roster.is_empty() {
            self.roster = roster;
        }
    }

    /// Whoever has just left departs with the weight of its last vote. All that depart lose a given
    /// part of the total weight together, those first that have been silent for longest.
    fn depart(&mut self, gone: &BTreeSet<PeerId>, rules: &Membership) {
        let before = &self.roster;
        let mut departing = Vec::new();
        for (peer, account) in &mut self.accounts {
            if account.member || account.banned {
                account.departing = 0;
                continue;
            }
            // Its vote of the round that has ended: a member's, or what was left of it.
            account.departing = if gone.contains(peer) {
                0
            } else {
                before.weight(peer)
            };
            if account.departing > 0 {
                departing.push((account.seen_until, *peer));
            }
        }
        departing.sort_unstable();
        let mut budget = scale(before.total().0, rules.quorum_shrink_ppm.into(), PPM.into()).max(1);
        for (_, peer) in departing {
            self.update(&peer, |account| {
                let taken = account.departing.min(budget);
                account.departing -= taken;
                budget -= taken;
            });
        }
    }

    fn update(&mut self, peer: &PeerId, change: impl FnOnce(&mut Account)) {
        if let Some(account) = self.accounts.get_mut(peer) {
            change(account);
        }
    }

    /// Ends the membership of peers that are silent. A word may be decided a few rounds late, so
    /// silence counts from then on only.
    fn end_membership(&mut self, round: RoundNumber, rules: &Membership) {
        for account in self.accounts.values_mut() {
            account.member &= !account.is_silent(round, rules);
        }
    }
}

fn roster_of(accounts: &BTreeMap<PeerId, Account>, rules: &Membership) -> Roster {
    let weight = |account: &Account| account.voting_weight(rules).max(account.departing);
    let weights = accounts
        .iter()
        .map(|(peer, account)| (*peer, weight(account)));
    Roster::new(weights)
        .with_priorities(|peer| accounts.get(peer).map_or(0, |account| account.priority))
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
    use crate::rules::trust::duty::Duty;
    use crate::sim::fixtures::{manifest, peer};
    use proptest::prelude::*;

    fn rules() -> Membership {
        Membership {
            weight_decay_ppm: 900_000,
            credit: 1000,
            probation_rounds: 2,
            vesting_rounds: 1,
            absence_rounds: 1,
            quorum_shrink_ppm: 100_000,
            ticket_bits: 0,
        }
    }

    fn trust() -> Trust {
        Trust {
            probation: 1,
            pot: 1 << 40,
            ..Trust::default()
        }
    }

    /// The duty of a voter whose reports are this far off.
    fn far(distance: u32) -> Duty {
        Duty {
            distance: Some(distance),
            missed: 0,
        }
    }

    /// Typical scores of these peers.
    fn scored(peers: &[u8]) -> Scores {
        Scores {
            contributors: peers.iter().map(|n| (peer(*n), Some(1_000_000))).collect(),
            ..Scores::default()
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
            ledger.settle(&scored(&[1, 2, 9]), &rules(), &trust());
            ledger.apply(RoundNumber(round), &contributed(&[1, 2, 9]), &rules());
            let account = ledger.account(&peer(9)).copied().unwrap_or_default();
            assert_eq!(account.member, round > 0);
            votes.push((ledger.roster().weight(&peer(9)), account.weight));
        }
        // Its account begins with its first contribution, and its first score is its probation.
        let expected = [(0, 0), (0, 0), (0, 900), (855, 1710), (2439, 2439)];
        assert_eq!(votes, expected);
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
        for round in 0..4 {
            assert!(ledger.is_member(&peer(1)), "round {round}");
            ledger.apply(RoundNumber(round), &contributed(&[2]), &rules());
        }
        assert!(!ledger.is_member(&peer(1)));
        let left = ledger.account(&peer(1)).map_or(0, |account| account.weight);
        assert!(left > 0);
        ledger.apply(RoundNumber(4), &contributed(&[1, 2]), &rules());
        assert_eq!(ledger.roster().weight(&peer(1)), left * 9 / 10);
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
    fn a_late_attestation_counts_for_its_own_round() {
        let mut ledger = ledger();
        for round in 0..3 {
            ledger.apply(RoundNumber(round), &contributed(&[2]), &rules());
        }
        let outcome = Outcome {
            late: [(RoundNumber(1), peer(1))].into(),
            ..contributed(&[2])
        };
        ledger.apply(RoundNumber(3), &outcome, &rules());
        assert!(ledger.is_member(&peer(1)));
        let seen = ledger.account(&peer(1)).map(|account| account.seen_until);
        assert_eq!(seen, Some(RoundNumber(2)));
    }

    #[test]
    fn whoever_leaves_counts_for_less_and_less_and_the_quorum_shrinks_slowly() {
        let mut ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4]));
        let leave = Outcome {
            leavers: [peer(1), peer(2)].into(),
            ..contributed(&[3, 4])
        };
        let mut totals = vec![ledger.roster().total().0];
        let no_decay = Membership {
            weight_decay_ppm: PPM,
            credit: 0,
            ..rules()
        };
        ledger.apply(RoundNumber(0), &leave, &no_decay);
        totals.push(ledger.roster().total().0);
        assert!(!ledger.is_member(&peer(1)));
        assert!(ledger.roster().contains(&peer(2)));
        for round in 1..8 {
            ledger.apply(RoundNumber(round), &contributed(&[3, 4]), &no_decay);
            totals.push(ledger.roster().total().0);
        }
        let shrinks = totals.windows(2).map(|pair| (pair[0], pair[0] - pair[1]));
        for (total, by) in shrinks {
            assert!(by <= total / 10, "{totals:?}");
        }
        assert_eq!(totals.last(), Some(&20_000));
        assert!(!ledger.roster().contains(&peer(1)));
    }

    #[test]
    fn voters_that_operators_declare_gone_leave_the_quorum_at_once() {
        let mut ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4]));
        let outcome = Outcome {
            gone: [peer(1), peer(2)].into(),
            ..Outcome::default()
        };
        ledger.apply(RoundNumber(0), &outcome, &rules());
        assert_eq!(ledger.roster().len(), 2);
        assert!(!ledger.is_member(&peer(1)));
    }

    #[test]
    fn a_leave_is_outlived_by_a_word_of_a_later_round() {
        let seen = |round| Account {
            seen_until: RoundNumber(round),
            ..Account::default()
        };
        assert!(!seen(4).outlived_leave(RoundNumber(3)));
        assert!(seen(5).outlived_leave(RoundNumber(3)));
    }

    #[test]
    fn the_last_voters_keep_their_votes_when_everyone_leaves() {
        let mut ledger = ledger();
        let outcome = Outcome {
            leavers: [peer(1), peer(2)].into(),
            ..Outcome::default()
        };
        for round in 0..100 {
            ledger.apply(RoundNumber(round), &outcome, &rules());
        }
        assert!(!ledger.roster().is_empty());
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
        ledger.settle(&scored(&[1]), &rules(), &trust());
        assert!(roots.insert(ledger.root()));
        let distance = Scores {
            voters: [(peer(1), far(9))].into(),
            ..Scores::default()
        };
        ledger.settle(&distance, &rules(), &trust());
        assert!(roots.insert(ledger.root()));
    }

    #[test]
    fn what_was_not_measured_or_did_harm_earns_nothing() {
        let mut ledger = ledger();
        let before = [1, 2].map(|n| ledger.account(&peer(n)).map_or(0, |one| one.weight));
        let scores = Scores {
            contributors: [(peer(1), None), (peer(2), Some(-1_000_000))].into(),
            ..Scores::default()
        };
        ledger.settle(&scores, &rules(), &trust());
        let accounts = [1, 2].map(|n| ledger.account(&peer(n)).copied().unwrap_or_default());
        assert_eq!(accounts.map(|one| one.weight), before);
        assert_eq!(accounts.map(|one| one.contributions), [0, 0]);
        // Unmeasured work changes no standing, harm does.
        assert_eq!(accounts[0].standing, Standing::founder(&trust()));
        assert!(accounts[1].standing.level < 500_000);
    }

    #[test]
    fn a_voter_that_is_far_off_again_and_again_earns_nothing_and_loses_standing() {
        let mut ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4]));
        let scores = Scores {
            voters: [
                (1, 14_000_000),
                (2, 900_000),
                (3, 1_000_000),
                (4, 2_000_000),
            ]
            .map(|(n, distance)| (peer(n), far(distance)))
            .into(),
            ..scored(&[1, 2, 3, 4])
        };
        for _ in 0..40 {
            ledger.settle(&scores, &rules(), &trust());
        }
        let [liar, honest] = [1, 2].map(|n| ledger.account(&peer(n)).copied().unwrap_or_default());
        assert_eq!(
            (honest.contributions, honest.standing.level),
            (40, 1_000_000)
        );
        assert!(liar.contributions < 5, "{liar:?}");
        assert!(liar.standing.level < 100_000, "{liar:?}");
        let coefficients = ledger.coefficients_ppm(&trust());
        assert_eq!(coefficients[&peer(2)], PPM);
        assert!(coefficients[&peer(1)] < PPM / 5);
    }

    fn any_peers() -> impl Strategy<Value = BTreeSet<PeerId>> {
        prop::collection::btree_set(0..12_u8, 0..6)
            .prop_map(|peers| peers.into_iter().map(|n| [n; 32].into()).collect())
    }

    fn any_scores() -> impl Strategy<Value = Scores> {
        let of_peers = || 0..12_u8;
        let contributors = prop::collection::btree_map(of_peers(), any::<Option<i32>>(), 0..6);
        let duty = (prop::option::of(any::<u32>()), 0..=PPM);
        let voters = prop::collection::btree_map(of_peers(), duty, 0..6);
        let all = (contributors, voters, 0..=PPM);
        all.prop_map(|(contributors, voters, doubt)| Scores {
            doubt,
            contributors: contributors
                .into_iter()
                .map(|(n, score)| ([n; 32].into(), score))
                .collect(),
            voters: voters
                .into_iter()
                .map(|(n, (distance, missed))| ([n; 32].into(), Duty { distance, missed }))
                .collect(),
        })
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
                ..Outcome::default()
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
                        quorum_shrink_ppm: 100_000,
                        ticket_bits: 0,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn whatever_is_decided_the_roster_has_voters_and_a_total_that_the_engine_can_bear(
            outcomes in prop::collection::vec((any_outcome(), any_scores()), 1..30),
            rules in any_rules(),
        ) {
            let mut ledger = ledger();
            let mut again = ledger.clone();
            for (round, (outcome, scores)) in (0..).map(RoundNumber).zip(&outcomes) {
                ledger.settle(scores, &rules, &trust());
                again.settle(scores, &rules, &trust());
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
