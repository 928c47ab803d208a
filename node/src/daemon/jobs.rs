//! Work that takes a while and must not hold up the loop: fetching, checking, applying, asking
//! peers.
//!
//! A job is a future that ends in a [`Done`]. It owns what it needs and changes nothing of the
//! daemon's.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use weal_coordinator_free::{Apply, Chosen, Fetch};
use weal_kernels::{Contribution, apply_and_outline, state};
use weal_proto::{
    BlobHash, Decided, Envelope, EnvelopeHash, Message, PeerId, Request, Response, RoundNumber,
    RunId, StateRoot, Status, Verdict, limits,
};

use crate::check::{self, Claim, Refusal};
use crate::error::{Error, Result};
use crate::plan::{self, Plan};
use crate::store::blobs::{Blobs, Keep};
use crate::store::weights::{WeightFiles, Weights, from_bytes};
use weal_network::{Network, PeerKey};

/// Blobs fetched at the same time.
const FETCHES: usize = 8;
/// Peers asked for the same thing at the same time.
const ASKED: usize = 2;

/// Pause before weights that nobody had are asked for again.
const WEIGHTS_RETRY: Duration = Duration::from_secs(2);

/// How a job ended.
pub enum Done {
    /// A contribution was examined.
    Validated {
        /// The commitment.
        commitment: EnvelopeHash,
        /// Who contributed.
        peer: PeerId,
        /// What was found wrong with it, if anything.
        refusal: Option<Refusal>,
    },
    /// New weights are in memory and on disk.
    Weights(Weights),
    /// A round cannot be applied, for want of its blobs.
    ApplyFailed {
        /// The round.
        round: RoundNumber,
        /// Why.
        why: String,
    },
    /// Weights could not be fetched, and why; a pause has passed since.
    WeightsMissing(String),
    /// Decided rounds arrived.
    Decided(Vec<Decided>),
    /// Messages of a round arrived.
    Messages(Vec<Envelope>),
    /// A peer told where it is.
    Status(PeerId, Status),
    /// Nothing came of it, and the core asks again by itself.
    Nothing,
    /// The node cannot go on.
    Fatal(Error),
}

/// What every job may use. Cheap to clone.
#[derive(Clone)]
pub struct Workshop {
    /// The run.
    pub run: RunId,
    /// Version of the contribution codec.
    pub codec: u32,
    /// What the manifest means.
    pub plan: Arc<Plan>,
    /// Blobs on disk.
    pub blobs: Blobs,
    /// Weights on disk.
    pub weight_files: WeightFiles,
    /// The network.
    pub network: Network,
    /// Bounds the fetches that run at once.
    pub fetches: Arc<Semaphore>,
}

impl Workshop {
    /// The bound on fetches that run at once.
    pub fn fetch_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(FETCHES))
    }

    /// Connected peers, in random order.
    fn connected(&self) -> Vec<PeerKey> {
        let mut peers: Vec<_> = self
            .network
            .status()
            .borrow()
            .peers
            .iter()
            .map(|peer| peer.peer)
            .collect();
        peers.shuffle(&mut rand::rng());
        peers
    }

    /// Gets a contribution, from disk or from whoever has it, and checks it.
    pub async fn examine(self, fetch: Fetch) -> Done {
        let (commitment, peer) = (fetch.commitment, fetch.peer);
        let refusal = match self
            .obtain(fetch.round, fetch.peer, fetch.blob, fetch.blob_bytes)
            .await
        {
            Ok(blob) => self.check(fetch, blob).await,
            Err(why) => Some(Refusal::new(
                Verdict::Unavailable,
                "contribution_unavailable",
                why,
            )),
        };
        Done::Validated {
            commitment,
            peer,
            refusal,
        }
    }

    async fn check(self, fetch: Fetch, blob: Vec<u8>) -> Option<Refusal> {
        let Fetch {
            round,
            peer,
            blob_bytes,
            base_root,
            ..
        } = fetch;
        let claim = Claim {
            round,
            peer,
            blob_bytes,
            base_root,
        };
        let checked = tokio::task::spawn_blocking(move || {
            check::contribution(&self.plan, self.run, self.codec, &claim, &blob).err()
        });
        // A check that panics has met something it should have refused.
        checked.await.unwrap_or_else(|error| {
            Some(Refusal::new(
                Verdict::Malformed,
                "contribution_panic",
                format!("checking it failed: {error}"),
            ))
        })
    }

    /// The blob of a contribution, stored here from now on.
    async fn obtain(
        &self,
        round: RoundNumber,
        peer: PeerId,
        hash: BlobHash,
        bytes: u64,
    ) -> Result<Vec<u8>, String> {
        if let Some(blob) = self.blobs.get(&hash).map_err(|error| error.to_string())? {
            return Ok(blob);
        }
        let _slot = self
            .fetches
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let mut holders = vec![peer.into()];
        holders.extend(
            self.connected()
                .into_iter()
                .filter(|other| *other != *peer.as_bytes()),
        );
        let blob = self
            .network
            .fetch_blob(hash, bytes, holders)
            .await
            .map_err(|error| error.to_string())?;
        let blobs = self.blobs.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let stored = blobs.put(&blob, Keep::Round(round), false);
            stored.map(|_| blob)
        });
        stored
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Takes weights to the next round.
    pub async fn apply(self, weights: Weights, apply: Apply) -> Done {
        let round = apply.round;
        let mut blobs = Vec::with_capacity(apply.contributions.len());
        for chosen in &apply.contributions {
            match self
                .obtain(round, chosen.peer, chosen.blob, chosen.blob_bytes)
                .await
            {
                Ok(blob) => blobs.push(blob),
                Err(why) => return Done::ApplyFailed { round, why },
            }
        }
        match tokio::task::spawn_blocking(move || self.compute(&weights, &apply, &blobs)).await {
            Ok(Ok(weights)) => Done::Weights(weights),
            Ok(Err(error)) => Done::Fatal(error),
            Err(error) => Done::Fatal(Error::Internal(format!(
                "round {round} could not be applied: {error}"
            ))),
        }
    }

    fn compute(&self, weights: &Weights, step: &Apply, blobs: &[Vec<u8>]) -> Result<Weights> {
        let contributions = self.open_chosen(step, blobs)?;
        let mut values = weights.values.as_ref().clone();
        let (rate, rule) = (plan::rate(step.outer_rate_ppm), plan::rule(step.rule));
        let outline = apply_and_outline(&self.plan.layout, &mut values, &contributions, rate, rule)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let next = Weights::with_outline(&self.plan.layout, step.round.next(), values, outline)?;
        self.weight_files.save(&next)?;
        Ok(next)
    }

    fn open_chosen(&self, step: &Apply, blobs: &[Vec<u8>]) -> Result<Vec<Contribution>> {
        let open = |(chosen, blob): (&Chosen, &Vec<u8>)| {
            let Chosen {
                peer, blob_bytes, ..
            } = *chosen;
            let claim = Claim {
                round: step.round,
                peer,
                blob_bytes,
                base_root: step.base_root,
            };
            check::contribution(&self.plan, self.run, self.codec, &claim, blob).map_err(|refusal| {
                // More than two thirds found it valid and this node does not: it must not guess.
                let who = peer.short();
                Error::Internal(format!(
                    "round {}: a chosen contribution of {who} is {:?} here: {}",
                    step.round, refusal.verdict, refusal.why
                ))
            })
        };
        step.contributions.iter().zip(blobs).map(open).collect()
    }

    /// Fetches the weights at a round's start from peers; every chunk is proven by the decided
    /// root.
    pub async fn fetch_weights(self, round: RoundNumber, root: StateRoot) -> Done {
        match self.try_fetch_weights(round, root).await {
            Ok(weights) => Done::Weights(weights),
            Err(error @ Error::Storage { .. }) => Done::Fatal(error),
            Err(error) => {
                tokio::time::sleep(WEIGHTS_RETRY).await;
                Done::WeightsMissing(error.to_string())
            }
        }
    }

    async fn try_fetch_weights(&self, round: RoundNumber, root: StateRoot) -> Result<Weights> {
        let request = Request::State { round }.encode();
        let mut found = None;
        for peer in self.connected() {
            if let Some(Response::State { tensors, .. }) = self.ask(peer, &request).await
                && state_root(&self.plan, &tensors) == Some(root)
            {
                found = Some(tensors);
                break;
            }
        }
        let tensors = found.ok_or_else(|| {
            Error::Network(format!("nobody here holds the weights of round {round}"))
        })?;
        let layout = &self.plan.layout;
        let mut values = Vec::with_capacity(layout.parameters());
        for (range, tensor) in layout.ranges().zip(&tensors) {
            let bytes = self
                .network
                .fetch_blob(*tensor, range.len() as u64 * 4, self.connected())
                .await
                .map_err(|error| Error::Network(error.to_string()))?;
            values.extend(from_bytes(
                &self.weight_files.path(round),
                &bytes,
                range.len(),
            )?);
        }
        let weights = Weights::new(layout, round, values)?;
        if weights.root != root {
            return Err(Error::Network(format!(
                "the weights of round {round} that arrived are not the decided ones"
            )));
        }
        self.weight_files.save(&weights)?;
        Ok(weights)
    }

    /// Asks peers for decided rounds.
    pub async fn request_decided(self, from: RoundNumber) -> Done {
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
    pub async fn request_messages(self, round: RoundNumber) -> Done {
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

    /// Asks one peer where it is.
    pub async fn request_status(self, peer: PeerKey) -> Done {
        match self.ask(peer, &Request::Status.encode()).await {
            Some(Response::Status(status)) => Done::Status(peer.into(), status),
            _ => Done::Nothing,
        }
    }

    async fn ask(&self, peer: PeerKey, request: &[u8]) -> Option<Response> {
        let answer = self.network.request(peer, request.to_vec()).await;
        let bytes = answer
            .inspect_err(|error| tracing::debug!(%error, "a request was not answered"))
            .ok()?;
        Response::decode(&bytes)
            .inspect_err(|error| tracing::debug!(%error, "an answer is not understood"))
            .ok()
    }
}

/// The state root of tensors by their hashes; a wrong number of them has none.
fn state_root(plan: &Plan, tensors: &[BlobHash]) -> Option<StateRoot> {
    let hashes: Vec<[u8; 32]> = tensors.iter().map(|tensor| (*tensor).into()).collect();
    state::root_of_hashes(&plan.layout, &hashes).map(Into::into)
}
