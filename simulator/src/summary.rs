//! What a run showed, in one line.

use std::collections::BTreeMap;

use serde::Serialize;
use weal_coordinator_free::sim::Violation;

use crate::history::After;
use crate::simulation::Played;

/// What a run showed. Losses are in nats, shares are fractions of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The number of peers.
    pub peers: usize,
    /// The number of peers of each behaviour.
    pub dishonest: BTreeMap<&'static str, usize>,
    /// Determines everything that was random.
    pub seed: u64,
    /// Rounds that honest peers decided in two ways. The run ends at the first.
    pub forks: u64,
    /// Honest peers that signed two contradictory messages. The run ends at the first.
    pub equivocations: u64,
    /// What else must never happen, and did; absent if nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<String>,
    /// Rounds that were decided.
    pub rounds_decided: u64,
    /// The loss on held-out text after the last round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_loss: Option<f64>,
    /// The same in a run of the honest peers alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_loss_honest_only: Option<f64>,
    /// The share of honest contributions that were not chosen.
    pub honest_rejected_share: f64,
    /// The credit that a peer of each behaviour earned, as a share of an honest peer's.
    pub credit: BTreeMap<&'static str, f64>,
    /// The share of the voting weight that all peers of each behaviour hold at the end.
    pub weight: BTreeMap<&'static str, f64>,
    /// Bytes that a peer sent in a round, on average.
    pub bytes_per_peer_round: u64,
    /// How long the run took, in seconds of virtual time.
    pub virtual_s: f64,
}

/// The name of peers that keep to the rules.
pub const HONEST: &str = "honest";

impl Summary {
    /// Sums a run up. `honest_only` is the same run with the honest peers alone.
    pub fn of(played: &Played, honest_only: &Played) -> Self {
        let outcome = played.outcome.as_ref();
        let violation = played.outcome.as_ref().err();
        let is_fork = matches!(violation, Some(Violation::Fork(_) | Violation::Weights(_)));
        let is_equivocation = matches!(violation, Some(Violation::Contradiction { .. }));
        let named = violation.filter(|_| !is_fork && !is_equivocation);
        Self {
            peers: played.options.peers,
            dishonest: played
                .options
                .dishonest
                .iter()
                .map(|(behaviour, count)| (behaviour.name, *count))
                .collect(),
            seed: played.options.seed,
            forks: u64::from(is_fork),
            equivocations: u64::from(is_equivocation),
            violation: named.map(Violation::to_string),
            rounds_decided: played.rounds_decided(),
            final_loss: played.final_loss(),
            final_loss_honest_only: honest_only.final_loss(),
            honest_rejected_share: played.honest_rejected_share(),
            credit: played.credit(),
            weight: played.weight(),
            bytes_per_peer_round: outcome.map_or(0, |one| one.bytes_per_peer_round()),
            virtual_s: outcome.map_or(0.0, |one| one.virtual_ms as f64 / 1000.0),
        }
    }

    /// How much higher the final loss is than with the honest peers alone, as a share of it.
    pub fn excess(&self) -> Option<f64> {
        let (found, alone) = (self.final_loss?, self.final_loss_honest_only?);
        Some(found / alone - 1.0)
    }
}

impl Played {
    /// The name of a peer's behaviour.
    pub fn name(&self, index: usize) -> &'static str {
        let behaviour = self.behaviours.get(index).copied().flatten();
        behaviour.map_or(HONEST, |behaviour| behaviour.name)
    }

    /// Rounds that honest peers decided, of those asked for.
    pub fn rounds_decided(&self) -> u64 {
        let rounds = self.history.rounds().values();
        let decided = rounds.filter(|round| round.decided_ms.is_some()).count() as u64;
        decided.min(self.options.rounds)
    }

    /// The loss after the last round that was asked for; `None` if it was not decided.
    pub fn final_loss(&self) -> Option<f64> {
        self.history.rounds().get(&self.options.rounds)?.loss
    }

    fn honest_rejected_share(&self) -> f64 {
        let (mut sent, mut rejected) = (0_u64, 0_u64);
        for (number, round) in self.history.rounds().range(..self.options.rounds) {
            if round.decided_ms.is_none() {
                continue;
            }
            for index in round.sent.keys().filter(|one| self.name(**one) == HONEST) {
                sent += 1;
                let chosen = self.history.was_chosen(*number, *index);
                rejected += u64::from(chosen != Some(true));
            }
        }
        rejected as f64 / sent.max(1) as f64
    }

    fn credit(&self) -> BTreeMap<&'static str, f64> {
        let mut earned: BTreeMap<&'static str, f64> = BTreeMap::new();
        for round in self.history.rounds().values() {
            for (index, after) in &round.after {
                *earned.entry(self.name(*index)).or_default() += after.credit as f64;
            }
        }
        for (name, credit) in &mut earned {
            let peers = (0..self.behaviours.len()).filter(|index| self.name(*index) == *name);
            *credit /= peers.count().max(1) as f64;
        }
        let honest = earned.get(HONEST).copied().unwrap_or(0.0);
        earned
            .values_mut()
            .for_each(|credit| *credit /= honest.max(1.0));
        earned
    }

    fn weight(&self) -> BTreeMap<&'static str, f64> {
        let mut held: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut rounds = self.history.rounds().values().rev();
        let last = rounds.find(|round| round.decided_ms.is_some());
        for (index, After { vote, .. }) in last.into_iter().flat_map(|round| &round.after) {
            *held.entry(self.name(*index)).or_default() += *vote as f64;
        }
        let all: f64 = held.values().sum();
        held.values_mut().for_each(|weight| *weight /= all.max(1.0));
        held
    }
}
