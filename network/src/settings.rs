//! Settings of the network.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::allowance::TrafficLeft;
use crate::sessions::Session;

/// Default of [`Settings::max_gossip_bytes`]: enough for a proposal with the attestations of a
/// hundred voters, and small enough for every home uplink.
pub const DEFAULT_MAX_GOSSIP_BYTES: usize = 256 * 1024;

/// What a node relays for peers that cannot be reached directly. Enough for the gossip of a run
/// between two such peers, and too little for blobs, which the relay has itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Peers that may keep a place at this node.
    pub reservations: usize,
    /// Connections on which one peer may keep a place.
    pub reservations_per_peer: usize,
    /// Circuits, each between two peers.
    pub circuits: usize,
    /// Circuits that one peer may open.
    pub circuits_per_peer: usize,
    /// Bytes in both directions after which a circuit is closed.
    pub circuit_bytes: u64,
    /// Time after which a circuit is closed.
    pub circuit_duration: Duration,
}

impl Default for RelayLimits {
    /// All circuits together carry at most 1.2 MB/s in the long run.
    fn default() -> Self {
        Self {
            reservations: 128,
            reservations_per_peer: 4,
            circuits: 128,
            circuits_per_peer: 16,
            circuit_bytes: 32 << 20,
            circuit_duration: Duration::from_secs(3600),
        }
    }
}

/// Where the node listens, which peers it dials first, and how much bandwidth peers may use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on, for QUIC (`/ip4/…/udp/…/quic-v1`) and TCP (`/ip4/…/tcp/…`). The
    /// start fails if the node cannot listen on one of them, but skips address families that the
    /// system does not support. A node without any only dials, and others reach it through relays.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which peers reach this node, if they differ from those it listens on (for
    /// example a forwarded port).
    pub external: Vec<Multiaddr>,
    /// Peers to dial at the start, with or without `/p2p/…`. The driver retries them for ever, with
    /// back-off.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to find peers on the local network with multicast DNS.
    pub mdns: bool,
    /// Whether to ask the router for a port (UPnP).
    pub upnp: bool,
    /// What to relay for peers that cannot be reached directly, once this node is public. `None`
    /// relays nothing.
    pub relay: Option<RelayLimits>,
    /// Limit on connections. A quarter of them is reserved for connections that this node dials.
    pub max_connections: u32,
    /// New connections are refused while the process uses more memory than this. `None` means 95 %
    /// of the machine's memory.
    pub max_memory_bytes: Option<usize>,
    /// Limit on the bytes of a gossip message, sent or received. All peers of a run must agree on
    /// it: peers with a smaller limit drop larger messages.
    pub max_gossip_bytes: usize,
    /// Rate limit on blobs and answers to control requests sent, in bytes per second over all
    /// peers; `None` means no limit. Gossip has no rate limit: it is small, and the run needs it in
    /// time.
    pub max_upload: Option<NonZeroU64>,
    /// Rate limit on blobs received, in bytes per second over all peers. It holds on average; a
    /// stream's receive window (2 MiB) may fill faster.
    pub max_download: Option<NonZeroU64>,
    /// Bytes after which this node stops exchanging blobs.
    pub traffic_left: TrafficLeft,
    /// This process of the node, so that another machine with the same key is noticed. `None` for a
    /// process that signs nothing.
    pub session: Option<Session>,
    /// Folder for blobs that are too long for memory while they are fetched. A fetch that is
    /// interrupted continues there. `None` keeps every blob in memory.
    pub parts: Option<PathBuf>,
    /// Idle timeout of connections that gossip does not need.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Self::listen_on_port(0),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            upnp: false,
            relay: Some(RelayLimits::default()),
            max_connections: 128,
            max_memory_bytes: None,
            max_gossip_bytes: DEFAULT_MAX_GOSSIP_BYTES,
            max_upload: None,
            max_download: None,
            traffic_left: TrafficLeft::default(),
            session: None,
            parts: None,
            idle_timeout: Duration::from_secs(600),
        }
    }
}

impl Settings {
    /// QUIC and TCP, IPv4 and IPv6, on all interfaces and one port number, so that a firewall or
    /// router needs one rule. With port 0 the system chooses a port for each transport.
    #[must_use]
    pub fn listen_on_port(port: u16) -> Vec<Multiaddr> {
        let v4 = Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::UNSPECIFIED));
        let v6 = Multiaddr::empty().with(Protocol::Ip6(Ipv6Addr::UNSPECIFIED));
        [v4, v6]
            .into_iter()
            .flat_map(|ip| Self::both_transports(&ip, port))
            .collect()
    }

    /// QUIC and TCP on the loopback interface, for tests and test networks on one machine.
    #[must_use]
    pub fn listen_on_loopback(port: u16) -> Vec<Multiaddr> {
        Self::both_transports(
            &Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::LOCALHOST)),
            port,
        )
        .into()
    }

    fn both_transports(ip: &Multiaddr, port: u16) -> [Multiaddr; 2] {
        [
            ip.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1),
            ip.clone().with(Protocol::Tcp(port)),
        ]
    }
}
