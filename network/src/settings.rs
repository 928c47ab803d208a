//! What a person or the node may choose about the network.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// The largest gossip message unless [`Settings::max_gossip_bytes`] says otherwise: room for a
/// proposal with the attestations of a hundred voters, and small enough for every home uplink.
pub const DEFAULT_MAX_GOSSIP_BYTES: usize = 256 * 1024;

/// How the node listens, whom it calls first, and how much it lets others use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on, QUIC (`/ip4/…/udp/…/quic-v1`) and TCP (`/ip4/…/tcp/…`). One that
    /// cannot be opened ends the start with an error, except that an address family which the
    /// system lacks is passed over.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach this node, where they differ from those it listens on (a
    /// forwarded port).
    pub external: Vec<Multiaddr>,
    /// Peers to call at the start, with or without `/p2p/…`. One that fails is tried again, for
    /// ever, with back-off.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to look for peers on the local network with multicast DNS.
    pub mdns: bool,
    /// The most connections at once; a quarter of them is kept for those that this node opens
    /// itself.
    pub max_connections: u32,
    /// New connections are refused while the process holds more memory than this; `None`: 95 % of
    /// the machine's.
    pub max_memory_bytes: Option<usize>,
    /// The largest gossip message in bytes, sent or received. All peers of a run must agree on it:
    /// a larger message is dropped by those with a smaller limit.
    pub max_gossip_bytes: usize,
    /// The most bytes of blobs sent each second, over all peers; `None`: as fast as the line
    /// allows. What is said (gossip, control requests) is not capped: it is little, and the run
    /// needs it in time.
    pub max_upload: Option<NonZeroU64>,
    /// The most bytes of blobs received each second, over all peers. Exact in the mean; a
    /// connection's window (8 MiB) may fill faster.
    pub max_download: Option<NonZeroU64>,
    /// A connection that carries nothing for so long, and that gossip does not need, is closed.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Self::listen_on_port(0),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            max_connections: 128,
            max_memory_bytes: None,
            max_gossip_bytes: DEFAULT_MAX_GOSSIP_BYTES,
            max_upload: None,
            max_download: None,
            idle_timeout: Duration::from_secs(600),
        }
    }
}

impl Settings {
    /// QUIC and TCP, IPv4 and IPv6, on all interfaces and the same port number (one rule in a
    /// firewall or router). Port 0 lets the system choose, each transport its own.
    #[must_use]
    pub fn listen_on_port(port: u16) -> Vec<Multiaddr> {
        let v4 = Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::UNSPECIFIED));
        let v6 = Multiaddr::empty().with(Protocol::Ip6(Ipv6Addr::UNSPECIFIED));
        [v4, v6]
            .into_iter()
            .flat_map(|ip| Self::both_transports(&ip, port))
            .collect()
    }

    /// QUIC and TCP on this machine only, for tests and a network within one machine.
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
