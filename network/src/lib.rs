//! The network of one run: peers, gossip, requests and blobs.
//!
//! [`Network::start`] gives the node a handle and a stream of [`Event`]s. Behind them one task, the
//! driver, owns the libp2p swarm. It carries four things:
//!
//! * **Gossip**: small signed messages to every peer ([`Network::gossip`]). A message that arrives
//!   becomes an [`Event::Gossip`]. It is forwarded only after the node accepts it
//!   ([`Network::verdict`]).
//! * **Requests** to one peer ([`Network::request`]), answered by that peer's [`Service`].
//! * **Blobs**, fetched from several peers at once and verified chunk by chunk
//!   ([`Network::fetch_blob`]).
//! * **Connections** to peers, which the driver finds through bootstrap addresses, Kademlia and
//!   multicast DNS, and redials when they are lost.
//!
//! Every byte from outside may be an attack. A stranger might
//!
//! * **open many connections**: there are limits on all connections, on pending ones, per peer, and
//!   on the process's memory;
//! * **announce a huge message**: the length is checked before anything is allocated, and buffers
//!   grow only as bytes arrive;
//! * **send many requests**: beyond a limit per peer and one for all peers, they are answered
//!   "busy";
//! * **use up the upload bandwidth**: blobs stay within the rate limits in the settings, and gossip
//!   and requests are small;
//! * **stop in the middle of a message**: a stream on which no byte moves for 15 s is reset;
//! * **send wrong chunks**: each chunk is verified on its own; the sender is excluded from the
//!   fetch, loses reputation, and is banned in the end;
//! * **flood with bad gossip**: rejected messages are not forwarded and count against every sender;
//!   after three, a peer is ignored;
//! * **belong to another run**: protocol names contain the run id, and identify's answer is
//!   checked; strangers are disconnected;
//! * **store records in Kademlia**: records are refused, and Kademlia only finds peers.
//!
//! Every queue is bounded, and drops are counted by cause ([`Drops`]). Bytes are counted on every
//! stream ([`BytesByKind`]).

#![forbid(unsafe_code)]

mod behaviour;
mod blob_protocol;
mod dialler;
mod driver;
mod error;
mod event;
mod fetch;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gossip;
mod handle;
mod identity;
mod peers;
mod protocols;
mod rate_limit;
mod reputation;
mod requester;
mod serve;
mod service;
mod settings;
mod slots;
mod status;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;

pub use error::{Cause, Error, FetchError, RequestError};
pub use event::Event;
pub use gossip::{GossipId, GossipVerdict, REMEMBERED};
pub use handle::Network;
pub use identity::{PeerKey, address_of, peer_in_address};
pub use libp2p::Multiaddr;
pub use libp2p::bytes::Bytes;
pub use protocols::{MAX_SYNC_ANSWER, MAX_SYNC_REQUEST};
pub use reputation::Offence;
pub use service::{Service, Silent};
pub use settings::{DEFAULT_MAX_GOSSIP_BYTES, Settings};
pub use status::{Direction, Drops, PeerStatus, Status};
pub use traffic::{Bytes as ByteCount, BytesByKind};
