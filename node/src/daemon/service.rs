//! This node's answers to its peers' requests: from the store, from the blobs and, for the running
//! round, from the core.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};
use weal_network::{PeerKey, Service};
use weal_proto::{
    BlobHash, Envelope, Message, Outline, Request, Response, RoundNumber, Status, limits,
};

use crate::store::Store;
use crate::store::blobs::Blobs;

/// Bytes of decided rounds in one answer.
const DECIDED_BYTES: usize = limits::RESPONSE_BYTES / 2;

/// Asks the daemon's loop for the messages of a round.
pub(super) type MessagesRequest = (RoundNumber, oneshot::Sender<Vec<Envelope>>);

/// How far this node is in the run, as peers are told.
#[derive(Debug, Default)]
pub(super) struct Position {
    pub decided_rounds: u64,
    /// Blob hashes of the tensors at the start of each round whose weights are kept.
    pub tensors: BTreeMap<RoundNumber, Vec<BlobHash>>,
}

/// The position, shared between the daemon's loop and the service.
pub(super) type SharedPosition = Arc<RwLock<Position>>;

/// Answers requests.
pub(super) struct NodeService {
    /// The manifest's canonical bytes.
    pub manifest: Vec<u8>,
    pub store: Store,
    pub blobs: Blobs,
    pub position: SharedPosition,
    /// The way to the core.
    pub messages: mpsc::Sender<MessagesRequest>,
}

impl NodeService {
    fn respond(&self, request: Request) -> Option<Response> {
        match request {
            Request::Status => Some(Response::Status(self.status())),
            Request::Manifest => Some(Response::Manifest(self.manifest.clone())),
            Request::Decided { from, at_most } => {
                let at_most = usize::try_from(at_most)
                    .unwrap_or(usize::MAX)
                    .min(limits::DECIDED_BATCH);
                match self.store.decided(from, at_most, DECIDED_BYTES) {
                    Ok(decided) => Some(Response::Decided(decided)),
                    Err(error) => {
                        tracing::warn!("cannot read decided rounds for a peer: {error:#}");
                        None
                    }
                }
            }
            Request::RoundMessages { round } => {
                Some(Response::RoundMessages(self.round_messages(round)?))
            }
            Request::State { round } => {
                let position = self.position.read().unwrap_or_else(PoisonError::into_inner);
                let tensors = position.tensors.get(&round)?.clone();
                Some(Response::State { round, tensors })
            }
        }
    }

    fn status(&self) -> Status {
        let position = self.position.read().unwrap_or_else(PoisonError::into_inner);
        let decided = RoundNumber(position.decided_rounds);
        Status {
            decided_rounds: position.decided_rounds,
            weights_round: position
                .tensors
                .last_key_value()
                .map_or(RoundNumber(0), |(round, _)| *round),
            oldest_blobs_round: self.blobs.oldest_round().unwrap_or(decided),
        }
    }

    /// Waits for the daemon's loop; the network calls this on a thread that may block.
    fn round_messages(&self, round: RoundNumber) -> Option<Vec<Envelope>> {
        let (answer, answered) = oneshot::channel();
        self.messages.try_send((round, answer)).ok()?;
        answered.blocking_recv().ok()
    }
}

impl Service for NodeService {
    fn answer(&self, _from: PeerKey, request: &[u8]) -> Option<Vec<u8>> {
        let request = Request::decode(request)
            .inspect_err(|error| tracing::debug!("a request cannot be decoded: {error}"))
            .ok()?;
        self.respond(request).map(|response| response.encode())
    }

    fn outline(&self, hash: &BlobHash) -> Option<Outline> {
        let outline = self.blobs.outline(hash).ok()?;
        Some(outline.as_ref().clone())
    }

    fn chunk(&self, hash: &BlobHash, index: u32) -> Option<Vec<u8>> {
        self.blobs.chunk(hash, index).ok()
    }
}
