//! Adopting decisions, and bringing the weights up to them.

use std::collections::BTreeMap;

use weal_proto::{Decided, RoundNumber, StateRoot, Weight};

use super::Core;
use super::round::Round;
use crate::interface::error::Error;
use crate::interface::event::Event;
use crate::interface::output::{Apply, Output, Record, TimerId};
use crate::interface::view::Phase;
use crate::rules::chain::Chain;
use crate::rules::ledger::Ledger;
use crate::rules::round_set::Invalid;

/// Decided rounds that may wait to be applied. Who is further behind fetches weights instead.
const MOST_PLANS: usize = 1_024;
/// Rounds behind from which fetching weights is taken for cheaper than applying round by round.
const FETCH_WEIGHTS_FROM: u64 = 64;

/// The weights in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    /// The round that starts with them.
    pub round: RoundNumber,
    pub root: StateRoot,
}

/// How the rounds that were decided but may not be applied change the weights.
pub(super) fn plans(
    chain: &Chain,
    unapplied: &[Decided],
) -> Result<BTreeMap<RoundNumber, Apply>, Error> {
    let count = u64::try_from(unapplied.len()).unwrap_or(u64::MAX);
    let mut expected = RoundNumber(chain.round().0.saturating_sub(count));
    let mut plans = BTreeMap::new();
    for decided in unapplied {
        let found = decided.value.round;
        if found != expected || found >= chain.round() {
            return Err(Error::Gap { found, expected });
        }
        plans.insert(found, chain.plan(&decided.value));
        expected = expected.next();
    }
    Ok(plans)
}

impl Core {
    /// A decision of this peer's own engine.
    pub(super) fn adopt_own(&mut self, decided: Decided) {
        let round = self.chain.round();
        match self.adopt(decided, false) {
            Ok(()) => self.liveness.caught_up = true,
            Err(cause) => self.bar(format!(
                "it decided what is not valid in round {round}: {cause}"
            )),
        }
    }

    /// Decided rounds from other peers.
    pub(super) fn synced(&mut self, decided: Vec<Decided>) {
        let before = self.chain.round();
        for decided in decided {
            let round = decided.value.round;
            if round < self.chain.round() {
                continue;
            }
            if let Err(cause) = self.adopt(decided, true) {
                self.report(Event::SyncRefused {
                    round,
                    cause: cause.to_string(),
                });
                break;
            }
        }
        // There may be more where these came from; the answer of a peer that has no more is empty.
        if self.chain.round() > before {
            self.request_decided();
        }
    }

    /// Verifies a decision of the running round, persists it, and goes on to the next.
    fn adopt(&mut self, decided: Decided, synced: bool) -> Result<(), Invalid> {
        let before = self.chain.ledger().clone();
        self.chain.extend(&decided, &mut self.signatures)?;
        let round = decided.value.round;

        self.stop_training();
        self.end_round(round);
        self.report_decision(&decided, &before, synced);
        self.plans.insert(round, self.chain.plan(&decided.value));
        while self.plans.len() > MOST_PLANS {
            self.plans.pop_first();
        }
        self.outputs
            .push(Output::Persist(Record::Decided(Box::new(decided))));
        self.forget_the_decided();
        self.bring_weights_forward();
        self.progress();
        for envelope in self.early.take() {
            self.take_in_quietly(envelope);
        }
        Ok(())
    }

    fn end_round(&mut self, round: RoundNumber) {
        match self.round.phase {
            Phase::Committing => self.cancel_timer(TimerId::CommitClose(round)),
            Phase::Fetching => self.cancel_timer(TimerId::FetchClose(round)),
            Phase::Attesting => self.cancel_timer(TimerId::AttestClose(round)),
            Phase::Waiting | Phase::Deciding => {}
        }
        if let Some(mut engine) = self.engine.take() {
            for action in engine.stop() {
                if let crate::agreement::Action::CancelTimer(id) = action {
                    self.cancel_timer(id);
                }
            }
        }
        self.round = Round::default();
        self.log.clear();
    }

    fn report_decision(&mut self, decided: &Decided, before: &Ledger, synced: bool) {
        let signers = decided
            .certificate
            .signatures
            .iter()
            .map(|commit| &commit.peer);
        let weight = u64::try_from(before.roster().weigh(signers)).unwrap_or(u64::MAX);
        self.report(Event::Decided {
            round: decided.value.round,
            view: decided.certificate.view,
            contributions: decided.value.contributions.len(),
            voters: decided.certificate.signatures.len(),
            weight: Weight(weight),
            total: before.roster().total(),
            synced,
        });
        let after = self.chain.ledger();
        let joined = after
            .iter()
            .filter(|(peer, account)| account.member && !before.is_member(peer));
        let banned = after
            .iter()
            .filter(|(peer, account)| account.banned && !before.is_banned(peer));
        let left = before.iter().filter(|(peer, account)| {
            account.member && !after.is_member(peer) && !after.is_banned(peer)
        });
        let events: Vec<_> = joined
            .map(|(peer, _)| Event::Joined { peer })
            .chain(banned.map(|(peer, _)| Event::Banned { peer }))
            .chain(left.map(|(peer, _)| Event::Left { peer }))
            .collect();
        self.outputs.extend(events.into_iter().map(Output::Report));
    }

    fn forget_the_decided(&mut self) {
        let ledger = self.chain.ledger();
        self.knocks.forget_before(self.chain.round());
        self.evidence
            .retain(|peer, _| ledger.account(peer).is_some_and(|account| !account.banned));
        self.leaves.retain(|peer, _| ledger.is_member(peer));
    }

    pub(super) fn weights_ready(&mut self, round: RoundNumber, root: StateRoot) {
        if round > self.chain.round() {
            return;
        }
        self.applying = false;
        self.wanted = None;
        self.weights = Some(Weights { round, root });
        self.plans.retain(|planned, _| *planned >= round);
        self.progress();
        self.bring_weights_forward();
    }

    /// The caller could not bring the weights forward. The next nudge tries again.
    pub(super) fn apply_failed(&mut self, round: RoundNumber) {
        self.applying = false;
        let proven = self.newest_proven();
        self.wanted = match (self.wanted, self.weights) {
            // Nobody may hold those weights any more: the newest are the likeliest to be found.
            (Some(wanted), _) => proven
                .filter(|(newest, _)| *newest > wanted.0)
                .or(Some(wanted)),
            // Nobody holds the blobs any more. Where the newest weights whose root is decided are
            // here already, only the blobs can help.
            (None, Some(weights)) => {
                proven.filter(|(newest, _)| weights.round == round && *newest > round)
            }
            (None, None) => None,
        };
    }

    /// Applies the next decided round, or fetches weights where that is impossible or too long a
    /// way.
    pub(super) fn bring_weights_forward(&mut self) {
        if self.applying {
            return;
        }
        if let Some((round, root)) = self.wanted {
            self.fetch_weights(round, root);
            return;
        }
        let Some(weights) = self
            .weights
            .filter(|weights| weights.round < self.chain.round())
        else {
            return;
        };
        let behind = self.chain.round().0.saturating_sub(weights.round.0);
        match self.plans.get(&weights.round) {
            Some(plan) if plan.base_root != weights.root => {
                let (round, decided) = (plan.round, plan.base_root);
                self.report(Event::RootMismatch {
                    round,
                    own: weights.root,
                    others: decided,
                });
                self.fetch_weights(round, decided);
            }
            Some(plan) if behind < FETCH_WEIGHTS_FROM => {
                self.applying = true;
                self.outputs.push(Output::Apply(plan.clone()));
            }
            _ => {
                if let Some((newest, root)) = self.newest_proven() {
                    self.fetch_weights(newest, root);
                }
            }
        }
    }

    fn newest_proven(&self) -> Option<(RoundNumber, StateRoot)> {
        self.plans
            .last_key_value()
            .map(|(round, plan)| (*round, plan.base_root))
    }

    pub(super) fn fetch_weights(&mut self, round: RoundNumber, root: StateRoot) {
        self.applying = true;
        self.wanted = Some((round, root));
        self.outputs.push(Output::FetchWeights { round, root });
    }
}
