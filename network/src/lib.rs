//! The network of one run: peers, gossip, requests and blobs.
//!
//! [`Network::start`] gives the node a handle and a stream of [`Event`]s. Behind them one task, the
//! driver, owns the libp2p swarm. It carries four things:
//!
//! * **Gossip**: small signed messages to every peer ([`Network::gossip`]). A message that arrives
//!   becomes an [`Event::Gossip`]. It is forwarded only after the node accepts it
//!   ([`Network::verdict`]).
//! * **Requests** to one peer ([`Network::request`]), answered by that peer's [`Service`].
//! * **Blobs**, which spread like a swarm: fetched from all peers that have some of them, verified
//!   chunk by chunk, and sent on from the first chunk ([`Network::fetch`]).
//! * **Connections** to peers, which the driver finds through bootstrap addresses, Kademlia and
//!   multicast DNS, and redials when they are lost. Peers tell a node whether they can reach it
//!   (AutoNAT, [`Reachability`]). A node that they cannot reach asks its router for a port (UPnP),
//!   and keeps a place at a few public peers, which relay connections to it until a direct one
//!   comes about (DCUtR).
//!
//! Every byte from outside may be an attack. A stranger might
//!
//! * **open many connections**: there are limits on all connections and on pending ones, per peer,
//!   per address block and for all strangers, and on the process's memory; members find places;
//! * **open many streams, or send what nobody reads**: the streams of a connection are limited, and
//!   the bytes that wait on it;
//! * **announce a huge message**: the length is checked before anything is allocated, and buffers
//!   grow only as bytes arrive;
//! * **send many requests**: beyond shares in requests and bytes per peer, per address block and
//!   for all strangers, and limits for all members ([`Network::set_members`]), they are answered
//!   "busy";
//! * **use up the upload bandwidth**: answers stay within the limits in the settings, by second and
//!   by month ([`TrafficLeft`]); while members get pieces, strangers get a tenth of them; gossip is
//!   small;
//! * **send far more than anybody asked for**: that is an offence;
//! * **come back under a new key**: bans count against the address block;
//! * **stop in the middle of a message, or drip it**: a stream on which no byte moves for 15 s, or
//!   whose message moves at less than 4 KiB/s, is reset; long before that, another peer may send a
//!   piece that is late;
//! * **send wrong chunks**: each chunk is verified on its own; the sender is excluded from the
//!   fetch, loses reputation, and is banned in the end;
//! * **flood with bad gossip**: rejected messages are not forwarded and count against every sender;
//!   after three, a peer is ignored;
//! * **flood with gossip that looks valid**: what one peer sent, and what all strangers sent, fills
//!   only its share of the space for unread messages; a peer that keeps sending useless messages
//!   is banned;
//! * **belong to another run**: protocol names contain the run id, and identify's answer is
//!   checked; strangers are disconnected;
//! * **use a node as a relay without end**: the reservations, the circuits, and the bytes and the
//!   time of each circuit are limited ([`RelayLimits`]);
//! * **send this node to an address with AutoNAT**: only into the networks from which the peer is
//!   connected itself;
//! * **pretend that a node's key is used elsewhere**: only what the key has signed counts;
//! * **store records in Kademlia, or fill its table**: records are refused, Kademlia only finds
//!   peers, and an address block has a share of the table;
//! * **announce ever new addresses or topics**: a peer may speak of itself now and then, and only
//!   so much of it is kept.
//!
//! Every queue is bounded, and drops are counted by cause ([`Drops`]). Bytes are counted on every
//! stream ([`BytesByKind`]).

#![forbid(unsafe_code)]

mod addresses;
mod allowance;
mod backlog;
mod behaviour;
mod command;
mod dialler;
mod driver;
mod error;
mod event;
mod floods;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod gossip;
mod handle;
mod host_names;
mod identity;
mod limits;
mod members;
mod noise;
mod origin;
mod patience;
mod peers;
mod probes;
mod protocols;
mod quota;
mod rate_limit;
mod reachability;
mod relays;
mod renewal;
mod reputation;
mod requester;
mod routes;
mod serve;
mod service;
mod sessions;
mod settings;
mod status;
mod stream_places;
mod streams;
mod swarm;
#[cfg(test)]
mod tests;
mod token_bucket;
mod traffic;
mod transport;
mod uplink;

pub use allowance::TrafficLeft;
pub use backlog::Events;
pub use error::{Cause, Error, FetchError, RequestError};
pub use event::Event;
pub use gossip::{GossipId, GossipVerdict, REMEMBERED};
pub use handle::Network;
pub use host_names::numeric as numeric_address;
pub use identity::{PeerKey, address_of, peer_in_address};
pub use libp2p::Multiaddr;
pub use libp2p::bytes::Bytes;
pub use protocols::{MAX_SYNC_ANSWER, MAX_SYNC_REQUEST};
pub use reachability::Reachability;
pub use reputation::Offence;
pub use service::{Found, Service, Silent};
pub use sessions::{KeyUse, OtherUse, Session, SessionId};
pub use settings::{DEFAULT_MAX_GOSSIP_BYTES, RelayLimits, Settings};
pub use status::{Direction, Drops, HolePunches, PeerStatus, PortMapping, Status};
pub use swarm::{FilePlace, Priority, Want};
pub use traffic::{Bytes as ByteCount, BytesByKind};
