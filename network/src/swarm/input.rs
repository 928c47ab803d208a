//! What reaches the exchange: wishes of the node, streams of peers, and the ends of transfers.

use std::sync::Arc;

use tokio::sync::oneshot;
use weal_proto::{BlobHash, Outline};

use super::bits::Bits;
use super::file_place::FilePlace;
use super::frame::Frame;
use super::parts::Parts;
use super::picker::{Arrived, GiftId, Order};
use crate::error::FetchError;
use crate::identity::PeerKey;
use crate::service::Found;
use crate::streams::Inbound;

/// An event for the exchange.
pub(crate) enum Input {
    /// The node wants a blob.
    Want {
        order: Order,
        /// Peers to connect to if they are not connected.
        holders: Vec<PeerKey>,
        /// Where the blob goes, if the caller has a place for it.
        place: Option<FilePlace>,
        reply: Reply,
    },
    /// A peer opened a stream.
    Inbound(Inbound),
    /// A peer sent a frame.
    Frame { from: PeerKey, frame: Frame },
    /// A peer broke the protocol on the stream for frames.
    Malformed(PeerKey),
    /// Frames can no longer be sent to a peer over this session.
    Lost { peer: PeerKey, session: u64 },
    /// A peer sends no more frames on a stream that it had opened.
    Closed { from: PeerKey, number: u64 },
    /// There is room for a blob, and which pieces of it are here; or the disk failed.
    Prepared {
        blob: BlobHash,
        parts: Result<(Arc<Parts>, Bits), String>,
    },
    /// What the service has of a blob.
    LookedUp {
        blob: BlobHash,
        found: Found<Arc<Outline>>,
    },
    /// A peer begins to send a piece.
    Begun { piece: Arriving, reply: Begun },
    /// A piece from a peer arrived, or did not.
    Ended { piece: Arriving, how: Arrived },
    /// A piece could not be stored.
    NotStored { blob: BlobHash, why: String },
    /// A peer wants a piece that it was offered.
    Welcome { id: GiftId },
    /// A piece to a peer arrived, or did not.
    Given { id: GiftId, arrived: bool },
    /// The service no longer has a blob.
    Withdrawn(BlobHash),
}

/// Where a wanted blob goes.
pub(crate) type Reply = oneshot::Sender<Result<Arc<Parts>, FetchError>>;

/// Where the answer to a beginning piece goes: how to take it, or nothing if it is not welcome.
pub(crate) type Begun = oneshot::Sender<Option<Taking>>;

/// Names a piece that a peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arriving {
    pub from: PeerKey,
    pub blob: BlobHash,
    pub piece: u32,
}

/// What it takes to take a piece.
pub(crate) struct Taking {
    pub outline: Arc<Outline>,
    pub parts: Arc<Parts>,
    /// Ends when the piece is no longer welcome.
    pub stop: oneshot::Receiver<()>,
}
