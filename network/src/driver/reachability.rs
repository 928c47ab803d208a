//! Finds out whether peers can reach this node, and keeps places at relays while they cannot.

use std::time::Instant;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, dcutr, relay, upnp};

use super::task::Driver;
use crate::addresses::without_peer;
use crate::behaviour::BehaviourEvent;
use crate::identity::peer_key;
use crate::probes::BothEvent;
use crate::reachability::Reachability;
use crate::relays::Candidate;
use crate::status::PortMapping;

impl Driver {
    /// A peer of this run tells at which address it sees this node.
    pub(super) fn observed(&mut self, peer: PeerId, connection: ConnectionId, address: &Multiaddr) {
        self.observations.seen_at(address);
        if self.peers.came_directly(&peer, connection)
            && self.observations.reached_by(&self.user(peer), address)
        {
            self.swarm.add_external_address(without_peer(address));
        }
    }

    /// Draws the conclusion, and relays for others only while it is that this node is public, and
    /// while it may send.
    pub(super) fn update_reachability(&mut self, now: Instant) {
        let granting = self.relays.granting().filter_map(peer_key);
        let mut relays: Vec<_> = granting.collect();
        relays.sort_unstable();
        let confirmed = self.swarm.external_addresses();
        let conclusion = self.observations.conclude(confirmed, relays, now);
        if std::mem::discriminant(&conclusion) != std::mem::discriminant(&self.reachability) {
            tell(&conclusion);
        }
        self.reachability = conclusion;
        let status = match self.reachability {
            Reachability::Public { .. } if self.allowance.sends() => relay::Status::Enable,
            _ => relay::Status::Disable,
        };
        if let Some(service) = self.swarm.behaviour_mut().relay.as_mut() {
            service.set_status(Some(status));
        }
    }

    /// Asks for places at relays while this node is private.
    pub(super) fn keep_relays(&mut self, now: Instant) {
        if !matches!(self.reachability, Reachability::Private { .. }) {
            return;
        }
        let Some(Candidate { peer, address, .. }) = self.relays.next(self.peers.relays(), now)
        else {
            return;
        };
        let Ok(at) = address.with_p2p(peer) else {
            return;
        };
        match self.swarm.listen_on(at.with(Protocol::P2pCircuit)) {
            Ok(listener) => self.relays.asked(peer, listener, now),
            Err(error) => {
                tracing::debug!("cannot ask {peer} to relay for this node: {error}");
                self.relays.rest(peer, now);
            }
        }
    }

    /// Closes relayed connections that a direct one has replaced.
    pub(super) fn close_superfluous(&mut self, now: Instant) {
        for connection in self.peers.superfluous(now) {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_reachability_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Probes(BothEvent::Client(event)) => match event.result {
                Ok(()) => tracing::debug!("{} reached {}", event.server, event.tested_addr),
                Err(why) => {
                    let (server, address) = (event.server, event.tested_addr);
                    tracing::debug!("{server} cannot reach {address}: {why}");
                    self.observations.refuted();
                }
            },
            BehaviourEvent::Upnp(event) => self.on_upnp(event),
            BehaviourEvent::RelayClient(event) => self.on_relay_client(event),
            BehaviourEvent::Relay(event) => self.on_relay(event),
            BehaviourEvent::Dcutr(dcutr::Event {
                remote_peer_id,
                result,
            }) => match result {
                Ok(_) => self.hole_punches.succeeded += 1,
                Err(why) => {
                    tracing::debug!("no direct connection to {remote_peer_id}: {why}");
                    self.hole_punches.failed += 1;
                }
            },
            _ => {}
        }
    }

    fn on_upnp(&mut self, event: upnp::Event) {
        self.port_mapping = match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                tracing::info!("the router passes connections at {external_addr} on to this node");
                PortMapping::Mapped
            }
            upnp::Event::ExpiredExternalAddr { .. } => PortMapping::Searching,
            upnp::Event::GatewayNotFound => PortMapping::NoRouter,
            upnp::Event::NonRoutableGateway => PortMapping::BehindAnotherRouter,
        };
    }

    fn on_relay_client(&mut self, event: relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } = event
            && self.relays.granted(&relay_peer_id)
        {
            tracing::debug!("{relay_peer_id} relays for this node");
            // Others can reach this node now: time to learn of those that came earlier.
            let _ = self.swarm.behaviour_mut().kademlia.bootstrap();
        }
    }

    fn on_relay(&mut self, event: relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.relayed_peers.insert(src_peer_id);
            }
            // Any connection that closes is reported so.
            relay::Event::ReservationClosed { src_peer_id }
                if self.swarm.is_connected(&src_peer_id) => {}
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.relayed_peers.remove(&src_peer_id);
            }
            relay::Event::ReservationReqDenied { .. } | relay::Event::CircuitReqDenied { .. } => {
                self.counters.relaying_refused.one();
            }
            _ => {}
        }
    }
}

fn tell(reachability: &Reachability) {
    match reachability {
        Reachability::Unknown => tracing::info!("it is not known whether peers reach this node"),
        Reachability::Public { addresses } => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            tracing::info!("peers reach this node at {}", addresses.join(", "));
        }
        Reachability::Private { .. } => tracing::info!(
            "peers cannot reach this node: it dials them, and others come through relays"
        ),
    }
}
