//! Every peer's account, and how a decided round changes them.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::manifest::{Manifest, Membership, PPM, Trust};
use weal_proto::{LedgerRoot, PeerId, RoundNumber, limits};

use super::account::{Account, scale};
use super::departure;
use super::outcome::Outcome;
use super::root::root;
use super::settlement::{Settlement, suspects, usual};
use crate::rules::roster::Roster;
use crate::rules::trust::score::Scores;
use crate::rules::trust::standing::Standing;

/// A ticket that has waited for this many rounds ends.
const TICKET_ROUNDS: u64 = 1_024;

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

    /// The ledger of these parts, which another ledger had.
    pub(super) const fn of_parts(
        accounts: BTreeMap<PeerId, Account>,
        tickets: BTreeMap<PeerId, RoundNumber>,
        roster: Roster,
    ) -> Self {
        Self {
            accounts,
            tickets,
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
        limits::WAITING_TICKETS.saturating_sub(self.tickets.len())
    }

    /// A hash over every account, ticket and the roster.
    pub fn root(&self) -> LedgerRoot {
        root(&self.accounts, &self.tickets, &self.roster)
    }

    /// How much each account's contribution counts in the outer step of the next round, in ppm; 0
    /// for peers on probation and for those without an account.
    pub(crate) fn coefficients_ppm(&self, rules: &Trust) -> BTreeMap<PeerId, u32> {
        let usual = usual(&self.accounts, rules).level;
        let coefficient = |account: &Account| account.standing.coefficient_ppm(usual, rules);
        self.accounts
            .iter()
            .map(|(peer, account)| (*peer, coefficient(account)))
            .collect()
    }

    /// The voters that may be drawn to measure contributions, with their weights: all members but
    /// suspects. Voters that have left do not measure.
    pub(crate) fn measurers(&self, rules: &Trust) -> impl Iterator<Item = (PeerId, u64)> {
        let suspects = suspects(&self.accounts, &self.roster, rules);
        let voters = self.roster.iter();
        voters.filter(move |(peer, _)| self.is_member(peer) && !suspects.contains(peer))
    }

    /// Takes in the scores of a settled round: standing first, then the credit for it. A newcomer
    /// becomes a member once its standing is above zero.
    ///
    /// Call it before [`Self::apply`] of the round in which the scores are settled.
    pub(crate) fn settle(&mut self, scores: &Scores, membership: &Membership, rules: &Trust) {
        let settlement = Settlement {
            accounts: &mut self.accounts,
            voters: &self.roster,
            rules,
        };
        settlement.take(scores, membership.credit);
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
        let decided = departure::Decided {
            voters: &self.roster,
            gone,
        };
        departure::shrink(&mut self.accounts, decided, rules);
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
