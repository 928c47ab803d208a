//! Connected peers, and what we know about each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::addresses::{ip, is_relayed, is_useful};
use crate::identity::peer_key;
use crate::relays::Candidate;
use crate::status::{Direction, PeerStatus};
use crate::traffic::Traffic;

/// Limit on the addresses that a peer may announce for itself.
pub(crate) const ADDRESSES: usize = 16;
/// Time in which a new peer must announce its run.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(20);
/// A direct connection that lasts this long makes those through relays superfluous.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

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
    /// Whether the peer relays for others.
    is_relay: bool,
    /// Where the peer can be dialled.
    address: Option<Multiaddr>,
    ping: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    direction: Direction,
    relayed: bool,
    since: Instant,
}

impl Peers {
    pub(crate) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) {
        let relayed = endpoint.is_relayed();
        let (address, direction) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), Direction::Outbound),
            // A circuit has no address of the peer, but that of the relay.
            ConnectedPoint::Listener { local_addr, .. } if relayed => {
                let through = local_addr.clone().with_p2p(peer);
                (through.unwrap_or_else(|own| own), Direction::Inbound)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => {
                (send_back_addr.clone(), Direction::Inbound)
            }
        };
        let connection = Connection {
            id,
            address,
            direction,
            relayed,
            since: now,
        };
        let entry = self.peers.entry(peer).or_insert_with(|| Peer {
            connections: Vec::new(),
            since: now,
            admitted: false,
            agent: String::new(),
            is_relay: false,
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

    /// Records whether a peer relays for others, as it says on this connection. Through a relay it
    /// says that it does not.
    pub(crate) fn note_relay(&mut self, peer: &PeerId, id: ConnectionId, is_relay: bool) {
        if let Some(entry) = self.peers.get_mut(peer) {
            let mut connections = entry.connections.iter();
            if connections.any(|connection| connection.id == id && !connection.relayed) {
                entry.is_relay = is_relay;
            }
        }
    }

    /// Directly connected peers of this run that relay for others.
    pub(crate) fn relays(&self) -> Vec<Candidate> {
        let peers = self.peers.iter();
        let relays = peers.filter(|(_, peer)| peer.admitted && peer.is_relay);
        relays
            .filter_map(|(id, peer)| {
                let is_direct = peer.best().is_some_and(|connection| !connection.relayed);
                let address = peer
                    .address
                    .clone()
                    .filter(|at| is_direct && !is_relayed(at))?;
                Some(Candidate {
                    peer: *id,
                    address,
                    ping: peer.ping,
                })
            })
            .collect()
    }

    /// Relayed connections to peers that are connected directly, too.
    pub(crate) fn superfluous(&self, now: Instant) -> Vec<ConnectionId> {
        let settled = |connection: &Connection| {
            !connection.relayed && now.saturating_duration_since(connection.since) >= SETTLED_AFTER
        };
        let peers = self.peers.values();
        let direct = peers.filter(|peer| peer.connections.iter().any(settled));
        let connections = direct.flat_map(|peer| &peer.connections);
        let relayed = connections.filter(|connection| connection.relayed);
        relayed.map(|connection| connection.id).collect()
    }

    /// Whether a peer opened this connection to this node without the help of a relay.
    pub(crate) fn came_directly(&self, peer: &PeerId, id: ConnectionId) -> bool {
        let connections = self.peers.get(peer).map(|peer| &peer.connections);
        let is_this = |connection: &Connection| {
            connection.id == id && connection.direction == Direction::Inbound
        };
        connections.is_some_and(|all| {
            all.iter().any(is_this) && all.iter().all(|connection| !connection.relayed)
        })
    }

    /// Address of the peer's oldest direct connection, or of the oldest one if all are relayed.
    pub(crate) fn address(&self, peer: &PeerId) -> Option<&Multiaddr> {
        Some(&self.peers.get(peer)?.best()?.address)
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
                let best = peer.best()?;
                Some(PeerStatus {
                    peer: peer_key(id)?,
                    address: best.address.clone(),
                    direction: best.direction,
                    relayed: best.relayed,
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
    /// The oldest direct connection, or the oldest one if all are relayed.
    fn best(&self) -> Option<&Connection> {
        self.connections
            .iter()
            .min_by_key(|connection| connection.relayed)
    }

    /// Where the peer can be dialled. In order of preference: the address that this node dialled,
    /// an announced address with the IP of the peer's connection, any announced address, one at a
    /// relay, and the address that the peer dialled from.
    fn dialable(&self, announced: &[Multiaddr]) -> Option<Multiaddr> {
        let from = &self.best()?.address;
        let mut connections = self.connections.iter();
        let dialled = connections
            .find(|connection| connection.direction == Direction::Outbound && !connection.relayed);
        let announced = &announced[..announced.len().min(ADDRESSES)];
        let (relayed, direct): (Vec<_>, Vec<_>) =
            announced.iter().partition(|address| is_relayed(address));
        let same_machine = || {
            let mut direct = direct.iter().copied();
            direct.find(|address| ip(address).is_some() && ip(address) == ip(from))
        };
        let useful = |addresses: &[&Multiaddr]| {
            let mut addresses = addresses.iter().copied();
            addresses.find(|address| is_useful(address, from)).cloned()
        };
        dialled
            .map(|connection| connection.address.clone())
            .or_else(|| same_machine().filter(|_| !is_relayed(from)).cloned())
            .or_else(|| useful(&direct))
            .or_else(|| useful(&relayed))
            .or_else(|| Some(from.clone()))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    use super::*;

    fn relayed(relay: PeerId, direction: Direction) -> ConnectedPoint {
        let circuit = address(&format!("/ip4/9.9.9.9/tcp/1/p2p/{relay}/p2p-circuit"));
        match direction {
            Direction::Inbound => ConnectedPoint::Listener {
                local_addr: circuit,
                send_back_addr: address("/ip4/9.9.9.9/tcp/1"),
            },
            Direction::Outbound => ConnectedPoint::Dialer {
                address: circuit,
                role_override: Endpoint::Dialer,
                port_use: PortUse::Reuse,
            },
        }
    }

    #[test]
    fn a_relayed_connection_is_superfluous_once_a_direct_one_lasts() {
        let (mut peers, now, peer) = (Peers::default(), Instant::now(), PeerId::random());
        let ids = [1, 2].map(ConnectionId::new_unchecked);
        let circuit = relayed(PeerId::random(), Direction::Outbound);
        peers.connected(peer, ids[0], &circuit, now);
        peers.admit(peer, String::new(), &[]);
        let traffic = Traffic::new(&crate::protocols::Protocols::of_run(&[1; 32]).unwrap());
        let is_relayed = |peers: &Peers| peers.peers[&peer].best().unwrap().relayed;
        assert!(is_relayed(&peers) && peers.superfluous(now + SETTLED_AFTER).is_empty());
        peers.connected(peer, ids[1], &inbound("/ip4/8.8.8.8/tcp/5"), now);
        assert!(!is_relayed(&peers));
        assert_eq!(peers.address(&peer), Some(&address("/ip4/8.8.8.8/tcp/5")));
        assert!(peers.superfluous(now + SETTLED_AFTER / 2).is_empty());
        assert_eq!(peers.superfluous(now + SETTLED_AFTER), [ids[0]]);
        assert!(peers.status(&traffic).iter().all(|peer| !peer.relayed));
    }

    #[test]
    fn a_private_peer_is_dialled_through_its_relay() {
        let (mut peers, now, relay) = (Peers::default(), Instant::now(), PeerId::random());
        let peer = PeerId::random();
        let at_relay = address(&format!(
            "/ip4/9.9.9.9/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"
        ));
        let names = [address("/ip4/192.168.1.5/tcp/7"), at_relay.clone()];
        let id = ConnectionId::new_unchecked(1);
        for from in [
            inbound("/ip4/8.8.8.8/tcp/5"),
            relayed(relay, Direction::Inbound),
        ] {
            peers.connected(peer, id, &from, now);
            let kept = peers.admit(peer, String::new(), &names);
            assert_eq!(kept, Some(at_relay.clone()), "{from:?}");
            peers.disconnected(peer, id);
        }
    }

    #[test]
    fn only_direct_public_peers_can_be_relays_and_only_unaided_ones_are_witnesses() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let (near, far) = (PeerId::random(), PeerId::random());
        let id = ConnectionId::new_unchecked(1);
        let outbound = ConnectedPoint::Dialer {
            address: address("/ip4/7.7.7.7/tcp/7"),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        peers.connected(near, id, &outbound, now);
        peers.connected(far, id, &relayed(near, Direction::Inbound), now);
        for peer in [near, far] {
            peers.admit(peer, String::new(), &[]);
            peers.note_relay(&peer, id, true);
        }
        let found: Vec<_> = peers.relays().into_iter().map(|relay| relay.peer).collect();
        assert_eq!(found, [near]);
        assert!(!peers.came_directly(&near, id) && !peers.came_directly(&far, id));
        let second = ConnectionId::new_unchecked(2);
        peers.connected(far, second, &inbound("/ip4/8.8.8.8/tcp/5"), now);
        assert!(
            !peers.came_directly(&far, second),
            "with the help of a relay"
        );
        peers.disconnected(far, id);
        assert!(peers.came_directly(&far, second));
    }

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
