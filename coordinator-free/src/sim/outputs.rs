//! Carries out a core's outputs.

use std::sync::Arc;

use weal_proto::Envelope;

use super::audit::Violation;
use super::event::{Event, Local, Request};
use super::world::World;
use crate::interface::event::Event as Report;
use crate::interface::names::TimerId;
use crate::interface::output::{Acceptance, Output, Record};
use crate::interface::time::Millis;

impl World {
    pub(super) fn carry_out(&mut self, peer: usize, output: Output) -> Result<(), Violation> {
        match output {
            Output::Persist(record) => return self.persist(peer, record),
            Output::Broadcast(envelope) => return self.broadcast(peer, envelope),
            Output::Report(report) => return self.report(peer, report),
            Output::Verdict(acceptance) => self.forward(peer, acceptance),
            Output::Train {
                round, deadline, ..
            } => self.train(peer, round, deadline),
            Output::StopTraining => self.nodes[peer].trainings += 1,
            Output::Reveal { blob, .. } => {
                self.nodes[peer].revealed.insert(blob);
            }
            Output::Fetch(fetch) => self.fetch(peer, fetch),
            Output::Apply(apply) => self.apply(peer, apply),
            Output::FetchWeights { round, root } => self.fetch_weights(peer, round, root),
            Output::SetTimer { id, at } => self.set_timer(peer, id, at),
            Output::CancelTimer { id } => {
                self.nodes[peer].timers.remove(&id);
            }
            Output::RequestDecided { from_round } => {
                self.request(peer, Request::Decided(from_round))
            }
            Output::RequestRoundMessages { round } => {
                self.request(peer, Request::RoundMessages(round))
            }
        }
        Ok(())
    }

    fn persist(&mut self, peer: usize, record: Record) -> Result<(), Violation> {
        let decided = match &record {
            Record::Decided(decided) => Some((decided.value.round, decided.value.hash())),
            _ => None,
        };
        self.nodes[peer].persist(record);
        if let Some((round, hash)) = decided.filter(|_| self.nodes[peer].liar.is_none()) {
            self.audit.decided(round, hash)?;
            self.come_and_go(round.0 + 1)?;
        }
        Ok(())
    }

    fn broadcast(&mut self, peer: usize, envelope: Envelope) -> Result<(), Violation> {
        self.audit.sent(&envelope)?;
        let run = self.manifest.run();
        let node = &mut self.nodes[peer];
        let key = node.key.clone();
        let other = node
            .liar
            .as_mut()
            .and_then(|liar| liar.instead(&key, run, &envelope))
            .map(Arc::new);
        let envelope = Arc::new(envelope);
        for to in (0..self.nodes.len()).filter(|to| *to != peer) {
            match &other {
                Some(other) if to % 2 == 1 => self.send(peer, to, other),
                _ => self.send(peer, to, &envelope),
            }
        }
        Ok(())
    }

    /// Gossip: forwards the message of this step to a few peers, if the core accepts it.
    fn forward(&mut self, peer: usize, acceptance: Acceptance) {
        let Some(envelope) = self.arrived.take() else {
            return;
        };
        if acceptance != Acceptance::Accept {
            return;
        }
        let others = self.nodes.len() as u64 - 1;
        for _ in 0..self.scenario.network.forward_to {
            let step = 1 + self.random.next() % others;
            let to = (peer as u64 + step) % (others + 1);
            self.send(peer, to as usize, &envelope);
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, envelope: &Arc<Envelope>) {
        for at in self
            .scenario
            .network
            .arrivals(self.now, from, to, &mut self.random)
        {
            self.schedule_at(
                at,
                Event::Deliver {
                    peer: to,
                    envelope: Arc::clone(envelope),
                },
            );
        }
    }

    fn set_timer(&mut self, peer: usize, id: TimerId, at: Millis) {
        let number = self.number();
        self.nodes[peer].timers.insert(id, number);
        self.schedule_local_at(peer, at, Local::Timer { id, number });
    }

    fn report(&mut self, peer: usize, report: Report) -> Result<(), Violation> {
        let honest = self.nodes[peer].liar.is_none();
        match report {
            Report::Dropped { cause, .. } => *self.outcome.dropped.entry(cause).or_default() += 1,
            Report::Decided { view, synced, .. } => {
                self.outcome.later_views += u64::from(view.0 > 0);
                self.outcome.synced += u64::from(synced);
            }
            Report::Banned { peer } if self.audit.honest.contains(&peer) => {
                return Err(Violation::Banned(peer));
            }
            Report::EngineFault { cause, .. } if honest => {
                return Err(Violation::Engine { peer, cause });
            }
            _ => {}
        }
        Ok(())
    }
}
