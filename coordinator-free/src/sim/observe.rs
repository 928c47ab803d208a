//! Shows the audit what happens: progress, fairness, and what is revealed when.

use weal_proto::{Decided, Envelope, Kind, RoundNumber};

use super::audit::Violation;
use super::event::Event;
use super::watch::WATCH_MS;
use super::world::World;
use crate::interface::output::Apply;
use crate::interface::view::Phase;
use crate::rules::content::Content;

impl World {
    /// A core broadcasts a message.
    pub(super) fn audit_sent(&mut self, peer: usize, envelope: &Envelope) -> Result<(), Violation> {
        self.audit.sent(envelope)?;
        self.note_signed(peer, envelope);
        let signer = envelope.signer;
        let Some(core) = self.nodes[peer].core.as_ref() else {
            return Ok(());
        };
        if signer != self.nodes[peer].key.peer() {
            return Ok(());
        }
        let round = core.chain().round();
        match envelope.kind {
            Kind::Commitment if self.nodes[peer].is_honest() => {
                let signers = self.watch.committed.entry(round).or_default();
                signers.insert(signer);
            }
            Kind::Attestation => {
                let roster = core.chain().ledger().roster();
                let weight = self.watch.attested.entry(round).or_default();
                *weight += u128::from(roster.weight(&signer));
                if *weight * 3 > u128::from(roster.total().0) * 2 {
                    self.watch.complete.entry(round).or_insert(self.now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An honest peer decided a round. Returns whether it is the first to do so.
    pub(super) fn audit_decided(
        &mut self,
        peer: usize,
        decided: &Decided,
    ) -> Result<bool, Violation> {
        let is_first = self.audit.decided(decided)?;
        if let Some(core) = &self.nodes[peer].core {
            self.audit.holds_history(core.chain())?;
        }
        let rounds = decided.value.round.0 + 1;
        if rounds > self.watch.decided_rounds {
            self.watch.decided_rounds = rounds;
            self.watch.quiet_since = self.now;
        }
        Ok(is_first)
    }

    /// A peer decided a round by itself.
    pub(super) fn audit_own_decision(&mut self, round: RoundNumber) {
        let now = self.now;
        let (_, last) = self.watch.deciding.entry(round).or_insert((now, now));
        *last = now;
    }

    /// A round is applied: counts whose contributions were chosen.
    pub(super) fn audit_chosen(&mut self, peer: usize, apply: &Apply) {
        if !self.nodes[peer].is_honest() || !self.watch.counted.insert(apply.round) {
            return;
        }
        let Some(committed) = self.watch.committed.remove(&apply.round) else {
            return;
        };
        let chosen = apply.contributions.iter();
        let chosen = chosen.filter(|chosen| committed.contains(&chosen.peer));
        self.outcome.honest_committed += committed.len() as u64;
        self.outcome.honest_chosen += chosen.count() as u64;
    }

    /// A peer reveals its contribution: counts it if many could still commit to a copy.
    pub(super) fn audit_reveal(&mut self, peer: usize, round: RoundNumber) {
        let Some(core) = self.nodes[peer].core.as_ref() else {
            return;
        };
        if !self.nodes[peer].is_honest() {
            return;
        }
        let roster = core.chain().ledger().roster();
        let is_open = |phase: (RoundNumber, Phase)| {
            phase.0 < round || phase.0 == round && phase.1 <= Phase::Committing
        };
        let open = self.nodes.iter().enumerate().filter(|(other, node)| {
            *other != peer && node.is_honest() && node.is_up() && is_open(node.phase)
        });
        let open: u128 = open
            .map(|(_, node)| u128::from(roster.weight(&node.key.peer())))
            .sum();
        if open * 3 > u128::from(roster.total().0) {
            self.outcome.early_reveals += 1;
        }
    }

    /// Looks whether the run makes progress.
    pub(super) fn watch(&mut self) -> Result<(), Violation> {
        self.schedule(WATCH_MS, Event::Watch);
        if !self.must_make_progress() {
            self.watch.quiet_since = self.now;
            return Ok(());
        }
        let quiet_ms = self.now.since(self.watch.quiet_since);
        if quiet_ms > self.scenario.stall_ms {
            let round = RoundNumber(self.watch.decided_rounds);
            let peers = self.describe_peers();
            return Err(Violation::Stalled {
                round,
                quiet_ms,
                peers,
            });
        }
        Ok(())
    }

    /// Whether honest voters with more than two thirds of the weight are up and all connected.
    fn must_make_progress(&self) -> bool {
        let furthest = self.nodes.iter().filter(|node| node.is_honest());
        let cores = furthest.filter_map(|node| node.core.as_ref());
        let Some(core) = cores.max_by_key(|core| core.chain().round()) else {
            return false;
        };
        let roster = core.chain().ledger().roster();
        let up = self
            .nodes
            .iter()
            .filter(|node| node.is_honest() && node.is_up());
        let up: u128 = up
            .map(|node| u128::from(roster.weight(&node.key.peer())))
            .sum();
        roster.is_quorum(up) && self.now > self.scenario.network.calm_after()
    }

    /// Notes for the script that a peer has signed something.
    fn note_signed(&mut self, peer: usize, envelope: &Envelope) {
        if !self.script.is_empty()
            && let Ok(content) = Content::decode(envelope)
        {
            self.script
                .signed
                .insert((peer, envelope.kind, content.round()));
        }
    }
}
