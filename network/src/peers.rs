//! The peers that are connected, and what is known of each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::identity::peer_key;
use super::traffic::Traffic;
use super::{Direction, PeerStatus};

/// Addresses that a peer names of itself are taken up to this number.
pub(super) const ADDRESSES: usize = 16;
/// A connection that has not said of which run it is by then is closed.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// All connections, by peer.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug)]
struct Peer {
    /// In the order of their making; never empty.
    connections: Vec<Connection>,
    since: Instant,
    /// It has shown that it is of this run.
    admitted: bool,
    agent: String,
    /// Where it can be called.
    address: Option<Multiaddr>,
    ping: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    direction: Direction,
}

impl Peers {
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) {
        let connection = match endpoint {
            ConnectedPoint::Dialer { address, .. } => Connection {
                id,
                address: address.clone(),
                direction: Direction::Outbound,
            },
            ConnectedPoint::Listener { send_back_addr, .. } => Connection {
                id,
                address: send_back_addr.clone(),
                direction: Direction::Inbound,
            },
        };
        let entry = self.peers.entry(peer).or_insert_with(|| Peer {
            connections: Vec::new(),
            since: now,
            admitted: false,
            agent: String::new(),
            address: None,
            ping: None,
        });
        entry.connections.push(connection);
    }

    /// Takes out a connection. Of the last one to a peer of this run, gives the address where it
    /// might be called.
    pub(super) fn disconnected(&mut self, peer: PeerId, id: ConnectionId) -> Option<Multiaddr> {
        let entry = self.peers.get_mut(&peer)?;
        entry.connections.retain(|connection| connection.id != id);
        if !entry.connections.is_empty() {
            return None;
        }
        let gone = self.peers.remove(&peer)?;
        gone.address.filter(|_| gone.admitted)
    }

    /// The peer is of this run. Its address the first time, as good as it is known; `None` where it
    /// was known before.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        agent: String,
        names: &[Multiaddr],
    ) -> Option<Multiaddr> {
        let entry = self.peers.get_mut(&peer)?;
        entry.agent = agent;
        let address = entry.callable(names)?.with_p2p(peer).ok()?;
        entry.address = Some(address.clone());
        (!std::mem::replace(&mut entry.admitted, true)).then_some(address)
    }

    pub(super) fn pinged(&mut self, peer: PeerId, round_trip: Duration) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.ping = Some(round_trip);
        }
    }

    /// The peers that have been asked to say of which run they are, and did not.
    pub(super) fn silent(&self, now: Instant) -> Vec<PeerId> {
        let silent = |peer: &Peer| {
            !peer.admitted && now.saturating_duration_since(peer.since) > INTRODUCTION
        };
        self.peers
            .iter()
            .filter(|(_, peer)| silent(peer))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The address of the peer's oldest connection.
    pub(super) fn address(&self, peer: &PeerId) -> Option<&Multiaddr> {
        Some(&self.peers.get(peer)?.connections.first()?.address)
    }

    /// Whether the peer is connected and of this run.
    pub(super) fn is_admitted(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.admitted)
    }

    /// How many peers of this run are connected.
    pub(super) fn admitted(&self) -> usize {
        self.peers.values().filter(|peer| peer.admitted).count()
    }

    /// The peers of this run, by key.
    pub(super) fn status(&self, traffic: &Traffic) -> Vec<PeerStatus> {
        let mut all: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.admitted)
            .filter_map(|(id, peer)| {
                let oldest = peer.connections.first()?;
                Some(PeerStatus {
                    peer: peer_key(id)?,
                    address: oldest.address.clone(),
                    direction: oldest.direction,
                    ping: peer.ping,
                    traffic: traffic.with_peer(id),
                    agent: peer.agent.clone(),
                })
            })
            .collect();
        all.sort_by_key(|peer| peer.peer);
        all
    }
}

impl Peer {
    /// Where the peer can be called: the address this node called, or the one that the peer names
    /// on the machine it called from, or any it names, or, failing all, the one it called from.
    fn callable(&self, names: &[Multiaddr]) -> Option<Multiaddr> {
        let called = self
            .connections
            .iter()
            .find(|connection| connection.direction == Direction::Outbound);
        if let Some(called) = called {
            return Some(called.address.clone());
        }
        let from = &self.connections.first()?.address;
        let same_machine = names
            .iter()
            .take(ADDRESSES)
            .find(|name| ip(name).is_some() && ip(name) == ip(from));
        Some(
            same_machine
                .or_else(|| names.iter().take(ADDRESSES).find(|n| is_useful(n, from)))
                .unwrap_or(from)
                .clone(),
        )
    }
}

/// Whether an address that a peer names can lead to it: another machine's loopback leads to this
/// one.
pub(super) fn is_useful(named: &Multiaddr, met_at: &Multiaddr) -> bool {
    match ip(named) {
        Some(ip) if ip.is_unspecified() => false,
        Some(ip) if ip.is_loopback() => self::ip(met_at).is_some_and(|ip| ip.is_loopback()),
        _ => !named.is_empty(),
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn inbound(from: &str) -> ConnectedPoint {
        ConnectedPoint::Listener {
            local_addr: address("/ip4/10.0.0.1/tcp/1"),
            send_back_addr: address(from),
        }
    }

    #[test]
    fn the_address_kept_is_one_that_can_be_called() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let names = [
            address("/ip4/127.0.0.1/tcp/7"),
            address("/ip4/10.0.0.9/tcp/7"),
            address("/ip4/9.9.9.9/tcp/7"),
        ];
        let kept = |peers: &mut Peers, endpoint: &ConnectedPoint, names: &[Multiaddr]| {
            let peer = PeerId::random();
            peers.connected(peer, ConnectionId::new_unchecked(1), endpoint, now);
            let kept = peers.admit(peer, String::new(), names).unwrap();
            assert_eq!(
                peers.admit(peer, String::new(), names),
                None,
                "admitted twice"
            );
            kept.iter().take(2).collect::<Multiaddr>()
        };
        assert_eq!(
            kept(&mut peers, &inbound("/ip4/10.0.0.9/tcp/55555"), &names),
            names[1]
        );
        assert_eq!(
            kept(&mut peers, &inbound("/ip4/8.8.8.8/tcp/55555"), &names),
            names[1]
        );
        assert_eq!(
            kept(&mut peers, &inbound("/ip4/127.0.0.1/tcp/55555"), &names),
            names[0]
        );
        assert_eq!(
            kept(&mut peers, &inbound("/ip4/8.8.8.8/tcp/55555"), &[]),
            address("/ip4/8.8.8.8/tcp/55555")
        );
        let outbound = ConnectedPoint::Dialer {
            address: address("/ip4/7.7.7.7/tcp/7"),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        assert_eq!(
            kept(&mut peers, &outbound, &names),
            address("/ip4/7.7.7.7/tcp/7")
        );
    }

    #[test]
    fn who_does_not_introduce_himself_is_noticed() {
        let (mut peers, now, peer) = (Peers::default(), Instant::now(), PeerId::random());
        peers.connected(
            peer,
            ConnectionId::new_unchecked(1),
            &inbound("/ip4/8.8.8.8/tcp/5"),
            now,
        );
        assert!(peers.silent(now + INTRODUCTION).is_empty());
        assert_eq!(peers.silent(now + INTRODUCTION * 2), [peer]);
        peers.admit(peer, String::new(), &[]);
        assert!(peers.silent(now + INTRODUCTION * 2).is_empty());
    }

    #[test]
    fn a_peer_is_gone_with_its_last_connection() {
        let (mut peers, now, peer) = (Peers::default(), Instant::now(), PeerId::random());
        let (first, second) = (
            ConnectionId::new_unchecked(1),
            ConnectionId::new_unchecked(2),
        );
        peers.connected(peer, first, &inbound("/ip4/8.8.8.8/tcp/5"), now);
        peers.connected(peer, second, &inbound("/ip4/8.8.8.8/tcp/6"), now);
        peers.admit(peer, String::new(), &[]);
        assert_eq!(peers.disconnected(peer, first), None);
        assert!(peers.disconnected(peer, second).is_some());
        assert_eq!(peers.disconnected(peer, second), None);
    }
}
