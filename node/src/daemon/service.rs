//! This node's answers to its peers' requests: from the store, from the blobs and, for the running
//! round, from the core.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use weal_coordinator_free::host::answers::DECIDED_BYTES;
use weal_network::{Found, PeerKey, Service};
use weal_proto::{
    BlobHash, Message, Outline, Request, Response, RoundNumber, RoundSetHash, RunId, Status, limits,
};

use super::round_messages::RoundMessages;
use crate::store::Store;
use crate::store::blobs::{Blobs, Withheld};

/// How far this node is in the run, as peers are told.
#[derive(Debug)]
pub(super) struct Position {
    pub decided_rounds: u64,
    /// Hash of the newest decided round set; the run id before the first.
    pub newest: RoundSetHash,
    /// Blob hashes of the tensors at the start of each round whose weights are kept.
    pub tensors: BTreeMap<RoundNumber, Vec<BlobHash>>,
    /// The same of the weights that this node is fetching, of which it has a part.
    pub fetching: Option<(RoundNumber, Vec<BlobHash>)>,
}

impl Position {
    /// Before anything is known of the run.
    pub(super) fn start(run: RunId) -> Self {
        Self {
            decided_rounds: 0,
            newest: (*run.as_bytes()).into(),
            tensors: BTreeMap::new(),
            fetching: None,
        }
    }

    /// The tensors at the start of a round, if this node has some of them.
    fn tensors(&self, of: RoundNumber) -> Option<&Vec<BlobHash>> {
        let fetching = self.fetching.as_ref();
        let fetching = fetching.filter(|(round, _)| *round == of);
        let partial = fetching.map(|(_, tensors)| tensors);
        self.tensors.get(&of).or(partial)
    }
}

/// The position, shared between the daemon's loop and the service.
pub(super) type SharedPosition = Arc<RwLock<Position>>;

/// Answers requests.
pub(super) struct NodeService {
    /// The manifest's canonical bytes.
    pub manifest: Vec<u8>,
    pub store: Store,
    /// The first decided round that the store knows.
    pub first: RoundNumber,
    pub blobs: Blobs,
    pub position: SharedPosition,
    /// The messages of the running round, which the core has.
    pub messages: RoundMessages,
}

impl NodeService {
    fn respond(&self, request: Request) -> Option<Vec<u8>> {
        let response = match request {
            Request::Status => Some(Response::Status(self.status())),
            Request::Manifest => Some(Response::Manifest(self.manifest.clone())),
            // An empty answer would mean that there are no more.
            Request::Decided { from, .. } if from < self.first => None,
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
            Request::RoundMessages { round } => return self.messages.response(round),
            Request::State { round } => {
                let position = self.position.read().unwrap_or_else(PoisonError::into_inner);
                let tensors = position.tensors(round)?.clone();
                Some(Response::State { round, tensors })
            }
        };
        response.map(|response| response.encode())
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
            rules: limits::RULES,
            newest: position.newest,
        }
    }
}

impl Service for NodeService {
    fn answer(&self, _from: PeerKey, request: &[u8]) -> Option<Vec<u8>> {
        let request = Request::decode(request)
            .inspect_err(|error| tracing::debug!("a request cannot be decoded: {error}"))
            .ok()?;
        self.respond(request)
    }

    fn outline(&self, hash: &BlobHash) -> Found<Outline> {
        found(self.blobs.outline(hash)).map(|outline| outline.as_ref().clone())
    }

    fn chunk(&self, hash: &BlobHash, index: u32) -> Found<Vec<u8>> {
        found(self.blobs.chunk(hash, index))
    }
}

fn found<T>(blob: Result<T, Withheld>) -> Found<T> {
    match blob {
        Ok(blob) => Found::Here(blob),
        Err(Withheld::NotHere) => Found::NotHere,
        Err(Withheld::NotYet) => Found::NotYet,
    }
}
