//! What the picker asks its owner to do.

use std::sync::Arc;

use weal_proto::{BlobHash, Outline};

use crate::error::FetchError;
use crate::identity::PeerKey;
use crate::reputation::Offence;
use crate::swarm::frame::Frame;

/// Names a piece on its way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GiftId(pub u64);

/// A piece that is sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gift {
    pub id: GiftId,
    pub to: PeerKey,
    pub blob: BlobHash,
    pub piece: u32,
    /// Length of the piece in bytes.
    pub bytes: usize,
    /// Whether its bytes wait until the peer says that it wants them.
    pub waits: bool,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send a frame.
    Send { to: PeerKey, frame: Frame },
    /// Send a piece, and tell how it ended.
    Give(Gift),
    /// Stop reading a piece: another peer was faster, or the blob is not wanted any longer.
    StopTaking {
        from: PeerKey,
        blob: BlobHash,
        piece: u32,
    },
    /// A peer broke the protocol.
    Blame { peer: PeerKey, offence: Offence },
    /// A peer asks for a blob that is not being fetched: find out whether this node has it.
    LookUp { blob: BlobHash },
    /// The outline of a wanted blob is known: make room for the blob, and tell which pieces are
    /// here already.
    Prepare {
        blob: BlobHash,
        outline: Arc<Outline>,
    },
    /// Every piece is here.
    Done { blob: BlobHash },
    /// The blob cannot be had.
    Failed { blob: BlobHash, error: FetchError },
}

/// How a piece from a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is verified and stored.
    Stored,
    /// Its bytes are not those of the piece.
    Forged,
    /// It stopped, stalled, or could not be stored.
    Failed,
}
