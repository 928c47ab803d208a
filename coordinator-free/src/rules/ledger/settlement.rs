//! What the scores of a settled round change: standing, membership, credit.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::PeerId;
use weal_proto::manifest::Trust;

use super::account::Account;
use crate::rules::roster::Roster;
use crate::rules::trust::credit::credits;
use crate::rules::trust::score::Scores;
use crate::rules::trust::standing::{self, Usual};

/// What is usual among peers with history.
pub(super) fn usual(accounts: &BTreeMap<PeerId, Account>, rules: &Trust) -> Usual {
    let accounts = accounts.values();
    let standings = accounts.map(|account| (&account.standing, account.weight));
    Usual::of(standings, rules)
}

/// Voters whose measurements are far from everybody else's.
pub(super) fn suspects(
    accounts: &BTreeMap<PeerId, Account>,
    voters: &Roster,
    rules: &Trust,
) -> BTreeSet<PeerId> {
    let voters = voters.iter();
    let standings = voters.filter_map(|(peer, _)| Some((peer, &accounts.get(&peer)?.standing)));
    standing::suspects(standings, rules)
}

/// The accounts that scores change, and the round's voters.
pub(super) struct Settlement<'a> {
    pub accounts: &'a mut BTreeMap<PeerId, Account>,
    pub voters: &'a Roster,
    pub rules: &'a Trust,
}

impl Settlement<'_> {
    /// Takes in the scores of a round: duties first, then standing, then the credit for it, of
    /// which usual work earns this much.
    pub(super) fn take(mut self, scores: &Scores, credit: u64) {
        self.take_duties(scores);
        let suspects = self.suspects();
        let counted = self.counted(scores, &suspects);
        for (peer, score) in &counted {
            self.take_score(peer, *score);
        }
        let earned = self.earned(&counted, scores.doubt, &suspects);
        for (peer, credit) in credits(&earned, credit, self.rules) {
            self.update(&peer, |account, _| {
                account.weight = account.weight.saturating_add(credit);
                let earned = u64::from(credit > 0);
                account.contributions = account.contributions.saturating_add(earned);
            });
        }
    }

    fn suspects(&self) -> BTreeSet<PeerId> {
        suspects(self.accounts, self.voters, self.rules)
    }

    fn update(&mut self, peer: &PeerId, change: impl FnOnce(&mut Account, &Trust)) {
        if let Some(account) = self.accounts.get_mut(peer) {
            change(account, self.rules);
        }
    }

    /// Nothing shows any longer what a suspect measures, so its distance falls by itself.
    fn take_duties(&mut self, scores: &Scores) {
        for peer in self.suspects() {
            if !scores.voters.contains_key(&peer) {
                self.update(&peer, |account, rules| account.standing.forgive(rules));
            }
        }
        for (voter, duty) in &scores.voters {
            self.update(voter, |account, rules| {
                account.standing.take_duty(*duty, rules)
            });
        }
    }

    /// A newcomer becomes a member once its standing is above zero.
    fn take_score(&mut self, peer: &PeerId, score: i32) {
        self.update(peer, |account, rules| {
            let had_standing = account.standing.level > 0;
            account.standing.take_score(score, rules);
            if !had_standing && account.standing.level > 0 && !account.banned {
                account.member = true;
            }
        });
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
        doubt: u32,
        suspects: &BTreeSet<PeerId>,
    ) -> BTreeMap<PeerId, i32> {
        let usual = usual(self.accounts, self.rules);
        let earned = |(peer, score): (&PeerId, &i32)| {
            let account = self.accounts.get(peer).filter(|account| !account.banned)?;
            let standing = account.standing;
            let was_trusted = standing.measured > self.rules.probation; // this score is counted in
            let earns = was_trusted && !suspects.contains(peer);
            earns.then(|| {
                (
                    *peer,
                    standing.earned_ppm((*score, doubt), &usual, self.rules),
                )
            })
        };
        counted.iter().filter_map(earned).collect()
    }
}
