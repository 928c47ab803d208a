//! Gossip with a peer that came back after a crash.
//!
//! Gossipsub announces its topics on the first connection to a peer only (rust-libp2p#5097), and
//! all connections to a peer share one queue. A peer that was killed and starts again at once is
//! connected a second time while the dead connection waits for its timeout, so it would hear of no
//! topics, stay out of every mesh, and lose what the dead connection takes from the queue.
//!
//! [`Renewal`] therefore hides old connections: when a peer connects again after a while, the
//! behaviour inside is told that the peer left, and then that it came. The old connections are
//! closed. Connections that are opened at about the same time, because both sides dialled, are
//! siblings and stay; so are those that only test an address ([`DialBacks`]). A direct connection
//! beside relayed ones always replaces them.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::probes::DialBacks;

/// Connections that are opened within this time of the first are its siblings: both sides dialled,
/// or one dialled over two transports.
pub(crate) const SIBLINGS: Duration = Duration::from_secs(3);

/// A behaviour that sees only the newest connections to each peer.
pub(crate) struct Renewal<B> {
    inner: B,
    siblings: Duration,
    dial_backs: DialBacks,
    peers: HashMap<PeerId, Current>,
    /// Connections that the behaviour inside no longer knows, and whether to close them.
    old: VecDeque<(PeerId, ConnectionId)>,
    hidden: HashMap<ConnectionId, PeerId>,
}

/// The connections to a peer that the behaviour inside knows. Never empty.
struct Current {
    since: Instant,
    connections: Vec<(ConnectionId, ConnectedPoint)>,
}

impl Current {
    fn is_relayed(&self) -> bool {
        let mut connections = self.connections.iter();
        connections.all(|(_, endpoint)| endpoint.is_relayed())
    }
}

impl<B: NetworkBehaviour> Renewal<B> {
    pub(crate) fn new(inner: B, siblings: Duration, dial_backs: DialBacks) -> Self {
        Self {
            inner,
            siblings,
            dial_backs,
            peers: HashMap::new(),
            old: VecDeque::new(),
            hidden: HashMap::new(),
        }
    }

    /// A connection is about to be established. Hides those of an earlier time.
    fn opened(&mut self, peer: PeerId, connection: ConnectionId, endpoint: ConnectedPoint) {
        let now = Instant::now();
        let is_test = self
            .dial_backs
            .is_one(connection, &peer, endpoint.is_listener(), now);
        let is_old = |current: &Current| {
            let is_upgrade = current.is_relayed() && !endpoint.is_relayed();
            is_upgrade || now.saturating_duration_since(current.since) >= self.siblings
        };
        if !is_test && self.peers.get(&peer).is_some_and(is_old) {
            self.hide(peer);
        }
        let current = self.peers.entry(peer).or_insert_with(|| Current {
            since: now,
            connections: Vec::new(),
        });
        current.connections.push((connection, endpoint));
    }

    /// Tells the behaviour inside that the peer is gone, and closes its connections.
    fn hide(&mut self, peer: PeerId) {
        let Some(current) = self.peers.remove(&peer) else {
            return;
        };
        let mut remaining = current.connections.len();
        for (connection_id, endpoint) in &current.connections {
            remaining = remaining.saturating_sub(1);
            self.inner
                .on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                    peer_id: peer,
                    connection_id: *connection_id,
                    endpoint,
                    cause: None,
                    remaining_established: remaining,
                }));
            self.hidden.insert(*connection_id, peer);
            self.old.push_back((peer, *connection_id));
        }
    }

    /// Forgets a connection. Returns how many the behaviour inside still has with that peer, or
    /// `None` if it does not know the connection.
    fn forget(&mut self, peer: PeerId, connection: ConnectionId) -> Option<usize> {
        if self.hidden.remove(&connection).is_some() {
            return None;
        }
        let current = self.peers.get_mut(&peer)?;
        let before = current.connections.len();
        current.connections.retain(|(id, _)| *id != connection);
        let remaining = current.connections.len();
        if remaining == 0 {
            self.peers.remove(&peer);
        }
        (remaining < before).then_some(remaining)
    }
}

impl<B> Deref for Renewal<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Renewal<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Renewal<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

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
        let endpoint = ConnectedPoint::Listener {
            local_addr: local.clone(),
            send_back_addr: remote.clone(),
        };
        self.opened(peer, connection, endpoint);
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
        let endpoint = ConnectedPoint::Dialer {
            address: address.clone(),
            role_override: role,
            port_use,
        };
        self.opened(peer, connection, endpoint);
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let event = match event {
            FromSwarm::ConnectionEstablished(event) => {
                let current = self.peers.get(&event.peer_id);
                let siblings = current.map_or(0, |current| current.connections.len() - 1);
                FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    other_established: siblings,
                    ..event
                })
            }
            FromSwarm::ConnectionClosed(event) => {
                let Some(remaining) = self.forget(event.peer_id, event.connection_id) else {
                    return;
                };
                FromSwarm::ConnectionClosed(ConnectionClosed {
                    remaining_established: remaining,
                    ..event
                })
            }
            FromSwarm::AddressChange(event) if self.hidden.contains_key(&event.connection_id) => {
                return;
            }
            event => event,
        };
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // What an old connection still delivers counts, if the peer is known.
        if self.peers.contains_key(&peer) {
            self.inner
                .on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.old.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            });
        }
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::dummy;

    use super::*;

    /// Notes what it hears of connections.
    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl NetworkBehaviour for Recorder {
        type ConnectionHandler = dummy::ConnectionHandler;
        type ToSwarm = std::convert::Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
        }

        fn handle_established_outbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
        }

        fn on_swarm_event(&mut self, event: FromSwarm) {
            self.0.push(match event {
                FromSwarm::ConnectionEstablished(event) => {
                    format!(
                        "{} opened beside {}",
                        event.connection_id, event.other_established
                    )
                }
                FromSwarm::ConnectionClosed(event) => {
                    format!(
                        "{} closed, {} left",
                        event.connection_id, event.remaining_established
                    )
                }
                event => format!("{event:?}"),
            });
        }

        fn on_connection_handler_event(
            &mut self,
            _: PeerId,
            _: ConnectionId,
            event: THandlerOutEvent<Self>,
        ) {
            match event {}
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
            Poll::Pending
        }
    }

    /// Opens connections 1 to `count`, and then closes them in that order.
    fn history(siblings: Duration, count: usize) -> (Vec<String>, Vec<ConnectionId>) {
        let local = vec![DIRECT; count];
        history_of(
            Renewal::new(Recorder::default(), siblings, DialBacks::default()),
            &local,
        )
    }

    const DIRECT: &str = "/ip4/127.0.0.1/tcp/1";
    const RELAYED: &str = "/ip4/127.0.0.1/tcp/1/p2p-circuit";

    fn peer() -> PeerId {
        let key = crate::identity::keypair([7; 32]).unwrap();
        key.public().to_peer_id()
    }

    /// Opens a connection at each of these addresses, and then closes them in that order.
    fn history_of(
        mut renewal: Renewal<Recorder>,
        local: &[&str],
    ) -> (Vec<String>, Vec<ConnectionId>) {
        let count = local.len();
        let peer = peer();
        let ids: Vec<_> = (1..=count).map(ConnectionId::new_unchecked).collect();
        let remote: Multiaddr = DIRECT.parse().unwrap();
        let endpoints: Vec<_> = local
            .iter()
            .map(|local| ConnectedPoint::Listener {
                local_addr: local.parse().unwrap(),
                send_back_addr: remote.clone(),
            })
            .collect();
        for (others, (id, endpoint)) in ids.iter().zip(&endpoints).enumerate() {
            let ConnectedPoint::Listener { local_addr, .. } = endpoint else {
                continue;
            };
            renewal
                .handle_established_inbound_connection(*id, peer, local_addr, &remote)
                .unwrap();
            let event = ConnectionEstablished {
                peer_id: peer,
                connection_id: *id,
                endpoint,
                failed_addresses: &[],
                other_established: others,
            };
            renewal.on_swarm_event(FromSwarm::ConnectionEstablished(event));
        }
        for (place, (id, endpoint)) in ids.iter().zip(&endpoints).enumerate() {
            let event = ConnectionClosed {
                peer_id: peer,
                connection_id: *id,
                endpoint,
                cause: None,
                remaining_established: count - place - 1,
            };
            renewal.on_swarm_event(FromSwarm::ConnectionClosed(event));
        }
        assert!(renewal.peers.is_empty() && renewal.hidden.is_empty());
        let mut closed = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(event) = renewal.poll(&mut cx) {
            match event {
                ToSwarm::CloseConnection {
                    connection: CloseConnection::One(id),
                    ..
                } => closed.push(id),
                other => panic!("{other:?}"),
            }
        }
        (renewal.inner.0, closed)
    }

    #[test]
    fn a_peer_that_connects_again_later_is_a_new_peer() {
        let (heard, closed) = history(Duration::ZERO, 2);
        let expected = [
            "1 opened beside 0",
            "1 closed, 0 left",
            "2 opened beside 0",
            "2 closed, 0 left",
        ];
        assert_eq!(heard, expected);
        assert_eq!(closed, [ConnectionId::new_unchecked(1)]);
    }

    #[test]
    fn connections_that_both_sides_opened_at_once_are_one_peer() {
        let (heard, closed) = history(Duration::MAX, 2);
        let expected = [
            "1 opened beside 0",
            "2 opened beside 1",
            "1 closed, 1 left",
            "2 closed, 0 left",
        ];
        assert_eq!(heard, expected);
        assert!(closed.is_empty(), "{closed:?}");
    }

    #[test]
    fn a_direct_connection_replaces_relayed_ones_at_once() {
        let renewal = Renewal::new(Recorder::default(), Duration::MAX, DialBacks::default());
        let (heard, closed) = history_of(renewal, &[RELAYED, DIRECT, RELAYED]);
        let expected = [
            "1 opened beside 0",
            "1 closed, 0 left",
            "2 opened beside 0",
            "3 opened beside 1",
            "2 closed, 1 left",
            "3 closed, 0 left",
        ];
        assert_eq!(heard, expected);
        assert_eq!(closed, [ConnectionId::new_unchecked(1)]);
    }

    #[test]
    fn a_connection_that_tests_an_address_replaces_nothing() {
        let dial_backs = DialBacks::default();
        dial_backs.expect(peer(), Instant::now());
        let renewal = Renewal::new(Recorder::default(), Duration::ZERO, dial_backs);
        let (heard, closed) = history_of(renewal, &[DIRECT, DIRECT]);
        assert_eq!(heard[1], "2 opened beside 1");
        assert!(closed.is_empty(), "{closed:?}");
    }
}
