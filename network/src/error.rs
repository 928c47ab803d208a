//! What can go wrong on the network, and what mends it.

use std::io;

use libp2p::Multiaddr;
use weal_proto::BlobHash;

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is held by another program, often by another node.
    #[error(
        "cannot listen on {address}: the port is in use; stop the program that holds it, or choose another port in the setting `listen`"
    )]
    PortInUse {
        /// The address as it stands in the settings.
        address: Multiaddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}: {why}; correct it in the setting `listen`")]
    Listen {
        /// The address as it stands in the settings.
        address: Multiaddr,
        /// What the system says.
        why: String,
    },
    /// No address of the settings can be listened on.
    #[error("none of the addresses in the setting `listen` can be used on this system: {why}")]
    NothingToListenOn {
        /// What the system says of the last one.
        why: String,
    },
    /// The seed is not an Ed25519 secret key.
    #[error(
        "the node's key is not a valid Ed25519 seed: restore it from a copy, or let the node make a new one"
    )]
    Key,
    /// The swarm could not be put together.
    #[error("cannot set up the network ({part}): {why}")]
    Setup {
        /// Which part of it.
        part: &'static str,
        /// What that part says.
        why: String,
    },
    /// The system refused something.
    #[error("cannot set up the network: {0}")]
    Io(#[from] io::Error),
}

/// Why a request to one peer has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The 32 bytes are no Ed25519 public key.
    #[error("not a peer's key")]
    NotAPeer,
    /// The request is longer than the protocol allows; nothing was sent.
    #[error("the request has {bytes} bytes, the protocol allows {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// There is no connection and none can be made.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The connection ended before the answer was complete.
    #[error("the connection closed before the answer: {0}")]
    Closed(String),
    /// The peer does not speak this run's protocol.
    #[error("the peer does not take part in this run")]
    Unsupported,
    /// The peer has too much to do: ask again later.
    #[error("the peer is busy")]
    Busy,
    /// The peer does not have it, or does not answer such requests.
    #[error("the peer does not have it")]
    NotHere,
    /// The answer breaks the protocol (too long, or of an unknown kind).
    #[error("the peer's answer breaks the protocol: {0}")]
    Malformed(String),
    /// This node's network has been shut down.
    #[error("the network is shut down")]
    ShutDown,
}

/// Why a blob could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The list of holders is empty, or holds no valid key.
    #[error("nobody is known to hold the blob {hash}")]
    NoHolders {
        /// The blob.
        hash: BlobHash,
    },
    /// The blob is proven to be larger than allowed; it was not fetched.
    #[error("the blob {hash} has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// The blob.
        hash: BlobHash,
        /// Its size, proven by its hash.
        bytes: u64,
        /// The most the caller takes.
        limit: u64,
    },
    /// Every holder was asked, repeatedly, and none gave the outline.
    #[error("the blob {hash} was not found: {}", describe(.causes))]
    NotFound {
        /// The blob.
        hash: BlobHash,
        /// What became of each holder.
        causes: Vec<Cause>,
    },
    /// Every holder was asked, repeatedly, and together they did not give all chunks.
    #[error("the blob {hash} could not be completed, {missing} chunks are missing: {}", describe(.causes))]
    Incomplete {
        /// The blob.
        hash: BlobHash,
        /// How many chunks are missing.
        missing: usize,
        /// What became of each holder.
        causes: Vec<Cause>,
    },
    /// There is no memory for it.
    #[error("no memory for the blob {hash} of {bytes} bytes")]
    NoMemory {
        /// The blob.
        hash: BlobHash,
        /// Its size.
        bytes: u64,
    },
    /// This node's network has been shut down.
    #[error("the network is shut down")]
    ShutDown,
}

/// Why one holder did not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The holder.
    pub peer: [u8; 32],
    /// The last thing that went wrong with it.
    pub why: String,
}

fn describe(causes: &[Cause]) -> String {
    let each: Vec<_> = causes
        .iter()
        .map(|c| format!("{}: {}", hex::encode(&c.peer[..4]), c.why))
        .collect();
    if each.is_empty() {
        "nobody was asked".into()
    } else {
        each.join("; ")
    }
}
