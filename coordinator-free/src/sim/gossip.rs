//! Gossip: signed messages that spread through the mesh.

use std::sync::Arc;

use weal_proto::Envelope;

use super::audit::Violation;
use super::dishonest::{Audience, Said};
use super::event::Event;
use super::network::{Gossip, Parcel, TrafficKind};
use super::world::World;
use crate::interface::input::Input;
use crate::interface::output::Acceptance;
use crate::interface::time::Millis;

/// Bytes of a gossip frame beside the envelope: topic and lengths.
const FRAME_BYTES: u64 = 80;

impl World {
    /// The peers that a peer is connected to and that are up.
    pub(super) fn connected(&self, peer: usize) -> Vec<usize> {
        let connections = self.scenario.network.connections;
        let reaches = |other: usize| self.reaches(peer, other);
        if connections + 1 >= self.nodes.len() {
            return (0..self.nodes.len())
                .filter(|other| reaches(*other))
                .collect();
        }
        self.mesh.neighbours(peer, connections, reaches)
    }

    fn reaches(&self, peer: usize, other: usize) -> bool {
        let network = &self.scenario.network;
        other != peer && self.nodes[other].is_up() && network.connects(self.now, peer, other)
    }

    /// The peers that a peer forwards messages to.
    fn mesh_neighbours(&self, peer: usize) -> Vec<usize> {
        let degree = self.scenario.network.mesh_degree;
        self.mesh
            .neighbours(peer, degree, |other| self.reaches(peer, other))
    }

    /// Sends a message that a core broadcasts, or what a dishonest peer sends instead.
    pub(super) fn broadcast(&mut self, peer: usize, envelope: Envelope) -> Result<(), Violation> {
        self.audit_sent(peer, &envelope)?;
        for Said { envelope, to } in self.said(peer, envelope) {
            self.send_all(peer, envelope, &to);
        }
        Ok(())
    }

    /// Sends a message to the other peers that are to receive it. As in gossipsub, nothing happens
    /// if the same bytes went through this peer a short while ago.
    pub(super) fn send_all(&mut self, peer: usize, envelope: Envelope, audience: &Audience) {
        let gossip = Gossip::new(envelope);
        if !self.nodes[peer].seen.note(self.now, gossip.id) {
            return;
        }
        for to in self.recipients(peer, gossip.bytes) {
            if audience.holds(to) {
                self.pass_on(peer, to, &gossip);
            }
        }
    }

    fn recipients(&self, peer: usize, bytes: u64) -> Vec<usize> {
        if bytes <= self.scenario.network.flood_below_bytes {
            self.connected(peer)
        } else {
            self.mesh_neighbours(peer)
        }
    }

    /// Forwards the message of this step through the mesh, if the core accepts it.
    pub(super) fn forward(&mut self, peer: usize, acceptance: Acceptance) {
        let Some((gossip, from)) = self.arrived.take() else {
            return;
        };
        if acceptance != Acceptance::Accept {
            return;
        }
        for to in self.mesh_neighbours(peer) {
            if to != from {
                self.pass_on(peer, to, &gossip);
            }
        }
    }

    fn pass_on(&mut self, from: usize, to: usize, gossip: &Arc<Gossip>) {
        let parcel = Parcel {
            from,
            to,
            kind: TrafficKind::Gossip(gossip.envelope.kind),
            bytes: gossip.bytes + FRAME_BYTES,
        };
        for at in self.send_parcel(parcel) {
            let gossip = Arc::clone(gossip);
            let peer = to;
            self.schedule_at(at, Event::Deliver { peer, from, gossip });
        }
    }

    /// A message arrives. The peer's filter drops it if the peer has seen it lately.
    pub(super) fn deliver(
        &mut self,
        peer: usize,
        from: usize,
        gossip: Arc<Gossip>,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[peer];
        if !node.is_up() {
            return Ok(());
        }
        if !node.seen.note(self.now, gossip.id) {
            self.outcome.duplicates += 1;
            return Ok(());
        }
        self.outcome.delivered += 1;
        let input = Input::Received(gossip.envelope.clone());
        self.arrived = Some((gossip, from));
        self.step(peer, input)
    }

    /// Sends something at the end of what the current step has written so far. Returns when it
    /// arrives.
    pub(super) fn send_parcel(&mut self, parcel: Parcel) -> Vec<Millis> {
        let now = self.now.after(self.lag_ms);
        let network = &self.scenario.network;
        self.links.send(network, &mut self.random, now, parcel)
    }
}
