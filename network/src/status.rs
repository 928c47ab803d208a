//! The state of the network as this node sees it, for the dashboard, metrics and terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libp2p::Multiaddr;

use crate::identity::PeerKey;
use crate::reachability::Reachability;
use crate::traffic::{Bytes, BytesByKind};

/// A snapshot of the network, updated twice a second and whenever a peer connects or disconnects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Addresses at which peers can reach this node, each ending in `/p2p/<its id>`. The external
    /// addresses from the settings come first.
    pub listen: Vec<Multiaddr>,
    /// Whether peers can open a connection to this node.
    pub reachability: Reachability,
    /// Whether the router gave this node a port.
    pub port_mapping: PortMapping,
    /// Attempts to replace a relayed connection by a direct one, since the start.
    pub hole_punches: HolePunches,
    /// Peers that keep a place at this node, which relays connections to them.
    pub relayed_peers: usize,
    /// Connected peers of this run, sorted by key.
    pub peers: Vec<PeerStatus>,
    /// Bytes since the start.
    pub traffic: BytesByKind,
    /// About the bytes of all kinds with what lies below the protocols, since the start.
    pub on_the_wire: Bytes,
    /// Whether this node may still send blobs
    /// ([`Settings::traffic_left`](crate::Settings::traffic_left)).
    pub sends_blobs: bool,
    /// Whether it may still receive them.
    pub receives_blobs: bool,
    /// Messages and connections dropped since the start, by cause.
    pub drops: Drops,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Public key of the peer.
    pub peer: PeerKey,
    /// Address of the oldest direct connection, or of the oldest one if all are relayed.
    pub address: Multiaddr,
    /// Which side dialled that connection.
    pub direction: Direction,
    /// Whether every connection to the peer goes through a relay.
    pub relayed: bool,
    /// The last round-trip time, or `None` before the first ping.
    pub ping: Option<Duration>,
    /// Bytes exchanged since the oldest connection was opened.
    pub traffic: Bytes,
    /// The program and version that the peer announced.
    pub agent: String,
}

/// What the router said to a request for a port (UPnP).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PortMapping {
    /// It was not asked.
    #[default]
    Off,
    /// No answer yet.
    Searching,
    /// Peers reach this node at a port of the router.
    Mapped,
    /// No router answered.
    NoRouter,
    /// The router has no public address itself: it is behind another one.
    BehindAnotherRouter,
}

/// How often two peers tried to replace a relayed connection by a direct one (DCUtR).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HolePunches {
    /// With success.
    pub succeeded: u64,
    /// In vain.
    pub failed: u64,
}

/// Which side opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer dialled this node.
    Inbound,
    /// This node dialled the peer.
    Outbound,
}

macro_rules! drops {
    ($($(#[doc = $text:literal])+ $name:ident),+ $(,)?) => {
        /// What was dropped or refused since the start, counted by cause.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Drops {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl Drops {
            /// The count of every cause, by name, for metrics.
            #[must_use]
            pub fn by_cause(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }

        /// The counters behind [`Drops`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn read(&self) -> Drops {
                Drops { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

drops! {
    /// Gossip of this node, dropped because the driver's queue was full.
    gossip_queue_full,
    /// Gossip of this node, dropped for newer messages while no peer was connected.
    gossip_without_peers,
    /// Gossip of this node above [`Settings::max_gossip_bytes`](crate::Settings::max_gossip_bytes).
    gossip_too_large,
    /// Gossip of this node that repeats a message of the last [`REMEMBERED`](crate::REMEMBERED).
    gossip_repeated,
    /// Gossip of this node, dropped because the queues of all peers were full.
    gossip_peers_slow,
    /// Gossip of peers, dropped because the node did not read its events in time, or because the
    /// peer, or all strangers together, had too much of it waiting.
    gossip_unread,
    /// Times that a peer sent more useless gossip than honest peers do.
    gossip_noise,
    /// Verdicts on gossip that had already expired. The message was not forwarded.
    verdicts_late,
    /// Gossip not sent to peers that read too slowly.
    gossip_to_slow_peers,
    /// Events other than gossip, dropped because the node did not read them in time.
    events_unread,
    /// Streams that a peer opened over TCP, or through a relay, beyond its places.
    streams_full,
    /// Requests of peers answered "busy".
    requests_busy,
    /// Requests of peers that were malformed or too long.
    requests_malformed,
    /// Streams for blobs that peers opened while too many others waited.
    blob_streams_refused,
    /// Answers of this node that were too long to send: a bug in its service.
    answers_too_long,
    /// Answers of peers that broke the protocol or were too long.
    answers_malformed,
    /// Outlines of peers that do not belong to the blob asked for.
    outlines_bad,
    /// Chunks of peers that do not match the outline.
    chunks_bad,
    /// Reservations and circuits of peers refused, because this node relays enough already.
    relaying_refused,
    /// Peers that turned out to belong to another run, or to none.
    strangers,
    /// Peers banned for their offences.
    banned,
    /// Address blocks banned because several peers from them were.
    address_blocks_banned,
    /// Times that a peer sent more bytes unasked than honest peers do.
    floods,
    /// Incoming connections that failed or were refused by a limit.
    connections_refused,
    /// Incoming connections refused because their address block tried too often, had enough
    /// connections, or was banned.
    address_block_full,
    /// Incoming connections refused because strangers had all the places that are not kept for
    /// members.
    strangers_full,
    /// What peers said about themselves too often.
    statements_too_many,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }
}
