//! What peers may use, in one table: connections, requests and bytes, by peer, by address block and
//! in all. Limits of the blob exchange are in [`swarm::limits`](crate::swarm), what offences cost
//! is in [`reputation`](crate::reputation).
//!
//! Keys are free, but address blocks are not. So most limits hold for a single peer, and again for
//! all strangers of an address block, and strangers together never take the places of members.

/// How much of something may be used at once, and per second in the long run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub at_once: f64,
    pub per_second: f64,
}

/// The shares in something that costs this node work or bandwidth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// Of one peer.
    pub peer: Rate,
    /// Of all strangers of an address block.
    pub block: Rate,
    /// Of all strangers.
    pub strangers: Rate,
}

const fn rate(at_once: f64, per_second: f64) -> Rate {
    Rate {
        at_once,
        per_second,
    }
}

const MIB: f64 = 1048576.0;

/// Connections that are being established, in each direction.
pub(crate) const PENDING: u32 = 64;
/// Of the incoming ones, those of an address block.
pub(crate) const PENDING_PER_BLOCK: usize = 16;
/// Connection attempts of an address block. Each costs a handshake.
pub(crate) const ATTEMPTS: Rate = rate(32.0, 1.0);
/// Connections per peer. Both sides may dial each other at once, over two transports.
pub(crate) const CONNECTIONS_PER_PEER: u32 = 4;
/// Connections that strangers of an address block opened.
pub(crate) const STRANGERS_PER_BLOCK: usize = 16;
/// Connections that strangers opened through relays.
pub(crate) const STRANGERS_THROUGH_RELAYS: usize = 16;

/// Streams that a peer may have in negotiation on one connection. Further ones are reset.
pub(crate) const NEGOTIATING_STREAMS: usize = 32;
/// Streams on one connection over QUIC, more than the protocols use together.
pub(crate) const STREAMS: u32 = 128;
/// Places for streams on a connection with Yamux, where each stream may hold 256 KiB unread.
pub(crate) const STREAMS_OF_CONNECTION: usize = 16;
/// Further places that all members share, or all strangers. A peer behind a relay needs one for
/// each circuit.
pub(crate) const SPARE_STREAMS: usize = 128;

/// Control requests. Each of these few bytes may ask for megabytes.
pub(crate) const REQUESTS: Shares = Shares {
    peer: rate(64.0, 8.0),
    block: rate(128.0, 16.0),
    strangers: rate(256.0, 64.0),
};
/// Bytes of answers to control requests. A newcomer fetches the history of a run in them.
pub(crate) const ANSWER_BYTES: Shares = Shares {
    peer: rate(32.0 * MIB, 2.0 * MIB),
    block: rate(64.0 * MIB, 2.0 * MIB),
    strangers: rate(64.0 * MIB, 4.0 * MIB),
};
/// The same while members use the uplink: a tenth of that of a home with 20 Mbit/s, or of the limit
/// on uploads if that is less.
pub(crate) const ANSWER_BYTES_BESIDE_MEMBERS: Shares = Shares {
    peer: rate(32.0 * MIB, 2.0 * MIB),
    block: rate(MIB, MIB / 8.0),
    strangers: rate(MIB, MIB / 4.0),
};
/// What peers say about themselves (identify), and about their sessions.
pub(crate) const STATEMENTS: Shares = Shares {
    peer: rate(64.0, 1.0),
    block: rate(256.0, 4.0),
    strangers: rate(512.0, 32.0),
};
/// Bytes that a peer sends unasked: gossip, requests, and what no protocol of the run reads. The
/// gossip of the largest run stays below.
pub(crate) const UNASKED_BYTES: Rate = rate(64.0 * MIB, 2.0 * MIB);

/// Peers of an address block in Kademlia's table that are not members.
pub(crate) const ROUTES_PER_BLOCK: usize = 8;

/// Peers, or address blocks, whose use is remembered before those that have been quiet are
/// forgotten.
pub(crate) const REMEMBERED: usize = 4096;
