//! Work that takes a while and must not hold up the loop: applying, fetching weights, asking peers.
//! Getting contributions is in `contributions.rs`.
//!
//! A job is a future that ends in a [`Done`]. It owns what it needs and changes nothing of the
//! daemon's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use weal_coordinator_free::{Apply, Signal};
use weal_kernels::{Contribution, OuterStep, apply_in_parts, state};
use weal_network::{Network, PeerKey, Priority, Want};
use weal_proto::{
    BlobHash, Decided, Envelope, EnvelopeHash, Message, PeerId, Request, Response, RoundNumber,
    RunId, StateRoot, Status, Ticket, Verdict, limits,
};

use super::examined::Examined;
use super::places::{Places, Purpose};
use super::sketches::Sketches;
use crate::check::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::full_disk::FullDisk;
use crate::node_network::connected_peers;
use crate::plan::{Plan, outer_rate, outer_rule};
use crate::store::blobs::Blobs;
use crate::store::weights::{WeightFiles, Weights, from_bytes};

/// Peers asked for the same thing.
const ASKED: usize = 2;
/// Tensors that are fetched at once.
const TENSORS: usize = 8;
/// How long the node looks for a peer that has a tensor.
const TENSOR_PATIENCE: Duration = Duration::from_secs(10);
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
    /// The contributions of a round were compared.
    Compared {
        round: RoundNumber,
        signals: Vec<Signal>,
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
    /// A ticket was found.
    Ticket(Ticket),
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
    /// Lets writes wait while the disk is full.
    pub disk: FullDisk,
    /// Bounds the contributions that are fetched at the same time.
    pub places: Places,
    /// Contributions that were examined, still decoded.
    pub examined: Arc<Mutex<Examined>>,
    /// Samples of those that earlier rounds chose.
    pub sketches: Arc<Mutex<Sketches>>,
    /// Two contributions that share this part of their values are copies, in parts per million.
    pub copy_ppm: u32,
}

impl JobContext {
    /// The contributions that were examined. Hold it only to look something up.
    pub(super) fn examined(&self) -> MutexGuard<'_, Examined> {
        self.examined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The samples of contributions. Hold it only to compare.
    pub(super) fn sketches(&self) -> MutexGuard<'_, Sketches> {
        self.sketches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connected peers, in random order.
    pub(super) fn connected(&self) -> Vec<PeerKey> {
        let mut peers = connected_peers(&self.network);
        peers.shuffle(&mut rand::rng());
        peers
    }

    /// Applies a decided round, which gives the weights of the next one.
    pub(super) async fn apply(self, weights: Weights, apply: Apply) -> Done {
        let round = apply.round;
        let contributions = match self.obtain_chosen(&apply).await {
            Ok(contributions) => contributions,
            Err((peer, refusal)) => return not_applied(round, peer, &refusal),
        };
        let compute = move || self.compute(&weights, &apply, &contributions);
        match tokio::task::spawn_blocking(compute).await {
            Ok(Ok(weights)) => Done::Weights(weights),
            Ok(Err(error)) => Done::Fatal(error),
            Err(error) => Done::Fatal(
                Error::internal(format!("round {round} could not be applied")).caused_by(error),
            ),
        }
    }

    /// All chosen contributions, in their order, fetched several at once.
    async fn obtain_chosen(&self, apply: &Apply) -> Result<Vec<Contribution>, (PeerId, Refusal)> {
        let mut jobs = JoinSet::new();
        for (place, chosen) in apply.contributions.iter().cloned().enumerate() {
            let context = self.clone();
            jobs.spawn(async move {
                let obtained = context
                    .obtain(chosen.peer, &chosen.commitment, Purpose::Decided)
                    .await;
                obtained
                    .map(|contribution| (place, contribution))
                    .map_err(|refusal| (chosen.peer, refusal))
            });
        }
        let mut obtained = BTreeMap::new();
        while let Some(job) = jobs.join_next().await {
            // A panic here is this program's fault, and ends the node as it would in this task.
            let (place, contribution) =
                job.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            obtained.insert(place, contribution);
        }
        Ok(obtained.into_values().collect())
    }

    fn compute(
        &self,
        weights: &Weights,
        apply: &Apply,
        contributions: &[Contribution],
    ) -> Result<Weights> {
        let coefficients = apply.contributions.iter().map(|one| one.coefficient_ppm);
        let step = OuterStep {
            contributions,
            coefficients_ppm: &coefficients.collect::<Vec<_>>(),
            alpha: outer_rate(apply.outer_rate_ppm),
            rule: outer_rule(apply.rule),
        };
        let (layout, round) = (&self.plan.layout, apply.round.next());
        self.disk.retry(|| {
            self.weight_files.write(layout, round, |write| {
                apply_in_parts(layout, &weights.values, &step, |part| {
                    weights.values.release();
                    write(part)
                })
            })
        })
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
        if let Some(weights) = self.stored_weights(round, root).await {
            return Ok(weights);
        }
        let tensors = self.find_tensors(round, root).await?;
        let layout = &self.plan.layout;
        let path = self.weight_files.path(round);
        let mut values = vec![0.0; layout.parameters()];
        let mut wanted = layout.ranges().zip(tensors);
        let mut jobs = JoinSet::new();
        loop {
            while jobs.len() < TENSORS
                && let Some((range, tensor)) = wanted.next()
            {
                let (network, want) = (self.network.clone(), want_tensor(tensor, range.len()));
                jobs.spawn(async move { (range, network.fetch(want).await) });
            }
            let Some(job) = jobs.join_next().await else {
                break;
            };
            let (range, bytes) =
                job.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            // Not even a full disk ends the node: it tries again.
            let bytes = bytes.map_err(|error| Error::network(error.to_string()))?;
            let tensor = from_bytes(&path, &bytes, range.len())?;
            if let Some(place) = values.get_mut(range) {
                place.copy_from_slice(&tensor);
            }
        }
        if StateRoot::from(state::root(layout, &values)?) != root {
            return Err(Error::network(format!(
                "the weights of round {round} that arrived are not the decided ones"
            )));
        }
        let store = || self.weight_files.store(layout, round, &values);
        tokio::task::block_in_place(|| self.disk.retry(store))
    }

    /// The weights at a round's start from this node's disk, if they are the wanted ones.
    async fn stored_weights(&self, round: RoundNumber, root: StateRoot) -> Option<Weights> {
        let context = self.clone();
        let load = move || context.weight_files.load(&context.plan.layout, round);
        let weights = tokio::task::spawn_blocking(load).await.ok()?.ok()?;
        (weights.root == root).then_some(weights)
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

    /// Looks for a ticket: this many bits of work.
    pub(super) async fn find_ticket(self, signer: PeerId, round: RoundNumber, bits: u32) -> Done {
        let from = Ticket {
            round,
            nonce: rand::random::<u32>().into(),
        };
        let run = self.run;
        let found = tokio::task::spawn_blocking(move || from.find(run, signer, bits));
        match found.await {
            Ok(Some(ticket)) => Done::Ticket(ticket),
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

/// What follows if a chosen contribution cannot be had, or is not valid here.
fn not_applied(round: RoundNumber, peer: PeerId, refusal: &Refusal) -> Done {
    let (peer, why) = (peer.short(), &refusal.why);
    if refusal.verdict == Verdict::Unavailable {
        let why = format!("the contribution of {peer}: {why}");
        return Done::ApplyFailed { round, why };
    }
    // The voters found it valid. A node that disagrees must not guess.
    Done::Fatal(Error::internal(format!(
        "round {round}: the chosen contribution of {peer} is {:?} here: {why}",
        refusal.verdict
    )))
}

/// What to fetch for a tensor of this many values.
fn want_tensor(tensor: BlobHash, values: usize) -> Want {
    Want {
        blob: tensor,
        max_bytes: values as u64 * 4,
        priority: Priority::State,
        holders: Vec::new(),
        patience: TENSOR_PATIENCE,
    }
}

/// The state root of tensors with these hashes; `None` if there are too many or too few.
fn state_root(plan: &Plan, tensors: &[BlobHash]) -> Option<StateRoot> {
    let hashes: Vec<[u8; 32]> = tensors.iter().map(|tensor| (*tensor).into()).collect();
    state::root_of_hashes(&plan.layout, &hashes).map(Into::into)
}
