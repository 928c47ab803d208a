//! What the network tells the node.

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::bytes::Bytes;

use crate::gossip::GossipId;
use crate::identity::PeerKey;
use crate::reputation::Offence;

/// What happened on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A gossip message arrived. It is forwarded only after
    /// [`Network::verdict`](crate::Network::verdict), which must come within about ten seconds.
    Gossip {
        /// Identifies the message in the verdict.
        id: GossipId,
        /// The peer that delivered it. The author is named, and proven, inside the message.
        from: PeerKey,
        /// The message as sent.
        bytes: Bytes,
    },
    /// A peer of this run connected.
    Connected {
        /// The peer's public key.
        peer: PeerKey,
        /// The best known address to dial the peer, ending in `/p2p/…`. Save it, and dial it first
        /// after a restart.
        address: Multiaddr,
    },
    /// The last connection to a peer of this run closed.
    Disconnected {
        /// The peer's public key.
        peer: PeerKey,
    },
    /// A peer that does not belong to this run connected, and was disconnected.
    Stranger {
        /// The address of its connection.
        address: Multiaddr,
        /// The protocol it announced, or nothing if it did not announce any in time.
        speaks: String,
    },
    /// This node listens on a new address.
    Listening {
        /// The address, ending in `/p2p/…`.
        address: Multiaddr,
    },
    /// This node no longer listens on an address, for example because an interface went down.
    NotListening {
        /// The address, ending in `/p2p/…`.
        address: Multiaddr,
    },
    /// Dialling a bootstrap address failed. The driver will retry.
    BootstrapFailed {
        /// The address as written in the settings.
        address: Multiaddr,
        /// Why dialling failed.
        why: String,
        /// Time until the next attempt.
        retry_in: Duration,
    },
    /// A peer committed one offence too many, and is banned for ten minutes.
    Banned {
        /// The peer's public key.
        peer: PeerKey,
        /// The last offence.
        offence: Offence,
    },
}
