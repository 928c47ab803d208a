//! What the network looks like from here, for the page, the metrics and the terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libp2p::Multiaddr;

use super::PeerKey;
use super::traffic::{Bytes, BytesByKind};

/// The network as it was a moment ago (renewed every second and at every coming and going).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The addresses under which this node can be reached, each ending in `/p2p/<its name>`; those
    /// that others are told of in the settings first.
    pub listen: Vec<Multiaddr>,
    /// The peers of this run that are connected, by key.
    pub peers: Vec<PeerStatus>,
    /// All bytes since the start.
    pub traffic: BytesByKind,
    /// What was dropped or refused since the start, by cause.
    pub drops: Drops,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its key.
    pub peer: PeerKey,
    /// The address of its oldest connection.
    pub address: Multiaddr,
    /// Who called.
    pub direction: Direction,
    /// The last round trip; `None` before the first.
    pub ping: Option<Duration>,
    /// All bytes with it since its oldest connection was made.
    pub traffic: Bytes,
    /// The program and version that it says it is.
    pub agent: String,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer called this node.
    Inbound,
    /// This node called the peer.
    Outbound,
}

macro_rules! drops {
    ($($(#[doc = $text:literal])+ $name:ident),+ $(,)?) => {
        /// What was dropped or refused since the start, by cause.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Drops {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl Drops {
            /// Every cause by its name, for metrics.
            #[must_use]
            pub fn by_cause(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }

        /// The counters behind [`Drops`].
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub $name: Counter,)+
        }

        impl Counters {
            pub(super) fn read(&self) -> Drops {
                Drops { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

drops! {
    /// Own gossip that the network's task had no room to take.
    gossip_queue_full,
    /// Own gossip that waited for a first peer and gave way to newer.
    gossip_without_peers,
    /// Own gossip above [`super::Settings::max_gossip_bytes`].
    gossip_too_large,
    /// Own gossip that was the same, byte for byte, as a message of the last [`super::REMEMBERED`].
    gossip_repeated,
    /// Own gossip that every peer's queue was too full for.
    gossip_peers_slow,
    /// Others' gossip that the node did not take out of its event queue in time; it was not
    /// forwarded.
    gossip_unread,
    /// Verdicts that came after the message was forgotten; it was not forwarded.
    verdicts_late,
    /// Messages that peers could not be sent because they read too slowly.
    gossip_to_slow_peers,
    /// Events other than gossip that the node did not take in time.
    events_unread,
    /// Requests of others that were answered "busy".
    requests_busy,
    /// Requests of others that could not be understood, or were too long.
    requests_malformed,
    /// Answers of this node that were too long to send (a fault of this node's service).
    answers_too_long,
    /// Answers of others that broke the protocol or were too long.
    answers_malformed,
    /// Outlines that did not prove the blob asked for.
    outlines_bad,
    /// Chunks whose bytes were not those asked for.
    chunks_bad,
    /// Peers that turned out to be of another run, or of none.
    strangers,
    /// Peers shut out for their offences.
    shut_out,
    /// Incoming connections that failed or were refused by a limit.
    connections_refused,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }
}
