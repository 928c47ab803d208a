//! What this node answers when others ask: from the store, from the blobs, and, for the running
//! round, from the core.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};
use weal_proto::{
    BlobHash, Envelope, Message, Outline, Request, Response, RoundNumber, Status, limits,
};

use crate::store::Store;
use crate::store::blobs::Blobs;
use weal_network::{PeerKey, Service};

/// Bytes of decided rounds in one answer.
const DECIDED_BYTES: usize = limits::RESPONSE_BYTES / 2;
/// Bytes of a round's messages in one answer.
const MESSAGE_BYTES: usize = limits::RESPONSE_BYTES / 2;

/// Asks the daemon's loop for the messages of a round.
pub type MessagesRequest = (RoundNumber, oneshot::Sender<Vec<Envelope>>);

/// Where this node is in the run, as others are told.
#[derive(Debug, Default)]
pub struct Position {
    /// Rounds decided.
    pub decided_rounds: u64,
    /// Blob hashes of the tensors at the start of each round whose weights are kept.
    pub tensors: BTreeMap<RoundNumber, Vec<BlobHash>>,
}

/// Position shared between the daemon's loop and the service.
pub type SharedPosition = Arc<RwLock<Position>>;

/// Answers requests.
pub struct NodeService {
    /// The manifest's canonical bytes.
    pub manifest: Vec<u8>,
    /// Decided rounds.
    pub store: Store,
    /// Blobs.
    pub blobs: Blobs,
    /// Where this node is.
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
                        tracing::warn!(%error, "decided rounds cannot be read for a peer");
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

    /// Called on a blocking thread: waits for the daemon's loop.
    fn round_messages(&self, round: RoundNumber) -> Option<Vec<Envelope>> {
        let (answer, answered) = oneshot::channel();
        self.messages.try_send((round, answer)).ok()?;
        let mut size = 0;
        let mut envelopes = answered.blocking_recv().ok()?;
        envelopes.truncate(limits::ROUND_MESSAGES);
        Some(
            envelopes
                .into_iter()
                .take_while(|envelope| {
                    size += envelope.payload.len() + 256;
                    size <= MESSAGE_BYTES
                })
                .collect(),
        )
    }
}

impl Service for NodeService {
    fn answer(&self, _from: PeerKey, request: &[u8]) -> Option<Vec<u8>> {
        let request = Request::decode(request)
            .inspect_err(|error| tracing::debug!(%error, "a request is not understood"))
            .ok()?;
        self.respond(request).map(|response| response.encode())
    }

    fn outline(&self, hash: &BlobHash) -> Option<Outline> {
        let outline = self.blobs.outline(hash).ok()?;
        Some(Outline::clone(&outline))
    }

    fn chunk(&self, hash: &BlobHash, index: u32) -> Option<Vec<u8>> {
        self.blobs.chunk(hash, index).ok()
    }
}
