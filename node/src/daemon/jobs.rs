//! Work that takes a while and must not hold up the loop: fetching, checking, applying, asking
//! peers.
//!
//! A job is a future that ends in a [`Done`]. It owns what it needs and changes nothing of the
//! daemon's.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use weal_coordinator_free::{Apply, Fetch};
use weal_kernels::{Contribution, apply_and_outline, state};
use weal_network::{Network, PeerKey};
use weal_proto::{
    BlobHash, Commitment, Decided, Envelope, EnvelopeHash, Message, PeerId, Request, Response,
    RoundNumber, RunId, StateRoot, Status, Verdict, limits,
};

use crate::check::{Check, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::node_network::connected_peers;
use crate::plan::{Plan, outer_rate, outer_rule};
use crate::store::blobs::{Blobs, Keep};
use crate::store::weights::{WeightFiles, Weights, from_bytes};

/// Blobs fetched at the same time.
const FETCHES: usize = 8;
/// Peers asked for the same thing.
const ASKED: usize = 2;
/// Pause before the node asks again for weights that no peer had.
const WEIGHTS_RETRY: Duration = Duration::from_secs(2);

/// How a job ended.
pub(super) enum Done {
    /// A contribution was examined.
    Examined {
        commitment: EnvelopeHash,
        peer: PeerId,
        /// What is wrong with it; `None` if it is valid.
        refusal: Option<Refusal>,
    },
    /// New weights are in memory and on disk.
    Weights(Weights),
    /// A round cannot be applied because its blobs cannot be fetched.
    ApplyFailed { round: RoundNumber, why: String },
    /// Weights could not be fetched; the pause before the next attempt is over.
    WeightsMissing(String),
    /// Decided rounds arrived.
    Decided(Vec<Decided>),
    /// Messages of a round arrived.
    Messages(Vec<Envelope>),
    /// A peer reported how far it is.
    Status(PeerId, Status),
    /// No peer answered; the core asks again by itself.
    Nothing,
    /// The node cannot continue.
    Fatal(Error),
}

/// What every job may use. Cheap to clone.
#[derive(Clone)]
pub(super) struct JobContext {
    pub run: RunId,
    /// Version of the contribution codec.
    pub codec: u32,
    pub plan: Arc<Plan>,
    pub blobs: Blobs,
    pub weight_files: WeightFiles,
    pub network: Network,
    /// Bounds the fetches that run at the same time.
    pub fetches: Arc<Semaphore>,
}

impl JobContext {
    /// Slots for the fetches that run at the same time.
    pub(super) fn fetch_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(FETCHES))
    }

    /// Connected peers, in random order.
    fn connected(&self) -> Vec<PeerKey> {
        let mut peers = connected_peers(&self.network);
        peers.shuffle(&mut rand::rng());
        peers
    }

    /// Gets a contribution, from disk or from a peer, and checks it.
    pub(super) async fn examine(self, fetch: Fetch) -> Done {
        let (commitment, peer) = (fetch.hash, fetch.peer);
        let refusal = match self.obtain(peer, &fetch.commitment).await {
            Ok(blob) => self.check_in_background(fetch, blob).await,
            Err(error) => Some(Refusal::new(
                Verdict::Unavailable,
                "contribution_unavailable",
                format!("{error:#}"),
            )),
        };
        Done::Examined {
            commitment,
            peer,
            refusal,
        }
    }

    async fn check_in_background(self, fetch: Fetch, blob: Vec<u8>) -> Option<Refusal> {
        let Fetch {
            peer, commitment, ..
        } = fetch;
        let checked =
            tokio::task::spawn_blocking(move || self.check(peer, &commitment, &blob).err());
        // A check that panics has met something it should have refused.
        checked.await.unwrap_or_else(|error| {
            Some(Refusal::new(
                Verdict::Malformed,
                "contribution_panic",
                format!("the check failed: {error}"),
            ))
        })
    }

    fn check(
        &self,
        peer: PeerId,
        commitment: &Commitment,
        blob: &[u8],
    ) -> Result<Contribution, Refusal> {
        let check = Check {
            plan: &self.plan,
            run: self.run,
            codec: self.codec,
        };
        check.contribution(peer, commitment, blob)
    }

    /// The blob of a contribution. It is stored here from now on.
    async fn obtain(&self, peer: PeerId, commitment: &Commitment) -> Result<Vec<u8>> {
        if let Some(blob) = self.blobs.get(&commitment.blob)? {
            return Ok(blob);
        }
        let _slot = self.fetches.acquire().await.map_err(stopping)?;
        let mut holders = vec![peer.into()];
        holders.extend(
            self.connected()
                .into_iter()
                .filter(|other| *other != *peer.as_bytes()),
        );
        let blob = self
            .network
            .fetch_blob(commitment.blob, commitment.blob_bytes, holders)
            .await?;
        let (blobs, keep) = (self.blobs.clone(), Keep::Round(commitment.round));
        let stored =
            tokio::task::spawn_blocking(move || blobs.put(&blob, keep, false).map(|_| blob));
        stored.await.map_err(stopping)?
    }

    /// Applies a decided round, which gives the weights of the next one.
    pub(super) async fn apply(self, weights: Weights, apply: Apply) -> Done {
        let round = apply.round;
        let mut blobs = Vec::with_capacity(apply.contributions.len());
        for chosen in &apply.contributions {
            match self.obtain(chosen.peer, &chosen.commitment).await {
                Ok(blob) => blobs.push(blob),
                Err(error) => {
                    let why = format!("{error:#}");
                    return Done::ApplyFailed { round, why };
                }
            }
        }
        match tokio::task::spawn_blocking(move || self.compute(&weights, &apply, &blobs)).await {
            Ok(Ok(weights)) => Done::Weights(weights),
            Ok(Err(error)) => Done::Fatal(error),
            Err(error) => Done::Fatal(
                Error::internal(format!("round {round} could not be applied")).caused_by(error),
            ),
        }
    }

    fn compute(&self, weights: &Weights, apply: &Apply, blobs: &[Vec<u8>]) -> Result<Weights> {
        let contributions = self.decode_chosen(apply, blobs)?;
        let mut values = weights.values.as_ref().clone();
        let outline = apply_and_outline(
            &self.plan.layout,
            &mut values,
            &contributions,
            outer_rate(apply.outer_rate_ppm),
            outer_rule(apply.rule),
        )?;
        let next = Weights::with_outline(&self.plan.layout, apply.round.next(), values, outline)?;
        self.weight_files.save(&next)?;
        Ok(next)
    }

    fn decode_chosen(&self, apply: &Apply, blobs: &[Vec<u8>]) -> Result<Vec<Contribution>> {
        let chosen = apply.contributions.iter().zip(blobs);
        chosen
            .map(|(chosen, blob)| {
                let checked = self.check(chosen.peer, &chosen.commitment, blob);
                checked.map_err(|refusal| {
                    // More than two thirds of the weight found it valid. A node that disagrees must
                    // not guess.
                    Error::internal(format!(
                        "round {}: the chosen contribution of {} is {:?} here: {}",
                        apply.round,
                        chosen.peer.short(),
                        refusal.verdict,
                        refusal.why
                    ))
                })
            })
            .collect()
    }

    /// Fetches the weights at a round's start from peers. The decided root proves every chunk.
    pub(super) async fn fetch_weights(self, round: RoundNumber, root: StateRoot) -> Done {
        match self.try_fetch_weights(round, root).await {
            Ok(weights) => Done::Weights(weights),
            Err(error) if error.kind() == ErrorKind::Storage => Done::Fatal(error),
            Err(error) => {
                tokio::time::sleep(WEIGHTS_RETRY).await;
                Done::WeightsMissing(format!("{error:#}"))
            }
        }
    }

    async fn try_fetch_weights(&self, round: RoundNumber, root: StateRoot) -> Result<Weights> {
        let tensors = self.find_tensors(round, root).await?;
        let layout = &self.plan.layout;
        let mut values = Vec::with_capacity(layout.parameters());
        for (range, tensor) in layout.ranges().zip(&tensors) {
            let bytes = self
                .network
                .fetch_blob(*tensor, range.len() as u64 * 4, self.connected())
                .await?;
            let path = self.weight_files.path(round);
            values.extend(from_bytes(&path, &bytes, range.len())?);
        }
        let weights = Weights::new(layout, round, values)?;
        if weights.root != root {
            return Err(Error::network(format!(
                "the weights of round {round} that arrived are not the decided ones"
            )));
        }
        self.weight_files.save(&weights)?;
        Ok(weights)
    }

    /// Asks peers which tensors make up the weights with this root.
    async fn find_tensors(&self, round: RoundNumber, root: StateRoot) -> Result<Vec<BlobHash>> {
        let request = Request::State { round }.encode();
        for peer in self.connected() {
            if let Some(Response::State { tensors, .. }) = self.ask(peer, &request).await
                && state_root(&self.plan, &tensors) == Some(root)
            {
                return Ok(tensors);
            }
        }
        Err(Error::network(format!(
            "no connected peer has the weights of round {round}"
        )))
    }

    /// Asks peers for decided rounds.
    pub(super) async fn request_decided(self, from: RoundNumber) -> Done {
        let request = Request::Decided {
            from,
            at_most: limits::DECIDED_BATCH as u32,
        }
        .encode();
        for peer in self.connected().into_iter().take(ASKED) {
            if let Some(Response::Decided(decided)) = self.ask(peer, &request).await
                && !decided.is_empty()
            {
                return Done::Decided(decided);
            }
        }
        Done::Nothing
    }

    /// Asks peers for the messages of a round.
    pub(super) async fn request_messages(self, round: RoundNumber) -> Done {
        let request = Request::RoundMessages { round }.encode();
        let mut messages = Vec::new();
        for peer in self.connected().into_iter().take(ASKED) {
            if let Some(Response::RoundMessages(envelopes)) = self.ask(peer, &request).await {
                messages.extend(envelopes);
            }
        }
        if messages.is_empty() {
            Done::Nothing
        } else {
            Done::Messages(messages)
        }
    }

    /// Asks one peer how far it is.
    pub(super) async fn request_status(self, peer: PeerKey) -> Done {
        match self.ask(peer, &Request::Status.encode()).await {
            Some(Response::Status(status)) => Done::Status(peer.into(), status),
            _ => Done::Nothing,
        }
    }

    async fn ask(&self, peer: PeerKey, request: &[u8]) -> Option<Response> {
        let answer = self.network.request(peer, request.to_vec()).await;
        let bytes = answer
            .inspect_err(|error| tracing::debug!("a peer did not answer a request: {error}"))
            .ok()?;
        Response::decode(&bytes)
            .inspect_err(|error| tracing::debug!("a peer's answer cannot be decoded: {error}"))
            .ok()
    }
}

fn stopping(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the node is stopping").caused_by(error)
}

/// The state root of tensors with these hashes; `None` if there are too many or too few.
fn state_root(plan: &Plan, tensors: &[BlobHash]) -> Option<StateRoot> {
    let hashes: Vec<[u8; 32]> = tensors.iter().map(|tensor| (*tensor).into()).collect();
    state::root_of_hashes(&plan.layout, &hashes).map(Into::into)
}
