//! What must never happen.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use weal_proto::{Decided, Envelope, PeerId, RoundNumber, RoundSetHash, StateRoot};

use super::oracle::Oracle;
use crate::interface::error::Error as CoreError;
use crate::rules::chain::Chain;
use crate::rules::content::Content;
use crate::rules::slot::Slot;

/// What must never happen in a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Two honest peers decided differently.
    #[error("honest peers decided round {0} in two different ways")]
    Fork(RoundNumber),
    /// Two honest peers hold different weights for one round, although none of them was damaged.
    #[error("honest peers start round {0} from different weights")]
    Weights(RoundNumber),
    /// An honest peer signed two messages for one slot.
    #[error("honest peer {peer} contradicted itself for {slot:?}")]
    Contradiction {
        /// The peer that contradicted itself.
        peer: PeerId,
        /// The slot that it signed two messages for.
        slot: Slot,
    },
    /// Honest peers banned an honest one.
    #[error("honest peer {0} was banned")]
    Banned(PeerId),
    /// The oracle disagrees with a decision that an honest peer took for proven.
    #[error("round {round} was decided against the rules: {why}")]
    Unproven {
        /// The decided round.
        round: RoundNumber,
        /// The rule that it breaks.
        why: String,
    },
    /// A round was not decided for a long time, although honest voters with more than two thirds of
    /// the weight were up and connected.
    #[error(
        "stalled: round {round} is not decided after {quiet_ms} ms without any disturbance{}",
        lines(.peers)
    )]
    Stalled {
        /// The round.
        round: RoundNumber,
        /// How long nothing was decided, in milliseconds.
        quiet_ms: u64,
        /// What each peer waits for.
        peers: Vec<String>,
    },
    /// Virtual time ran out before all rounds were decided.
    #[error(
        "stuck: rounds are missing after {virtual_ms} ms of virtual time{}",
        lines(.peers)
    )]
    Stuck {
        /// The virtual time played, in milliseconds.
        virtual_ms: u64,
        /// What each peer waits for.
        peers: Vec<String>,
    },
    /// The script expected something else.
    #[error("the script's step {step} was not met: {what}")]
    Unmet {
        /// The step's number, from 0.
        step: usize,
        /// What the script expected.
        what: String,
    },
    /// A peer could not start from what it had stored.
    #[error("peer {peer} cannot start: {cause}")]
    Restart {
        /// The peer's index.
        peer: usize,
        /// The core's error.
        cause: CoreError,
    },
    /// An honest peer's engine refused to continue.
    #[error("the engine of honest peer {peer} failed: {cause}")]
    Engine {
        /// The peer's index.
        peer: usize,
        /// The engine's error.
        cause: String,
    },
    /// A core broke one of its own invariants.
    #[error("the core of peer {peer} is inconsistent: {statement}")]
    Invariant {
        /// The peer's index.
        peer: usize,
        /// The broken statement.
        statement: &'static str,
    },
}

fn lines(peers: &[String]) -> String {
    let line = |(peer, waits): (usize, &String)| format!("\n  peer {peer}: {waits}");
    peers.iter().enumerate().map(line).collect()
}

/// Watches everything that honest peers sign, decide and hold.
#[derive(Debug)]
pub(super) struct Audit {
    /// Each peer's id, by index; `None` for those that lie.
    honest: Vec<Option<PeerId>>,
    /// Honest peers that have lost what they had stored.
    forgetful: BTreeSet<PeerId>,
    oracle: Oracle,
    signed: BTreeMap<(PeerId, Slot), blake3::Hash>,
    decided: BTreeMap<RoundNumber, RoundSetHash>,
    roots: BTreeMap<RoundNumber, StateRoot>,
    /// Contradictions of the forgetful.
    pub contradictions_after_loss: u64,
}

impl Audit {
    pub(super) const fn new(honest: Vec<Option<PeerId>>, oracle: Oracle) -> Self {
        Self {
            honest,
            forgetful: BTreeSet::new(),
            oracle,
            signed: BTreeMap::new(),
            decided: BTreeMap::new(),
            roots: BTreeMap::new(),
            contradictions_after_loss: 0,
        }
    }

    fn is_honest(&self, peer: &PeerId) -> bool {
        self.honest.iter().flatten().any(|honest| honest == peer)
    }

    /// A peer has lost what it had stored: it may contradict what it signed before.
    pub(super) fn forgets(&mut self, peer: usize) {
        self.forgetful.extend(self.honest[peer]);
    }

    /// Whether a peer has lost what it had stored.
    pub(super) fn is_forgetful(&self, peer: usize) -> bool {
        self.honest[peer].is_some_and(|peer| self.forgetful.contains(&peer))
    }

    /// A message was sent, by its signer or by a peer that answers a request.
    pub(super) fn sent(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let peer = envelope.signer;
        if !self.is_honest(&peer) {
            return Ok(());
        }
        let Some(slot) = Content::decode(envelope)
            .ok()
            .and_then(|content| content.slot())
        else {
            return Ok(());
        };
        let hash = blake3::hash(&envelope.payload);
        let first = *self.signed.entry((peer, slot)).or_insert(hash);
        if first == hash {
            return Ok(());
        }
        if self.forgetful.contains(&peer) {
            self.contradictions_after_loss += 1;
            return Ok(());
        }
        Err(Violation::Contradiction { peer, slot })
    }

    /// An honest peer decided a round. Returns whether it is the first to do so.
    pub(super) fn decided(&mut self, decided: &Decided) -> Result<bool, Violation> {
        let (round, hash) = (decided.value.round, decided.value.hash());
        let is_first = !self.decided.contains_key(&round);
        if *self.decided.entry(round).or_insert(hash) != hash {
            return Err(Violation::Fork(round));
        }
        self.oracle
            .check(decided)
            .map_err(|why| Violation::Unproven { round, why })?;
        Ok(is_first)
    }

    /// An honest peer holds this decided history.
    pub(super) fn holds_history(&mut self, chain: &Chain) -> Result<(), Violation> {
        self.oracle.holds(chain).map_err(|why| Violation::Unproven {
            round: RoundNumber(chain.round().0.saturating_sub(1)),
            why,
        })
    }

    /// An honest peer computed undamaged weights for this round.
    pub(super) fn holds(&mut self, round: RoundNumber, root: StateRoot) -> Result<(), Violation> {
        if *self.roots.entry(round).or_insert(root) == root {
            Ok(())
        } else {
            Err(Violation::Weights(round))
        }
    }

    /// A decided round banned a peer.
    pub(super) fn banned(&self, peer: PeerId) -> Result<(), Violation> {
        if self.is_honest(&peer) && !self.forgetful.contains(&peer) {
            return Err(Violation::Banned(peer));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use weal_proto::{Certificate, RoundSet, View};

    use super::super::fixtures::manifest;
    use super::*;

    fn decided(attempt: u32) -> Decided {
        let value = RoundSet {
            round: RoundNumber(0),
            parent: [0; 32].into(),
            base_root: [0; 32].into(),
            ledger_root: [0; 32].into(),
            contributions: Vec::new(),
            attestations: Vec::new(),
            leaves: Vec::new(),
            evidence: Vec::new(),
            attempt,
            named: Vec::new(),
            differences: Vec::new(),
            late: Vec::new(),
            tickets: Vec::new(),
            gone: Vec::new(),
        };
        let certificate = Certificate {
            round: RoundNumber(0),
            view: View(0),
            value: value.hash(),
            signatures: Vec::new(),
        };
        Decided { value, certificate }
    }

    #[test]
    fn two_decisions_of_a_round_are_a_fork_and_one_without_votes_is_unproven() {
        let mut audit = Audit::new(Vec::new(), Oracle::new(&manifest(&[1, 2, 3, 4])));
        let first = audit.decided(&decided(0));
        assert!(matches!(first, Err(Violation::Unproven { .. })));
        let second = audit.decided(&decided(1));
        assert_eq!(second, Err(Violation::Fork(RoundNumber(0))));
    }

    #[test]
    fn two_roots_of_undamaged_weights_are_a_violation() {
        let mut audit = Audit::new(Vec::new(), Oracle::new(&manifest(&[1])));
        assert_eq!(audit.holds(RoundNumber(3), [1; 32].into()), Ok(()));
        assert_eq!(audit.holds(RoundNumber(3), [1; 32].into()), Ok(()));
        let other = audit.holds(RoundNumber(3), [2; 32].into());
        assert_eq!(other, Err(Violation::Weights(RoundNumber(3))));
    }
}
