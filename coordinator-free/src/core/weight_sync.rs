//! How the weights in memory catch up with decisions.
//!
//! Decisions arrive faster than weights: a node may verify a thousand decided rounds in a second,
//! and then apply them one by one. [`WeightSync`] says which step comes next. It asks for one step
//! at a time:
//!
//! ```text
//!               ready                    next: Apply
//!   Missing ──────────▶ Held ◀─────────▶ Applying
//!                        ▲ │   ready / failed  │
//!                  ready │ │ next: Fetch       │ failed, and newer weights are proven
//!                        │ ▼                   ▼
//!                      Fetching ◀────────── FetchPending
//!                          │   next: Fetch     ▲
//!                          └───────────────────┘
//!                                failed
//! ```
//!
//! A newcomer has no weights. If the run has come far, it fetches some; else it computes the
//! initial ones. That takes a while, so it does so once it is known that they are needed.
//!
//! A node that is far behind fetches the newest *checkpoint* (see [`retention`]) rather than newer
//! weights, since peers keep it until it has arrived, however slowly. Then it applies all rounds
//! since, however many: if it fetched the next checkpoint instead, it might never arrive.

use std::collections::BTreeMap;

use weal_proto::{RoundNumber, StateRoot};

use crate::host::retention::{self, FETCH_WEIGHTS_FROM};
use crate::interface::error::Error;
use crate::interface::output::Apply;
use crate::rules::chain::Chain;

/// The most decided rounds that wait to be applied. A node that is further behind fetches weights.
const MAX_UNAPPLIED: usize = 1_024;
/// This many rounds stay known after they are applied, so that the weights can be computed again.
/// Peers keep the weights of as many newest rounds.
const ROUNDS_BACK: u64 = 4;

/// Weights, named by the round that starts from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    pub round: RoundNumber,
    pub root: StateRoot,
}

/// Where the weights in memory stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The caller has not told of any weights yet.
    Missing,
    /// The caller has no weights. It is not known yet which it needs.
    Absent,
    /// The caller had no weights, and computes the initial ones.
    Computing,
    /// These weights are in memory, and the caller is idle. They may lag behind decided history.
    Held(Weights),
    /// The caller applies a decided round to these weights.
    Applying(Weights),
    /// The caller fetches the weights of `target`.
    Fetching {
        held: Option<Weights>,
        target: Weights,
    },
    /// A fetch or an application failed. The weights of `target` are to be fetched next.
    FetchPending {
        held: Option<Weights>,
        target: Weights,
    },
}

/// What the caller must do next about the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Apply this decided round.
    Apply(Apply),
    /// Fetch these weights.
    Fetch(Weights),
    /// Fetch these weights: those in memory, with the state root `ours`, are not the decided ones.
    Replace { ours: StateRoot, target: Weights },
}

/// Follows the weights in memory, and the decided rounds that are not applied to them yet.
#[derive(Debug)]
pub(super) struct WeightSync {
    state: State,
    /// Decided rounds that are not applied yet and a few before them, without gaps. Each also
    /// proves the state root that the weights at its start must have.
    decided: BTreeMap<RoundNumber, Apply>,
    /// How many fetches have failed since there were weights.
    failures: u64,
    /// Weights are fetched because this node lacks rounds, and not because its weights differ.
    lags: bool,
    /// The weights in memory were fetched: the rounds since are applied, however many.
    applies_all: bool,
}

impl WeightSync {
    /// No weights are in memory yet.
    ///
    /// # Errors
    /// [`Error::Gap`] when `unapplied` are not the last decided rounds.
    pub(super) fn new(chain: &Chain, unapplied: Vec<Apply>) -> Result<Self, Error> {
        let count = u64::try_from(unapplied.len()).unwrap_or(u64::MAX);
        let mut expected = RoundNumber(chain.round().0.saturating_sub(count));
        let mut rounds = BTreeMap::new();
        for apply in unapplied {
            let found = apply.round;
            if found != expected || found >= chain.round() {
                return Err(Error::Gap { found, expected });
            }
            rounds.insert(found, apply);
            expected = expected.next();
        }
        Ok(Self {
            state: State::Missing,
            decided: rounds,
            failures: 0,
            lags: false,
            applies_all: false,
        })
    }

    /// The weights in memory.
    pub(super) const fn held(&self) -> Option<Weights> {
        match self.state {
            State::Missing | State::Absent | State::Computing => None,
            State::Held(weights) | State::Applying(weights) => Some(weights),
            State::Fetching { held, .. } | State::FetchPending { held, .. } => held,
        }
    }

    /// The state root of the weights in memory, if `round` starts from them.
    pub(super) fn root_at(&self, round: RoundNumber) -> Option<StateRoot> {
        self.held()
            .filter(|weights| weights.round == round)
            .map(|weights| weights.root)
    }

    /// The weights in memory, if a decided round starts from them.
    pub(super) fn held_and_decided(&self) -> Option<Weights> {
        let held = self.held()?;
        let apply = self.decided.get(&held.round)?;
        (apply.base_root == held.root).then_some(held)
    }

    /// A round was decided.
    pub(super) fn decided(&mut self, apply: Apply) {
        self.decided.insert(apply.round, apply);
        while self.decided.len() > MAX_UNAPPLIED {
            self.decided.pop_first();
        }
    }

    /// The caller has no weights.
    pub(super) fn absent(&mut self) {
        if self.state == State::Missing {
            self.state = State::Absent;
        }
    }

    /// Peers have not come further than this node. Returns whether the caller must compute the
    /// initial weights now.
    pub(super) fn begins(&mut self) -> bool {
        let begins = self.state == State::Absent;
        if begins {
            self.state = State::Computing;
        }
        begins
    }

    /// The caller has these weights in memory now.
    pub(super) fn ready(&mut self, weights: Weights) {
        let fetched = matches!(self.state, State::Fetching { .. });
        self.state = State::Held(weights);
        self.failures = 0;
        self.lags = false;
        let last = self.decided.keys().next_back();
        let behind = last.map_or(0, |last| last.next().0.saturating_sub(weights.round.0));
        self.applies_all = (fetched || self.applies_all) && behind >= FETCH_WEIGHTS_FROM;
        let oldest = RoundNumber(weights.round.0.saturating_sub(ROUNDS_BACK));
        self.decided.retain(|round, _| *round >= oldest);
    }

    /// The caller could not carry out its step about this round.
    pub(super) fn failed(&mut self, round: RoundNumber) {
        let newest = self.newest_proven();
        self.state = match self.state {
            State::Fetching { held, target } | State::FetchPending { held, target } => {
                let next = self.candidate(held, self.failures);
                self.failures = self.failures.saturating_add(1);
                State::FetchPending {
                    held,
                    target: next.unwrap_or(target),
                }
            }
            // Perhaps no peer keeps the blobs any longer, so fetch newer weights. If there are none
            // whose root is decided, only the blobs can help.
            State::Held(held) | State::Applying(held) => {
                match newest.filter(|newest| held.round == round && newest.round > round) {
                    Some(newest) => {
                        self.lags = true;
                        self.applies_all = false;
                        State::FetchPending {
                            held: Some(held),
                            target: self.checkpoint(Some(held)).unwrap_or(newest),
                        }
                    }
                    None => State::Held(held),
                }
            }
            State::Missing | State::Absent | State::Computing => self.state,
        };
    }

    /// Whether the next step fetches weights because this node lacks many rounds.
    pub(super) fn lacks_many(&self, round: RoundNumber) -> bool {
        let behind = |held: u64| round.0.saturating_sub(held) >= FETCH_WEIGHTS_FROM;
        match self.state {
            State::Absent | State::Computing => behind(0),
            State::Held(held) => behind(held.round.0) && !self.applies_all,
            _ => false,
        }
    }

    /// The next step towards the weights at the start of `round`, the running one. `None` while the
    /// caller is busy with the last step, and when there is nothing to do.
    pub(super) fn next(&mut self, round: RoundNumber) -> Option<Step> {
        let held = match self.state {
            State::Missing | State::Applying(_) | State::Fetching { .. } => return None,
            State::Absent | State::Computing if round.0 < FETCH_WEIGHTS_FROM => return None,
            State::Absent | State::Computing => return self.fetch_newest(None),
            State::FetchPending { target, .. } => return Some(Step::Fetch(self.fetch(target))),
            State::Held(held) if held.round >= round => return None,
            State::Held(held) => held,
        };
        let behind = round.0.saturating_sub(held.round.0);
        match self.decided.get(&held.round) {
            Some(apply) if apply.base_root != held.root => {
                let target = Weights {
                    round: apply.round,
                    root: apply.base_root,
                };
                Some(Step::Replace {
                    ours: held.root,
                    target: self.fetch(target),
                })
            }
            Some(apply) if behind < FETCH_WEIGHTS_FROM || self.applies_all => {
                self.state = State::Applying(held);
                Some(Step::Apply(apply.clone()))
            }
            _ => self.fetch_newest(Some(held)),
        }
    }

    /// The newest checkpoint, or newer weights if that is no newer than `held`.
    fn fetch_newest(&mut self, held: Option<Weights>) -> Option<Step> {
        self.lags = true;
        let checkpoint = self.checkpoint(held);
        let target = checkpoint.or_else(|| self.newest_proven())?;
        Some(Step::Fetch(self.fetch(target)))
    }

    /// Discards the weights in memory, which voters do not share. The caller must fetch `target`.
    pub(super) fn discard(&mut self, target: Weights) {
        self.lags = false;
        self.applies_all = false;
        self.state = State::Fetching { held: None, target };
    }

    /// Discards the weights in memory, which voters cannot agree on, and goes back to the newest
    /// that a decision proves. The caller must fetch these. `None` if no decision proves any.
    pub(super) fn go_back(&mut self) -> Option<Weights> {
        let target = self.newest_proven()?;
        self.discard(target);
        Some(target)
    }

    fn fetch(&mut self, target: Weights) -> Weights {
        self.state = State::Fetching {
            held: self.held(),
            target,
        };
        target
    }

    /// What to fetch after this many failures. Perhaps no peer keeps the last target any longer, or
    /// nobody has stored it.
    fn candidate(&self, held: Option<Weights>, failures: u64) -> Option<Weights> {
        let checkpoint = self.checkpoint(held);
        let next = if self.lags {
            // The checkpoint again, which may be another one by now, and newer ones in turn with
            // it: nobody knows who is connected next.
            match failures.is_multiple_of(2) {
                true => checkpoint,
                false => self.proven(failures / 2 % ROUNDS_BACK),
            }
        } else {
            // The newest are the likeliest to be found, then those before them.
            match failures % (ROUNDS_BACK + 1) {
                ROUNDS_BACK => checkpoint,
                back => self.proven(back),
            }
        };
        next.or_else(|| self.newest_proven())
    }

    /// The newest checkpoint whose state root a decision proves, if it is newer than `held`.
    fn checkpoint(&self, held: Option<Weights>) -> Option<Weights> {
        let mut rounds = self.decided.iter().rev();
        let (round, apply) = rounds.find(|(round, _)| retention::is_checkpoint(**round))?;
        let checkpoint = Weights {
            round: *round,
            root: apply.base_root,
        };
        let is_newer = held.is_none_or(|held| held.round < checkpoint.round);
        is_newer.then_some(checkpoint)
    }

    /// The newest weights whose state root a decision proves.
    fn newest_proven(&self) -> Option<Weights> {
        self.proven(0)
    }

    /// The weights whose state root a decision proves, this many rounds before the newest.
    fn proven(&self, back: u64) -> Option<Weights> {
        let back = usize::try_from(back).ok()?;
        let (round, apply) = self.decided.iter().nth_back(back)?;
        Some(Weights {
            round: *round,
            root: apply.base_root,
        })
    }

    /// Checks what must always hold, `round` being the running round.
    ///
    /// # Errors
    /// The broken statement.
    #[cfg(feature = "sim")]
    pub(super) fn check_invariants(&self, round: RoundNumber) -> Result<(), &'static str> {
        if self.held().is_some_and(|held| held.round > round) {
            return Err("the weights in memory are of a round that has not begun");
        }
        let mut rounds = self.decided.keys();
        let first = rounds.next().copied();
        let in_order = rounds.try_fold(first, |last, round| {
            (last.map(RoundNumber::next) == Some(*round)).then_some(Some(*round))
        });
        match in_order {
            None => Err("a decided round is missing among those to apply"),
            Some(Some(last)) if last.next() != round => {
                Err("the last decided round is not among those to apply")
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_proto::manifest::AggregationRule;

    fn root(n: u64) -> StateRoot {
        (*blake3::hash(&n.to_le_bytes()).as_bytes()).into()
    }

    fn weights(round: u64) -> Weights {
        Weights {
            round: RoundNumber(round),
            root: root(round),
        }
    }

    fn apply(round: u64) -> Apply {
        Apply {
            round: RoundNumber(round),
            base_root: root(round),
            contributions: Vec::new(),
            outer_rate_ppm: 1_000_000,
            rule: AggregationRule::MeanOfSenders,
        }
    }

    fn nothing() -> WeightSync {
        WeightSync {
            state: State::Missing,
            decided: BTreeMap::new(),
            failures: 0,
            lags: false,
            applies_all: false,
        }
    }

    /// Weights of round 0 are in memory, and this many rounds are decided.
    fn behind(rounds: u64) -> WeightSync {
        let mut sync = nothing();
        sync.ready(weights(0));
        for round in 0..rounds {
            sync.decided(apply(round));
        }
        sync
    }

    #[test]
    fn nothing_is_asked_for_before_there_are_weights() {
        let mut sync = nothing();
        sync.decided(apply(0));
        assert_eq!(sync.next(RoundNumber(1)), None);
        assert_eq!(sync.root_at(RoundNumber(0)), None);
    }

    #[test]
    fn a_newcomer_fetches_weights_if_the_run_has_come_far_and_else_computes_the_initial_ones() {
        let newcomer = |rounds: u64| {
            let mut sync = nothing();
            assert!(!sync.begins(), "there may be weights");
            sync.absent();
            for round in 0..rounds {
                sync.decided(apply(round));
            }
            sync
        };
        let fetch = Some(Step::Fetch(weights(64)));
        assert_eq!(newcomer(70).next(RoundNumber(70)), fetch);

        let mut sync = newcomer(63);
        assert_eq!(sync.next(RoundNumber(63)), None);
        assert!(sync.begins() && !sync.begins());
        sync.ready(weights(0));
        assert_eq!(sync.next(RoundNumber(63)), Some(Step::Apply(apply(0))));

        // The run turns out to be older than it seemed.
        let mut sync = newcomer(10);
        assert!(sync.begins());
        for round in 10..70 {
            sync.decided(apply(round));
        }
        assert_eq!(sync.next(RoundNumber(70)), fetch);
    }

    #[test]
    fn decided_rounds_are_applied_one_at_a_time_and_in_order() {
        let mut sync = behind(2);
        assert_eq!(sync.next(RoundNumber(2)), Some(Step::Apply(apply(0))));
        assert_eq!(sync.next(RoundNumber(2)), None);
        sync.ready(weights(1));
        assert_eq!(sync.next(RoundNumber(2)), Some(Step::Apply(apply(1))));
        sync.ready(weights(2));
        assert_eq!(sync.next(RoundNumber(2)), None);
        assert_eq!(sync.root_at(RoundNumber(2)), Some(root(2)));
    }

    #[test]
    fn weights_that_are_not_the_decided_ones_are_replaced() {
        let mut sync = behind(1);
        sync.ready(Weights {
            root: root(99),
            ..weights(0)
        });
        let replace = Step::Replace {
            ours: root(99),
            target: weights(0),
        };
        assert_eq!(sync.next(RoundNumber(1)), Some(replace));
        sync.ready(weights(0));
        assert_eq!(sync.next(RoundNumber(1)), Some(Step::Apply(apply(0))));
    }

    #[test]
    fn a_node_far_behind_fetches_the_newest_checkpoint_that_is_proven() {
        let mut sync = behind(FETCH_WEIGHTS_FROM + 40);
        let running = RoundNumber(FETCH_WEIGHTS_FROM + 40);
        assert_eq!(sync.next(running), Some(Step::Fetch(weights(96))));
        assert_eq!(sync.held(), Some(weights(0)));
    }

    #[test]
    fn a_slow_node_applies_all_rounds_since_its_checkpoint_however_many() {
        let mut sync = behind(70);
        assert_eq!(sync.next(RoundNumber(70)), Some(Step::Fetch(weights(64))));
        for round in 70..200 {
            sync.decided(apply(round));
        }
        sync.ready(weights(64));
        for round in 64..200 {
            let step = sync.next(RoundNumber(200));
            assert_eq!(step, Some(Step::Apply(apply(round))));
            sync.ready(weights(round + 1));
        }
        assert_eq!(sync.next(RoundNumber(200)), None);
        assert!(!sync.applies_all);
    }

    #[test]
    fn a_node_whose_checkpoint_came_too_late_fetches_the_next_one() {
        let mut sync = behind(70);
        sync.next(RoundNumber(70));
        for round in 70..200 {
            sync.decided(apply(round));
        }
        sync.ready(weights(64));
        sync.next(RoundNumber(200));
        sync.failed(RoundNumber(64));
        assert_eq!(sync.next(RoundNumber(200)), Some(Step::Fetch(weights(192))));
    }

    #[test]
    fn a_failed_fetch_of_a_checkpoint_is_repeated_in_turn_with_newer_weights() {
        let mut sync = behind(70);
        sync.next(RoundNumber(70));
        for target in [64, 69, 64, 68, 64, 67] {
            sync.failed(RoundNumber(64));
            let fetch = Step::Fetch(weights(target));
            assert_eq!(sync.next(RoundNumber(70)), Some(fetch));
        }
        (70..97).for_each(|round| sync.decided(apply(round)));
        sync.failed(RoundNumber(67));
        assert_eq!(sync.next(RoundNumber(97)), Some(Step::Fetch(weights(96))));
    }

    #[test]
    fn after_a_failed_application_newer_weights_are_fetched_if_any_are_proven() {
        let mut one = behind(1);
        one.next(RoundNumber(1));
        one.failed(RoundNumber(0));
        assert_eq!(one.next(RoundNumber(1)), Some(Step::Apply(apply(0))));

        let mut two = behind(2);
        two.next(RoundNumber(2));
        two.failed(RoundNumber(0));
        assert_eq!(two.next(RoundNumber(2)), Some(Step::Fetch(weights(1))));
    }

    #[test]
    fn a_failed_fetch_is_repeated_with_the_newest_target_and_then_with_older_ones() {
        let mut sync = behind(2);
        sync.discard(weights(2));
        for target in [1, 0, 1, 1] {
            sync.failed(RoundNumber(2));
            let fetch = Step::Fetch(weights(target));
            assert_eq!(sync.next(RoundNumber(2)), Some(fetch));
        }
        assert_eq!(sync.held(), None);
    }

    #[test]
    fn weights_that_nobody_shares_are_computed_again_from_those_that_are_proven() {
        let mut sync = behind(6);
        let running = RoundNumber(6);
        for round in 0..6 {
            sync.next(running);
            sync.ready(weights(round + 1));
        }
        assert_eq!(sync.go_back(), Some(weights(5)));
        assert_eq!(sync.held(), None);
        sync.failed(RoundNumber(5));
        sync.next(running);
        sync.failed(RoundNumber(5));
        assert_eq!(sync.next(running), Some(Step::Fetch(weights(4))));
        sync.ready(weights(4));
        assert_eq!(sync.next(running), Some(Step::Apply(apply(4))));
        sync.ready(weights(5));
        assert_eq!(sync.next(running), Some(Step::Apply(apply(5))));
    }

    #[test]
    fn rounds_beyond_the_limit_are_forgotten_from_the_oldest() {
        let rounds = MAX_UNAPPLIED as u64 + 1;
        let mut sync = behind(rounds);
        assert_eq!(sync.decided.len(), MAX_UNAPPLIED);
        let checkpoint = weights(rounds - 1);
        let step = sync.next(RoundNumber(rounds));
        assert_eq!(step, Some(Step::Fetch(checkpoint)));
    }
}
