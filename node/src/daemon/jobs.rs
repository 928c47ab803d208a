//! Work that takes a while and must not hold up the loop: applying and asking peers. Getting
//! contributions is in `contributions.rs`, fetching weights in `weights_fetch.rs`.
//!
//! A job is a future that ends in a [`Done`]. It owns what it needs and changes nothing of the
//! daemon's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use weal_coordinator_free::{Apply, Signal};
use weal_kernels::{Contribution, apply_in_parts};
use weal_network::{Network, PeerKey};
use weal_proto::{
    Decided, Envelope, EnvelopeHash, Message, PeerId, Request, Response, RoundNumber, RunId,
    Status, Ticket, Verdict, limits,
};

use super::examined::Examined;
use super::fetch_progress::FetchProgress;
use super::hedged::{NEXT_AFTER, first_answer};
use super::places::{Places, Purpose};
use super::service::SharedPosition;
use super::sketches::Sketches;
use crate::check::Refusal;
use crate::error::{Error, Result};
use crate::full_disk::FullDisk;
use crate::node_network::connected_peers;
use crate::plan::{DecidedStep, Plan};
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::store::weights::{Durability, WeightFiles, Weights, WeightsId};

/// Peers asked for the same thing.
const ASKED: usize = 2;
/// Parts of the weights, of 1 MiB each, that are read before they leave the memory.
const RELEASE_EVERY: usize = 64;

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
    Weights(Weights, Durability),
    /// The initial weights are in memory and on disk.
    Initial(Weights),
    /// A round cannot be applied because its blobs cannot be fetched.
    ApplyFailed { round: RoundNumber, why: String },
    /// Weights were fetched, and are in memory and on disk.
    Fetched(Fetched),
    /// Weights could not be fetched; the pause before the next attempt is over.
    WeightsMissing(String),
    /// The newest weights on disk, which are damaged, could not be repaired.
    NotRepaired(String),
    /// Stored weights were checked, and repaired if necessary and possible.
    Checked(Checked),
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

/// Weights that were fetched.
pub(super) struct Fetched {
    pub weights: Weights,
    /// What was done, for people.
    pub summary: String,
}

/// How a check of stored weights ended.
pub(super) struct Checked {
    pub id: WeightsId,
    /// What is on disk now; `None` if it is damaged or gone.
    pub weights: Option<Weights>,
    /// What was fetched to repair them, or why they could not be repaired, for people.
    pub repair: Option<String>,
}

/// What every job may use. Cheap to clone.
#[derive(Clone)]
pub(super) struct JobContext {
    pub run: RunId,
    /// Version of the contribution codec.
    pub codec: u32,
    pub plan: Arc<Plan>,
    pub blobs: Blobs,
    pub store: Store,
    pub weight_files: WeightFiles,
    pub network: Network,
    /// What peers are told of this node.
    pub position: SharedPosition,
    /// How far a fetch of weights is.
    pub fetching: FetchProgress,
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
    pub(super) async fn apply(
        self,
        weights: Weights,
        apply: Apply,
        durability: Durability,
    ) -> Done {
        let round = apply.round;
        let contributions = match self.obtain_chosen(&apply).await {
            Ok(contributions) => contributions,
            Err((peer, refusal)) => return not_applied(round, peer, &refusal),
        };
        let compute = move || self.compute(&weights, &apply, (&contributions, durability));
        match tokio::task::spawn_blocking(compute).await {
            Ok(Ok(weights)) => Done::Weights(weights, durability),
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
        (contributions, durability): (&[Contribution], Durability),
    ) -> Result<Weights> {
        let step = DecidedStep::of(apply);
        let step = step.with(contributions);
        let (layout, round) = (&self.plan.layout, apply.round.next());
        let parts = AtomicUsize::new(0);
        let applied = self.disk.retry(|| {
            self.weight_files.write(layout, round, durability, |write| {
                apply_in_parts(layout, &weights.values, &step, |place, part| {
                    let part_number = parts.fetch_add(1, Ordering::Relaxed);
                    if part_number.is_multiple_of(RELEASE_EVERY) {
                        weights.values.release();
                    }
                    write(place, part)
                })
            })
        });
        weights.values.release();
        applied
    }

    /// Asks a peer for decided rounds, and others if it has none or takes long.
    pub(super) async fn request_decided(self, from: RoundNumber) -> Done {
        let request = Request::Decided {
            from,
            at_most: limits::DECIDED_BATCH as u32,
        }
        .encode();
        let ask = |peer| {
            let (context, request) = (self.clone(), request.clone());
            async move {
                match context.ask(peer, &request).await {
                    Some(Response::Decided(decided)) if !decided.is_empty() => Some(decided),
                    _ => None,
                }
            }
        };
        let decided = first_answer(self.some_peers().map(ask), NEXT_AFTER).await;
        decided.map_or(Done::Nothing, Done::Decided)
    }

    /// Peers to ask for the same thing.
    pub(super) fn some_peers(&self) -> impl Iterator<Item = PeerKey> + use<> {
        self.connected().into_iter().take(ASKED)
    }

    /// Asks one peer for the messages of a round.
    pub(super) async fn request_messages(self, peer: PeerKey, round: RoundNumber) -> Done {
        match self
            .ask(peer, &Request::RoundMessages { round }.encode())
            .await
        {
            Some(Response::RoundMessages(envelopes)) => Done::Messages(envelopes),
            _ => Done::Nothing,
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

    pub(super) async fn ask(&self, peer: PeerKey, request: &[u8]) -> Option<Response> {
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
