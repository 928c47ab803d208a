//! Connected peers, and what we know about each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::identity::peer_key;
use crate::status::{Direction, PeerStatus};
use crate::traffic::Traffic;

/// Limit on the addresses that a peer may announce for itself.
pub(crate) const ADDRESSES: usize = 16;
/// Time in which a new peer must announce its run.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(20);

/// All connections, by peer.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug)]
struct Peer {
    /// The oldest first; never empty.
    connections: Vec<Connection>,
    since: Instant,
    /// Whether the peer has announced this run.
    admitted: bool,
    agent: String,
    /// Where the peer can be dialled.
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
    pub(crate) fn connected(
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

    /// Removes a connection. If it was the last one to a peer of this run, returns an address to
    /// redial the peer.
    pub(crate) fn disconnected(&mut self, peer: PeerId, id: ConnectionId) -> Option<Multiaddr> {
        let entry = self.peers.get_mut(&peer)?;
        entry.connections.retain(|connection| connection.id != id);
        if !entry.connections.is_empty() {
            return None;
        }
        let gone = self.peers.remove(&peer)?;
        gone.address.filter(|_| gone.admitted)
    }

    /// Records that the peer belongs to this run. Returns its best known address the first time,
    /// and `None` afterwards.
    pub(crate) fn admit(
        &mut self,
        peer: PeerId,
        agent: String,
        announced: &[Multiaddr],
    ) -> Option<Multiaddr> {
        let entry = self.peers.get_mut(&peer)?;
        entry.agent = agent;
        let address = entry.dialable(announced)?.with_p2p(peer).ok()?;
        entry.address = Some(address.clone());
        (!std::mem::replace(&mut entry.admitted, true)).then_some(address)
    }

    pub(crate) fn pinged(&mut self, peer: PeerId, round_trip: Duration) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.ping = Some(round_trip);
        }
    }

    /// Peers that have not announced their run in time.
    pub(crate) fn silent(&self, now: Instant) -> Vec<PeerId> {
        let silent = |peer: &Peer| {
            !peer.admitted && now.saturating_duration_since(peer.since) > IDENTIFY_TIMEOUT
        };
        self.peers
            .iter()
            .filter(|(_, peer)| silent(peer))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Address of the peer's oldest connection.
    pub(crate) fn address(&self, peer: &PeerId) -> Option<&Multiaddr> {
        Some(&self.peers.get(peer)?.connections.first()?.address)
    }

    /// Whether the peer is connected and belongs to this run.
    pub(crate) fn is_admitted(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.admitted)
    }

    /// Peers of this run whose oldest connection has lasted for this time.
    pub(crate) fn admitted_for(&self, time: Duration, now: Instant) -> Vec<PeerId> {
        let lasts = |peer: &Peer| now.saturating_duration_since(peer.since) >= time;
        let peers = self.peers.iter();
        let lasting = peers.filter(|(_, peer)| peer.admitted && lasts(peer));
        lasting.map(|(id, _)| *id).collect()
    }

    /// Number of connected peers of this run.
    pub(crate) fn admitted(&self) -> usize {
        self.peers.values().filter(|peer| peer.admitted).count()
    }

    /// Connected peers of this run, sorted by key.
    pub(crate) fn status(&self, traffic: &Traffic) -> Vec<PeerStatus> {
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
    /// Where the peer can be dialled. In order of preference: the address that this node dialled,
    /// an announced address with the IP of the peer's connection, any announced address, and the
    /// address that the peer dialled from.
    fn dialable(&self, announced: &[Multiaddr]) -> Option<Multiaddr> {
        let dialled = self
            .connections
            .iter()
            .find(|connection| connection.direction == Direction::Outbound);
        if let Some(dialled) = dialled {
            return Some(dialled.address.clone());
        }
        let from = &self.connections.first()?.address;
        let same_machine = announced
            .iter()
            .take(ADDRESSES)
            .find(|address| ip(address).is_some() && ip(address) == ip(from));
        Some(
            same_machine
                .or_else(|| {
                    announced
                        .iter()
                        .take(ADDRESSES)
                        .find(|address| is_useful(address, from))
                })
                .unwrap_or(from)
                .clone(),
        )
    }
}

/// Whether dialling an announced address can reach the peer. Another machine's loopback address
/// leads to this machine, and a private address of a peer that comes from the internet leads into
/// this machine's own network.
pub(crate) fn is_useful(announced: &Multiaddr, met_at: &Multiaddr) -> bool {
    let met_at = ip(met_at);
    match ip(announced) {
        Some(ip) if ip.is_unspecified() => false,
        Some(ip) if ip.is_loopback() => met_at.is_some_and(|ip| ip.is_loopback()),
        Some(ip) if is_local(ip) => met_at.is_none_or(is_local),
        _ => !announced.is_empty(),
    }
}

/// Whether an address means something on its own network only.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
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
    fn the_address_kept_is_one_that_can_be_dialled() {
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
            names[2],
            "another network's private address was taken"
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
    fn a_peer_that_does_not_announce_its_run_is_noticed() {
        let (mut peers, now, peer) = (Peers::default(), Instant::now(), PeerId::random());
        peers.connected(
            peer,
            ConnectionId::new_unchecked(1),
            &inbound("/ip4/8.8.8.8/tcp/5"),
            now,
        );
        assert!(peers.silent(now + IDENTIFY_TIMEOUT).is_empty());
        assert_eq!(peers.silent(now + IDENTIFY_TIMEOUT * 2), [peer]);
        peers.admit(peer, String::new(), &[]);
        assert!(peers.silent(now + IDENTIFY_TIMEOUT * 2).is_empty());
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
