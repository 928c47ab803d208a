//! AutoNAT: peers dial this node back at its request, and it does the same for them.
//!
//! [`Probes`] keeps both halves of AutoNAT v2 within bounds. Peers name the addresses at which they
//! see this node, so only some are tested; and a peer that asks to be dialled back must not send
//! this node into its own local network.
//!
//! A dial-back is one more connection to a connected peer. It is no sign that the peer came back
//! after a crash, which such a connection is otherwise (see [`Renewal`](crate::renewal::Renewal)).
//! [`DialBacks`] tells them apart. They are closed once they have served.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::autonat::v2::{client, server};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::addresses::{ip, is_relayed, is_useful};

/// Addresses of this node that are tested in [`FORGOTTEN_AFTER`]. Further ones are not.
const CANDIDATES: usize = 32;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// Time within which a peer dials back, if it does at all.
const DIAL_BACK_WITHIN: Duration = Duration::from_secs(30);

/// Connections that peers open, or that this node opens, to test an address.
#[derive(Debug, Clone, Default)]
pub(crate) struct DialBacks(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Connections of this node.
    outgoing: HashSet<ConnectionId>,
    /// Peers that were asked to dial back, and when.
    expected: HashMap<PeerId, Instant>,
}

impl DialBacks {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer was asked to dial back.
    pub(crate) fn expect(&self, peer: PeerId, now: Instant) {
        let mut known = self.known();
        let is_due = |when: &Instant| now.saturating_duration_since(*when) < DIAL_BACK_WITHIN;
        known.expected.retain(|_, when| is_due(when));
        known.expected.insert(peer, now);
    }

    fn begun(&self, connection: ConnectionId) {
        self.known().outgoing.insert(connection);
    }

    fn ended(&self, connection: ConnectionId) {
        self.known().outgoing.remove(&connection);
    }

    fn is_outgoing(&self, connection: ConnectionId) -> bool {
        self.known().outgoing.contains(&connection)
    }

    /// Whether a new connection tests an address. One that the peer opened may do so if the peer
    /// was asked to.
    pub(crate) fn is_one(
        &self,
        connection: ConnectionId,
        peer: &PeerId,
        is_inbound: bool,
        now: Instant,
    ) -> bool {
        let known = self.known();
        let asked = known.expected.get(peer).filter(|_| is_inbound);
        let is_due = |when: &Instant| now.saturating_duration_since(*when) < DIAL_BACK_WITHIN;
        known.outgoing.contains(&connection) || asked.is_some_and(is_due)
    }
}

/// Both halves of AutoNAT.
#[derive(NetworkBehaviour)]
pub(crate) struct Both {
    client: client::Behaviour,
    server: server::Behaviour,
}

/// Both halves of AutoNAT, within bounds.
pub(crate) struct Probes {
    inner: Both,
    dial_backs: DialBacks,
    candidates: HashSet<Multiaddr>,
    candidates_since: Instant,
    /// Where each peer is connected from.
    met_at: HashMap<PeerId, Multiaddr>,
    /// Dial-backs that have served.
    done: VecDeque<(PeerId, ConnectionId)>,
}

impl Probes {
    pub(crate) fn new(dial_backs: DialBacks) -> Self {
        let inner = Both {
            client: client::Behaviour::default(),
            server: server::Behaviour::default(),
        };
        Self {
            inner,
            dial_backs,
            candidates: HashSet::new(),
            candidates_since: Instant::now(),
            met_at: HashMap::new(),
            done: VecDeque::new(),
        }
    }

    /// Whether an address of this node is tested.
    fn tests(&mut self, address: &Multiaddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.candidates_since) >= FORGOTTEN_AFTER {
            self.candidates.clear();
            self.candidates_since = now;
        }
        if self.candidates.len() < CANDIDATES {
            self.candidates.insert(address.clone());
        }
        self.candidates.contains(address)
    }

    /// Whether a peer may send this node to an address.
    fn may_dial(&self, peer: Option<&PeerId>, address: &Multiaddr) -> bool {
        let met_at = peer.and_then(|peer| self.met_at.get(peer));
        let allows = |met_at| !is_relayed(address) && is_useful(address, met_at);
        ip(address).is_some() && met_at.is_some_and(allows)
    }
}

impl NetworkBehaviour for Probes {
    type ConnectionHandler = <Both as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = BothEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let may = |address| self.may_dial(peer.as_ref(), address);
        if self.dial_backs.is_outgoing(connection) && !addresses.iter().all(may) {
            let why = "a peer may not send this node there";
            return Err(ConnectionDenied::new(io::Error::other(why)));
        }
        self.inner
            .handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &event {
            FromSwarm::NewExternalAddrCandidate(candidate) => {
                let is_direct = ip(candidate.addr).is_some() && !is_relayed(candidate.addr);
                if !is_direct || !self.tests(candidate.addr, Instant::now()) {
                    return;
                }
            }
            FromSwarm::ConnectionEstablished(made) if !made.endpoint.is_relayed() => {
                let from = made.endpoint.get_remote_address().clone();
                self.met_at.entry(made.peer_id).or_insert(from);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.dial_backs.ended(closed.connection_id);
                if closed.remaining_established == 0 {
                    self.met_at.remove(&closed.peer_id);
                }
            }
            FromSwarm::DialFailure(failed) => self.dial_backs.ended(failed.connection_id),
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // The right half is the server's: it has dialled back.
        if event.is_right() && self.dial_backs.is_outgoing(connection) {
            self.done.push_back((peer, connection));
        }
        self.inner
            .on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.done.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            });
        }
        let action = std::task::ready!(self.inner.poll(cx));
        match &action {
            ToSwarm::Dial { opts } => self.dial_backs.begun(opts.connection_id()),
            // The left half is the client's: it asks a peer to dial back.
            ToSwarm::NotifyHandler { peer_id, event, .. } if event.is_left() => {
                self.dial_backs.expect(*peer_id, Instant::now());
            }
            _ => {}
        }
        Poll::Ready(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_cannot_send_this_node_into_its_own_network() {
        let mut probes = Probes::new(DialBacks::default());
        let (far, near) = (PeerId::random(), PeerId::random());
        probes.met_at.insert(far, address("/ip4/8.8.8.8/tcp/5"));
        probes.met_at.insert(near, address("/ip4/10.0.0.9/tcp/5"));
        let mut may = |peer: PeerId, target: &str| {
            let connection = ConnectionId::new_unchecked(7);
            probes.dial_backs.begun(connection);
            let target = [address(target)];
            let (peer, role) = (Some(peer), Endpoint::Dialer);
            let asked = probes.handle_pending_outbound_connection(connection, peer, &target, role);
            asked.is_ok()
        };
        assert!(may(far, "/ip4/9.9.9.9/tcp/5"));
        assert!(!may(far, "/ip4/10.0.0.1/tcp/5"));
        assert!(!may(far, "/ip4/127.0.0.1/tcp/5"));
        assert!(!may(far, "/dns4/router.local/tcp/5"));
        assert!(may(near, "/ip4/10.0.0.1/tcp/5"));
        assert!(!may(PeerId::random(), "/ip4/9.9.9.9/tcp/5"));
    }

    #[test]
    fn peers_cannot_have_any_number_of_addresses_tested() {
        let mut probes = Probes::new(DialBacks::default());
        let now = Instant::now();
        let tested = |probes: &mut Probes, port: usize, now| {
            probes.tests(&address(&format!("/ip4/9.9.9.9/tcp/{port}")), now)
        };
        let count = (0..3 * CANDIDATES).filter(|port| tested(&mut probes, *port, now));
        assert_eq!(count.count(), CANDIDATES);
        assert!(!tested(&mut probes, 9_999, now));
        assert!(tested(&mut probes, 9_999, now + FORGOTTEN_AFTER));
    }

    #[test]
    fn a_dial_back_is_known_by_its_connection_or_expected_from_its_peer() {
        let (dial_backs, now) = (DialBacks::default(), Instant::now());
        let (peer, connection) = (PeerId::random(), ConnectionId::new_unchecked(1));
        assert!(!dial_backs.is_one(connection, &peer, true, now));
        dial_backs.expect(peer, now);
        assert!(dial_backs.is_one(connection, &peer, true, now));
        assert!(!dial_backs.is_one(connection, &peer, false, now));
        assert!(!dial_backs.is_one(connection, &peer, true, now + DIAL_BACK_WITHIN));
        dial_backs.begun(connection);
        assert!(dial_backs.is_one(connection, &peer, false, now));
        dial_backs.ended(connection);
        assert!(!dial_backs.is_one(connection, &peer, false, now));
    }
}
