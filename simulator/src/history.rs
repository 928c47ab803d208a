//! What happened in a run, round by round.

use std::collections::BTreeMap;

use weal_coordinator_free::{Chain, Millis};
use weal_proto::manifest::PPM;
use weal_proto::{BlobHash, PeerId};

/// What happened in a run.
#[derive(Debug, Default)]
pub struct History {
    rounds: BTreeMap<u64, Round>,
    /// Each peer's weight after the last decided round, by index.
    weights: BTreeMap<usize, u64>,
}

/// One round.
#[derive(Debug, Default, Clone)]
pub struct Round {
    /// The loss on held-out text of the weights that it starts from, in nats.
    pub loss: Option<f64>,
    /// When the first honest peer decided it, in milliseconds of virtual time.
    pub decided_ms: Option<u64>,
    /// What each peer made for it, by index.
    pub sent: BTreeMap<usize, BlobHash>,
    /// What each of these measures, by index.
    pub measured: BTreeMap<usize, Measured>,
    /// What each peer had after it, by index.
    pub after: BTreeMap<usize, After>,
}

/// What one contribution measures, as a bystander who has all of them finds it. Parts per million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Net overlap with the other contributions of the round.
    pub net: i32,
    /// The median over honest peers of the agreement with their work.
    pub work: i32,
    /// The fall of the loss on samples that its peer says it trained on.
    pub own: i32,
    /// The fall of the loss on held-out text.
    pub held: i32,
}

/// What a peer has after a decided round.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Whether the round chose its contribution.
    pub chosen: bool,
    /// The weight that the round gave it.
    pub credit: u64,
    /// The weight that it holds.
    pub weight: u64,
    /// How much its vote counts.
    pub vote: u64,
}

impl History {
    /// A peer made a contribution. Only its last one of a round counts.
    pub fn sent(&mut self, round: u64, index: usize, blob: BlobHash) {
        let round = self.rounds.entry(round).or_default();
        round.sent.insert(index, blob);
    }

    /// What peers made for a round measures this much.
    pub fn measured(&mut self, round: u64, measured: BTreeMap<usize, Measured>) {
        self.rounds.entry(round).or_default().measured = measured;
    }

    /// What peers made for a round.
    pub fn sent_in(&self, round: u64) -> impl Iterator<Item = (usize, BlobHash)> + '_ {
        let sent = self.rounds.get(&round).map(|round| &round.sent);
        sent.into_iter()
            .flatten()
            .map(|(index, blob)| (*index, *blob))
    }

    /// The weights that a round starts from have this loss.
    pub fn starts_with(&mut self, round: u64, loss: f64) {
        self.rounds.entry(round).or_default().loss = Some(loss);
    }

    /// A round was decided; `chain` is what follows from it.
    pub fn decided(&mut self, now: Millis, chain: &Chain, indices: &BTreeMap<PeerId, usize>) {
        let Some(round) = chain.round().0.checked_sub(1) else {
            return;
        };
        let rules = &chain.manifest().membership;
        let kept_ppm = u128::from(rules.weight_decay_ppm.max(1));
        let next = chain.round();
        let round = self.rounds.entry(round).or_default();
        round.decided_ms = Some(now.0);
        for (peer, index) in indices {
            let Some(account) = chain.ledger().account(peer) else {
                continue;
            };
            // Founders hold weight before they have done anything.
            let first = if account.founder { FOUNDER } else { 0 };
            let before = self.weights.insert(*index, account.weight).unwrap_or(first);
            // What a round gives decays with all that was there before.
            let undecayed = u128::from(account.weight) * u128::from(PPM) / kept_ppm;
            let credit = undecayed.saturating_sub(u128::from(before));
            let after = After {
                chosen: account.contributed_until == next,
                credit: u64::try_from(credit).unwrap_or(u64::MAX),
                weight: account.weight,
                vote: chain.ledger().roster().weight(peer),
            };
            round.after.insert(*index, after);
        }
    }

    /// Whether the round chose what the peer made; `None` if it made nothing.
    pub fn was_chosen(&self, round: u64, index: usize) -> Option<bool> {
        let round = self.rounds.get(&round)?;
        round.sent.get(&index)?;
        Some(round.after.get(&index).is_some_and(|after| after.chosen))
    }

    /// All rounds, in order.
    pub fn rounds(&self) -> &BTreeMap<u64, Round> {
        &self.rounds
    }
}

/// The weight of a founder in a simulated run.
const FOUNDER: u64 = 10_000;
