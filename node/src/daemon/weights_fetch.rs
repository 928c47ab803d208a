//! Fetching the weights at a round's start from peers, tensor by tensor, into a file.
//!
//! Each tensor is a blob whose hash the state root proves. So the swarm fetches it from every peer
//! that has some of it, replaces peers that stall, and blames those that send wrong bytes. Pieces
//! go straight to their place in the file ([`PartialWeights`]), which survives a restart. What has
//! arrived is passed on to others meanwhile.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use weal_coordinator_free::host::retention;
use weal_kernels::state;
use weal_network::{FetchError, FilePlace, Priority, Want};
use weal_proto::{BlobHash, Manifest, Message, Request, Response, RoundNumber, StateRoot};
use weal_trainer::format_bytes;

use super::jobs::{Done, Fetched, JobContext};
use super::recover;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::store::partial_weights::{InPart, PartialWeights};
use crate::store::weights::{Weights, WeightsId};

/// Peers that are asked at once which tensors make up the weights.
const ASKED_AT_ONCE: usize = 4;
/// Tensors that are fetched at once.
const TENSORS: usize = 16;
/// How long the node looks for a peer that has a tensor.
const TENSOR_PATIENCE: Duration = Duration::from_secs(10);
/// A fetch to which no byte was added for this time is given up. What has arrived stays.
const STALLED: Duration = Duration::from_secs(120);
/// How often that is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Pause before the node asks again for weights that no peer had.
const RETRY: Duration = Duration::from_secs(2);
/// How long the node looks for a peer that has the weights to repair damaged ones.
const REPAIR_PATIENCE: Duration = Duration::from_secs(30);

/// Weights that a peer says it has: their hashes are proven by the decided root.
struct Offered {
    id: WeightsId,
    /// In the layout's order.
    tensors: Vec<BlobHash>,
}

impl JobContext {
    /// Computes the weights at the start of round 0.
    pub(super) async fn compute_initial(self, manifest: Manifest) -> Done {
        let computed = in_background(move || {
            let places = (&self.blobs, &self.weight_files);
            let compute = || recover::initial_weights(&manifest, &self.plan, places);
            self.disk.retry(compute)
        });
        computed.await.map_or_else(Done::Fatal, Done::Initial)
    }

    /// Fetches the weights at a round's start, or an older checkpoint that is partly here. `held`
    /// are the weights in memory.
    pub(super) async fn fetch_weights(self, id: WeightsId, held: Option<Weights>) -> Done {
        if let Some(weights) = self.stored_weights(id).await {
            let round = id.round;
            let summary = format!("the weights of round {round} are on this node's disk");
            return Done::Fetched(Fetched { weights, summary });
        }
        match self.fetch_from_peers(id, held.as_ref()).await {
            Ok(fetched) => Done::Fetched(fetched),
            Err(error) if error.kind() == ErrorKind::Storage => Done::Fatal(error),
            Err(error) => {
                sleep(RETRY).await;
                Done::WeightsMissing(format!("{error:#}"))
            }
        }
    }

    async fn fetch_from_peers(&self, id: WeightsId, held: Option<&Weights>) -> Result<Fetched> {
        self.until_connected().await;
        let older = held.map_or(RoundNumber(0), |held| held.round.next());
        let offered = match self.unfinished(older..id.round).await {
            Some(offered) => offered,
            None => self.find(id).await?,
        };
        self.fetch(offered, held).await
    }

    /// Replaces stored weights that are damaged: only what differs is fetched.
    pub(super) async fn repair_weights(self, id: WeightsId) -> Result<Fetched> {
        let offered = timeout(REPAIR_PATIENCE, async {
            loop {
                self.until_connected().await;
                if let Ok(offered) = self.find(id).await {
                    return offered;
                }
                sleep(RETRY).await;
            }
        });
        let offered = offered.await.map_err(|_| none_has(id))?;
        self.fetch(offered, None).await
    }

    /// The weights at a round's start from this node's disk, if they are the wanted ones.
    pub(super) async fn stored_weights(&self, id: WeightsId) -> Option<Weights> {
        let context = self.clone();
        let load = move || context.weight_files.load(&context.plan.layout, id.round);
        let weights = spawn_blocking(load).await.ok()?.ok()?;
        (weights.root == id.root).then_some(weights)
    }

    /// A checkpoint of these rounds that is partly here, and that a peer still has: the network may
    /// be faster than this node's line.
    async fn unfinished(&self, rounds: Range<RoundNumber>) -> Option<Offered> {
        let all = PartialWeights::all(&self.weight_files).ok()?;
        for PartialWeights { id, .. } in all.into_iter().rev() {
            let is_decided = || {
                let root = self.store.decided_root(id.round);
                root.is_ok_and(|root| root == Some(id.root))
            };
            if rounds.contains(&id.round)
                && retention::is_checkpoint(id.round)
                && is_decided()
                && let Ok(offered) = self.find(id).await
            {
                return Some(offered);
            }
        }
        None
    }

    /// Asks peers which tensors make up these weights, until one knows.
    async fn find(&self, id: WeightsId) -> Result<Offered> {
        let request = Request::State { round: id.round }.encode();
        let mut peers = self.connected().into_iter();
        let mut answers = JoinSet::new();
        loop {
            while answers.len() < ASKED_AT_ONCE
                && let Some(peer) = peers.next()
            {
                let (context, request) = (self.clone(), request.clone());
                answers.spawn(async move { context.ask(peer, &request).await });
            }
            match answers.join_next().await {
                Some(Ok(Some(Response::State { tensors, .. })))
                    if state_root(&self.plan, &tensors) == Some(id.root) =>
                {
                    return Ok(Offered { id, tensors });
                }
                Some(_) => {}
                None => return Err(none_has(id)),
            }
        }
    }

    /// Fetches what is not here yet.
    async fn fetch(&self, offered: Offered, similar: Option<&Weights>) -> Result<Fetched> {
        let began = Instant::now();
        let Offered { id, tensors } = &offered;
        let partial = PartialWeights::of(&self.weight_files, *id);
        self.blobs.hide_fetched();
        let here = self.open(&partial, tensors, similar).await?;
        let wanted = self.wanted(&partial, tensors, &here.missing);
        self.show(&partial, here);
        self.offer(Some((id.round, tensors.clone())));
        let fetched = self.fetch_missing(&partial, wanted).await;
        self.offer(None);
        let bytes = fetched?;
        let weights = self.finish(partial).await?;
        let summary = format!(
            "fetched the weights of round {}: {} of {} from peers in {:.1} s",
            id.round,
            format_bytes(bytes),
            format_bytes(self.bytes()),
            began.elapsed().as_secs_f64()
        );
        Ok(Fetched { weights, summary })
    }

    /// Opens the file. Returns what it has.
    async fn open(
        &self,
        partial: &PartialWeights,
        tensors: &[BlobHash],
        similar: Option<&Weights>,
    ) -> Result<InPart> {
        let (context, partial) = (self.clone(), partial.clone());
        let (tensors, similar) = (tensors.to_vec(), similar.cloned());
        in_background(move || {
            let layout = &context.plan.layout;
            context.disk.retry(|| {
                partial.open(&context.weight_files, layout)?;
                partial.look(layout, &tensors, similar.as_ref())
            })
        })
        .await
    }

    /// Passes on what an earlier fetch left.
    fn show(&self, partial: &PartialWeights, here: InPart) {
        let starts = self.plan.layout.ranges().map(|range| range.start);
        let starts: Vec<_> = starts.collect();
        for (place, outline) in here.whole() {
            if let Some(start) = starts.get(place) {
                self.blobs
                    .show_fetched(Arc::new(outline), partial.path(), *start);
            }
        }
    }

    async fn finish(&self, partial: PartialWeights) -> Result<Weights> {
        let context = self.clone();
        in_background(move || {
            let (files, layout) = (&context.weight_files, &context.plan.layout);
            context.disk.retry(|| partial.finish(files, layout))
        })
        .await
    }

    /// The tensors to fetch, and where each goes.
    fn wanted(
        &self,
        partial: &PartialWeights,
        tensors: &[BlobHash],
        missing: &[usize],
    ) -> VecDeque<WantedTensor> {
        let all = tensors.iter().zip(self.plan.layout.ranges()).enumerate();
        let wanted = all.filter(|(place, _)| missing.contains(place));
        let wanted = wanted.map(|(_, (tensor, range))| WantedTensor {
            hash: *tensor,
            bytes: range.len() as u64 * 4,
            start: range.start,
            place: FilePlace::new(partial.path().to_owned(), range.start as u64 * 4),
        });
        wanted.collect()
    }

    /// Fetches tensors, several at once, and each again as long as a peer has the weights. Returns
    /// how many bytes were fetched.
    async fn fetch_missing(
        &self,
        partial: &PartialWeights,
        mut wanted: VecDeque<WantedTensor>,
    ) -> Result<u64> {
        let missing: u64 = wanted.iter().map(|tensor| tensor.bytes).sum();
        let counters = |of: fn(&FilePlace) -> &Arc<AtomicU64>| -> Vec<_> {
            let places = wanted.iter().map(|tensor| &tensor.place);
            places.map(|place| Arc::clone(of(place))).collect()
        };
        let (done, fetched) = (
            counters(|place| &place.done),
            counters(|place| &place.fetched),
        );
        let kept = self.bytes().saturating_sub(missing);
        let round = partial.id.round;
        let shown = self.fetching.begin(round, (kept, self.bytes()), done);
        tracing::info!(
            "fetching the weights of round {round} from peers: {} of {} are here",
            format_bytes(kept),
            format_bytes(self.bytes())
        );
        let mut last = (shown.here(), Instant::now());
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut jobs = JoinSet::new();
        loop {
            while jobs.len() < TENSORS
                && let Some(tensor) = wanted.pop_front()
            {
                let network = self.network.clone();
                jobs.spawn(async move {
                    let fetched = network.fetch_into(tensor.want(), tensor.place.clone());
                    (fetched.await, tensor)
                });
            }
            let job = tokio::select! {
                job = jobs.join_next() => job,
                _ = check.tick() => {
                    let here = shown.here();
                    if here != last.0 {
                        last = (here, Instant::now());
                    } else if last.1.elapsed() >= STALLED {
                        return Err(stalled(round));
                    }
                    continue;
                }
            };
            let Some(job) = job else {
                let bytes = fetched.iter().map(|bytes| bytes.load(Ordering::Relaxed));
                return Ok(bytes.sum());
            };
            let (outcome, tensor) =
                job.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            match outcome {
                Ok(outline) => self
                    .blobs
                    .show_fetched(outline, partial.path(), tensor.start),
                Err(error) => {
                    self.can_go_on(partial.id, &error).await?;
                    wanted.push_back(tensor);
                }
            }
        }
    }

    /// Whether a tensor that could not be fetched may still come.
    async fn can_go_on(&self, id: WeightsId, error: &FetchError) -> Result<()> {
        let is_gone = match error {
            FetchError::Storage { .. } | FetchError::ShutDown | FetchError::TooLarge { .. } => true,
            _ => {
                self.until_connected().await;
                self.find(id).await.is_err()
            }
        };
        if is_gone {
            return Err(Error::network(error.to_string()));
        }
        tracing::debug!("a tensor of round {} is fetched again: {error}", id.round);
        Ok(())
    }

    /// Waits for a connection.
    async fn until_connected(&self) {
        let mut status = self.network.status();
        // If the network has ended, so does the node.
        let _ = status.wait_for(|status| !status.peers.is_empty()).await;
    }

    /// Tells peers that ask which tensors make up the weights that are being fetched.
    fn offer(&self, fetching: Option<(RoundNumber, Vec<BlobHash>)>) {
        let position = self.position.write();
        position.unwrap_or_else(PoisonError::into_inner).fetching = fetching;
    }

    /// Bytes of the weights.
    fn bytes(&self) -> u64 {
        self.plan.layout.parameters() as u64 * 4
    }
}

/// A tensor to fetch.
struct WantedTensor {
    hash: BlobHash,
    bytes: u64,
    /// Place of its first value among all.
    start: usize,
    place: FilePlace,
}

impl WantedTensor {
    fn want(&self) -> Want {
        Want {
            blob: self.hash,
            max_bytes: self.bytes,
            priority: Priority::State,
            holders: Vec::new(),
            patience: TENSOR_PATIENCE,
        }
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn none_has(id: WeightsId) -> Error {
    Error::network(format!(
        "no connected peer has the weights of round {}",
        id.round
    ))
}

fn stalled(round: RoundNumber) -> Error {
    Error::network(format!(
        "nothing of the weights of round {round} has arrived for {} s",
        STALLED.as_secs()
    ))
}

/// The state root of tensors with these hashes; `None` if there are too many or too few.
fn state_root(plan: &Plan, tensors: &[BlobHash]) -> Option<StateRoot> {
    let hashes: Vec<[u8; 32]> = tensors.iter().map(|tensor| (*tensor).into()).collect();
    state::root_of_hashes(&plan.layout, &hashes).map(Into::into)
}
