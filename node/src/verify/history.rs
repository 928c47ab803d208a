//! The decided rounds of a run, checked one by one.

use std::sync::Arc;

use weal_coordinator_free::{Apply, Chain, History};
use weal_proto::{ChainSnapshot, Decided, Manifest, RoundNumber, StateRoot};

use crate::error::{Error, ErrorKind, Result};
use crate::home::Home;

/// Decided rounds that passed every check.
pub(crate) struct ProvenHistory {
    history: History,
    /// The first round that was checked.
    first: RoundNumber,
    /// The state root of the weights at the start of each decided round.
    roots: Vec<StateRoot>,
    /// How each round changes the weights.
    applies: Vec<Apply>,
}

impl ProvenHistory {
    /// The history of a run before its round 0, or after the state that somebody trusts.
    ///
    /// # Errors
    /// When the state is not of this run and version.
    pub(crate) fn of(manifest: Manifest, state: Option<&ChainSnapshot>) -> Result<Self> {
        let manifest = Arc::new(manifest);
        Ok(Self::after(match state {
            Some(state) => Chain::restore(manifest, state)?,
            None => Chain::genesis(manifest),
        }))
    }

    fn after(chain: Chain) -> Self {
        Self {
            first: chain.round(),
            history: History::after(chain),
            roots: Vec::new(),
            applies: Vec::new(),
        }
    }

    /// The history that a data folder holds. `progress` takes the rounds checked, and all.
    ///
    /// # Errors
    /// When the database cannot be read, or a round breaks a rule.
    pub(crate) fn of_home(home: &Home, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let mut proven = Self::after(home.first_chain()?);
        let all = home.store.decided_rounds()?;
        for decided in home.store.decided_from(proven.first) {
            proven.follow(decided?)?;
            progress(proven.rounds(), all);
        }
        Ok(proven)
    }

    /// Checks the next round.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(crate) fn follow(&mut self, decided: Decided) -> Result<()> {
        let (round, root) = (decided.value.round, decided.value.base_root);
        let apply = self.history.follow(decided).map_err(|invalid| {
            Error::new(
                ErrorKind::Unproven,
                format!("round {round} is not one that this run decided"),
            )
            .caused_by(invalid)
        })?;
        self.roots.push(root);
        self.applies.push(apply);
        Ok(())
    }

    /// The first round that was checked: 0, unless a state was taken on trust.
    pub(crate) const fn first(&self) -> RoundNumber {
        self.first
    }

    /// The number of decided rounds.
    pub(crate) fn rounds(&self) -> u64 {
        self.first.0 + self.roots.len() as u64
    }

    /// What the rounds lead to.
    pub(crate) const fn chain(&self) -> &Chain {
        self.history.chain()
    }

    /// The state root of the weights at a round's start, if that round is decided.
    pub(crate) fn root(&self, round: RoundNumber) -> Option<StateRoot> {
        let index = usize::try_from(round.0.checked_sub(self.first.0)?).ok()?;
        self.roots.get(index).copied()
    }

    /// How each round that was checked changes the weights.
    pub(crate) fn applies(&self) -> &[Apply] {
        &self.applies
    }

    /// How each round from this one on changes the weights, if it was checked.
    pub(crate) fn applies_from(&self, round: RoundNumber) -> &[Apply] {
        let before = round.0.saturating_sub(self.first.0);
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        self.applies.get(before..).unwrap_or_default()
    }
}
