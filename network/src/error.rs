//! Errors of the network.

use libp2p::Multiaddr;
use weal_proto::BlobHash;

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program, often another node, uses the port.
    #[error("cannot listen on {address}: the port is in use")]
    PortInUse {
        /// The address as written in the settings.
        address: Multiaddr,
    },
    /// The node cannot listen on the address for another reason.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address as written in the settings.
        address: Multiaddr,
        /// The system's error.
        why: String,
    },
    /// The system supports none of the addresses in the settings.
    #[error("cannot listen on any address: {why}")]
    NothingToListenOn {
        /// The system's error for the last address.
        why: String,
    },
    /// The seed is not an Ed25519 secret key.
    #[error("the node's key is not a valid Ed25519 seed")]
    Key,
    /// A part of the swarm could not be built.
    #[error("cannot set up the network ({part}): {why}")]
    Setup {
        /// The part, for example `gossip`.
        part: &'static str,
        /// The error of that part.
        why: String,
    },
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::PortInUse { .. } => Some(
                "stop the program that uses it, or choose another port in the setting `listen`",
            ),
            Self::Listen { .. } | Self::NothingToListenOn { .. } => {
                Some("correct the addresses in the setting `listen`")
            }
            Self::Key => Some("restore the key from a backup, or delete it to create a new one"),
            Self::Setup { .. } => None,
        }
    }
}

/// Why a request to a peer has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The 32 bytes are not an Ed25519 public key.
    #[error("not a valid peer key")]
    NotAPeer,
    /// The request is longer than the protocol allows, and was not sent.
    #[error("the request is {bytes} bytes long; the limit is {limit}")]
    TooLong {
        /// Length of the request.
        bytes: usize,
        /// Length that the protocol allows.
        limit: usize,
    },
    /// The peer is not connected and cannot be dialled.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// The peer did not answer before the timeout.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The connection closed before the answer was complete.
    #[error("the connection closed before the answer: {0}")]
    Closed(String),
    /// The peer does not speak this run's protocol.
    #[error("the peer does not take part in this run")]
    Unsupported,
    /// The peer has too many requests open. Retry later.
    #[error("the peer is busy")]
    Busy,
    /// The peer does not have what was asked for, or does not answer such requests.
    #[error("the peer does not have it")]
    NotHere,
    /// The answer breaks the protocol: it is too long, or of an unknown kind.
    #[error("the peer's answer breaks the protocol: {0}")]
    Malformed(String),
    /// This node's network has shut down.
    #[error("the network has shut down")]
    ShutDown,
}

/// Why a blob could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No peer is connected.
    #[error("no peer is connected to fetch blob {hash} from")]
    NoHolders {
        /// The blob asked for.
        hash: BlobHash,
    },
    /// The blob is larger than the caller allows, and was not fetched.
    #[error("blob {hash} is {bytes} bytes long; the limit is {limit}")]
    TooLarge {
        /// The blob asked for.
        hash: BlobHash,
        /// Length of the blob, proven by its hash.
        bytes: u64,
        /// Length that the caller allows.
        limit: u64,
    },
    /// No peer sent the outline within the caller's patience.
    #[error("blob {hash} was not found: {}", describe(.causes))]
    NotFound {
        /// The blob asked for.
        hash: BlobHash,
        /// Why each holder failed.
        causes: Vec<Cause>,
    },
    /// Some chunks are still missing, and none arrived within the caller's patience.
    #[error("blob {hash} is incomplete, {missing} chunks are missing: {}", describe(.causes))]
    Incomplete {
        /// The blob asked for.
        hash: BlobHash,
        /// Number of missing chunks.
        missing: usize,
        /// Why each holder failed.
        causes: Vec<Cause>,
    },
    /// This node has received as many bytes as it may.
    #[error("blob {hash} was not fetched: this node has received as many bytes as it may")]
    LimitReached {
        /// The blob asked for.
        hash: BlobHash,
    },
    /// This machine cannot store the blob.
    #[error("cannot store blob {hash}: {why}")]
    Storage {
        /// The blob asked for.
        hash: BlobHash,
        /// The system's error.
        why: String,
    },
    /// This node's network has shut down.
    #[error("the network has shut down")]
    ShutDown,
}

/// Why one holder did not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Public key of the holder.
    pub peer: [u8; 32],
    /// The last error of the holder.
    pub why: String,
}

fn describe(causes: &[Cause]) -> String {
    let each: Vec<_> = causes
        .iter()
        .map(|c| format!("{}: {}", hex::encode(&c.peer[..4]), c.why))
        .collect();
    if each.is_empty() {
        "no holder was asked".into()
    } else {
        each.join("; ")
    }
}
