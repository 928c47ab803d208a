//! Every limit and pause of the blob exchange, in one table.

use std::time::Duration;

use crate::limits::Rate;

/// Pieces that a node sends one peer at once.
pub(crate) const GIFTS_PER_PEER: usize = 2;
/// A longer piece is offered before its bytes are sent: peers refuse one in ten, because another
/// peer has just offered the same.
pub(crate) const SHORT_PIECE: usize = 64 << 10;
/// Pieces that a node takes from one peer at once. Further ones are refused.
pub(crate) const ARRIVALS_PER_PEER: usize = 4;
/// Pieces that a node takes from all members at once. With those from strangers, this bounds the
/// memory for pieces in flight.
pub(crate) const ARRIVALS_FROM_MEMBERS: usize = 64;
/// Pieces that a node takes from all other peers at once.
pub(crate) const ARRIVALS_FROM_STRANGERS: usize = 16;
/// Blobs that one peer may be interested in at once.
pub(crate) const INTERESTS_PER_PEER: usize = 64;
/// One gift in this many goes to the member that waited longest, or the stranger, whatever the
/// priority that it claims.
pub(crate) const FAIR_ONE_IN: u64 = 5;
/// While members get pieces, others get one in this part of the time, so that strangers, who may be
/// one attacker, take at most a tenth of what members could use.
pub(crate) const TURN_ONE_IN: u32 = 10;
/// The longest that a turn counts. A peer that reads slowly takes little for longer.
pub(crate) const LONGEST_TURN: Duration = Duration::from_secs(1);
/// Blobs that are looked up at once. Peers hear "not yet" for further ones.
pub(crate) const LOOK_UPS: usize = 64;
/// Pieces of a peer that are refused, at once and per second in the long run, before it counts as
/// a flood. Honest peers send a piece now and then that another peer has just begun to send.
pub(crate) const REFUSALS: Rate = Rate {
    at_once: 512.0,
    per_second: 32.0,
};
/// Frames that are read from a peer, at once and per second in the long run. The rest waits.
pub(crate) const FRAMES: Rate = Rate {
    at_once: 4096.0,
    per_second: 1024.0,
};

/// The least number of bytes in flight at which a node offers no further piece: three pieces keep
/// an uplink busy while one is offered or confirmed, and each arrives soon, so that its receiver
/// can pass it on.
pub(crate) const LEAST_WINDOW: usize = 3 << 20;
/// The largest such number, for fast or long paths.
pub(crate) const LARGEST_WINDOW: usize = 32 << 20;
/// The part of the window that may be offered at once, and not yet welcome.
pub(crate) const OFFERED_ONE_IN: usize = 3;
/// Pieces that arrive faster than this widen the window; pieces that take longer than
/// [`WINDOW_SLOW`] narrow it.
pub(crate) const WINDOW_FAST: Duration = Duration::from_millis(250);
pub(crate) const WINDOW_SLOW: Duration = Duration::from_secs(1);
/// Shorter pieces tell nothing about the path.
pub(crate) const WINDOW_MEASURES: usize = 256 << 10;
/// A gift that takes this long, and four times as long as usual, no longer counts for the window: a
/// peer that reads slowly holds up nobody else.
pub(crate) const GIFT_SLOW: Duration = Duration::from_secs(5);
/// Time for which a peer whose last gift was slow is remembered, and limit on such peers.
pub(crate) const SLOW_FOR: Duration = Duration::from_secs(600);
pub(crate) const SLOW_PEERS: usize = 1024;

/// A piece is late after this time, and four times the usual one. Another peer may send it then.
pub(crate) const LATE: Duration = Duration::from_secs(4);
/// The same once every missing piece is on its way, and twice the usual time.
pub(crate) const LATE_AT_THE_END: Duration = Duration::from_secs(1);
/// First and longest pause for a peer whose pieces were late or failed. It doubles each time.
pub(crate) const FIRST_REST: Duration = Duration::from_secs(1);
pub(crate) const LONGEST_REST: Duration = Duration::from_secs(60);
/// First and longest pause before a peer that does not have a blob is asked again.
pub(crate) const FIRST_ASK_AGAIN: Duration = Duration::from_millis(250);
pub(crate) const LONGEST_ASK_AGAIN: Duration = Duration::from_secs(8);
/// When a peer that may not send a blob yet wants to be asked again.
pub(crate) const NOT_YET: Duration = Duration::from_millis(100);
/// The longest such pause that a node accepts; the shortest is [`NOT_YET`].
pub(crate) const LONGEST_NOT_YET: Duration = Duration::from_secs(5);
/// Peers that are connected through a relay only are asked after this time without a piece, or half
/// of the fetch's patience if that is shorter: the relay carries little, and usually has the blob.
pub(crate) const RELAYED_AFTER: Duration = Duration::from_secs(30);
/// A fetch fails after this time without a piece, though peers claim to have the blob.
pub(crate) const STARVED: Duration = Duration::from_secs(120);
