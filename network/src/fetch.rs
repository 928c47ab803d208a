//! A blob from several peers at once: its outline from the first that has it, then its chunks from
//! all who do.
//!
//! The others are asked for the outline too, since a caller may name peers that only might have the
//! blob. Then each holder has a few *lanes*, and each lane does one thing after the other: wait for
//! a chunk to be wanted, ask for it, verify it, put it in its place. Chunks are taken in random
//! order, so that peers which fetch the same blob at the same time soon have different parts of it
//! (within 12 % of rarest first in simulation). Near the end, a chunk that is long in coming is
//! asked of a second holder. Nothing outlives the future: dropping it ends the fetch.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{join_all, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use weal_proto::{BlobHash, BlobPart, Outline};

use super::chunks::ChunkSchedule;
use super::reputation::Offence;
use super::serve::Exchange;
use super::{Cause, FetchError, Network, PeerKey, RequestError, blob};

/// Requests for blobs that this node has open with one peer, over all fetches: fewer than a peer
/// answers at once.
pub(super) const REQUESTS_PER_PEER: usize = 6;
/// Requests for blobs open with all peers: bounds the memory for chunks on their way.
const REQUESTS_IN_ALL: usize = 64;
/// Lanes of one fetch to one holder.
const LANES_PER_HOLDER: usize = 4;
/// Holders asked by one fetch at once.
const HOLDERS: usize = 32;
/// A second holder is asked for the outline when the first is silent for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often all holders are asked for the outline, with a pause after each time.
const OUTLINE_ROUNDS: u32 = 4;
/// Failures in a row, or "not here", after which a holder is left out of a fetch.
const FAILURES: u32 = 4;
/// Times in a row that a holder may be busy before it is left out of a fetch.
const BUSY: u32 = 60;

/// Bounds what this node asks of others, over all its fetches.
pub(super) struct Slots {
    all: Arc<Semaphore>,
    peers: Mutex<HashMap<PeerKey, Arc<Semaphore>>>,
}

/// Leave to have one request open.
pub(super) struct Slot {
    _peer: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(REQUESTS_IN_ALL)),
            peers: Mutex::default(),
        }
    }

    /// Waits for leave to ask `peer`; `None` never happens while the network is up.
    async fn take(&self, peer: PeerKey) -> Option<Slot> {
        let of_peer = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if peers.len() > 2 * HOLDERS {
                peers.retain(|_, slots| Arc::strong_count(slots) > 1);
            }
            let slots = peers
                .entry(peer)
                .or_insert_with(|| Arc::new(Semaphore::new(REQUESTS_PER_PEER)));
            Arc::clone(slots)
        };
        let peer = of_peer.acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Slot {
            _peer: peer,
            _all: all,
        })
    }
}

/// See [`Network::fetch_blob`].
pub(super) async fn fetch(
    network: &Network,
    hash: BlobHash,
    max_bytes: u64,
    holders: Vec<PeerKey>,
) -> Result<Vec<u8>, FetchError> {
    let mut seen = HashSet::from([network.local()]);
    let holders: Vec<_> = holders
        .into_iter()
        .filter(|holder| seen.insert(*holder))
        .take(HOLDERS)
        .collect();
    if holders.is_empty() {
        return Err(FetchError::NoHolders { hash });
    }
    let fetch = Fetch {
        network,
        hash,
        holders: holders.into_iter().map(Holder::new).collect(),
    };
    let outline = fetch.outline().await?;
    if outline.bytes > max_bytes {
        return Err(FetchError::TooLarge {
            hash,
            bytes: outline.bytes,
            limit: max_bytes,
        });
    }
    fetch.chunks(outline).await
}

struct Fetch<'a> {
    network: &'a Network,
    hash: BlobHash,
    holders: Vec<Holder>,
}

impl Fetch<'_> {
    async fn outline(&self) -> Result<Outline, FetchError> {
        for round in 0..OUTLINE_ROUNDS {
            if round > 0 {
                sleep(pause(
                    round,
                    Duration::from_millis(250),
                    Duration::from_secs(4),
                ))
                .await;
            }
            if let Some(outline) = self.outline_from_any().await {
                return Ok(outline);
            }
            if self.holders.iter().all(|holder| holder.is_left_out()) {
                break;
            }
        }
        Err(self.given_up(|hash, causes| FetchError::NotFound { hash, causes }))
    }

    /// Asks one holder after the other, and the next one too when an answer is long in coming.
    async fn outline_from_any(&self) -> Option<Outline> {
        let mut next = self.holders.iter().filter(|holder| !holder.is_left_out());
        let mut asked: FuturesUnordered<_> = next
            .next()
            .map(|holder| self.outline_from(holder))
            .into_iter()
            .collect();
        loop {
            tokio::select! {
                answer = asked.next() => match answer {
                    Some(Some(outline)) => return Some(outline),
                    Some(None) => if asked.is_empty() { asked.push(self.outline_from(next.next()?)) },
                    None => return None,
                },
                () = sleep(PATIENCE) => if let Some(holder) = next.next() { asked.push(self.outline_from(holder)) },
            }
        }
    }

    async fn outline_from(&self, holder: &Holder) -> Option<Outline> {
        let began = Instant::now();
        match self.ask(holder, BlobPart::Outline).await {
            Ok(answer) => {
                let outline = blob::decode_outline(&self.hash, &answer);
                match outline {
                    Some(_) => holder.succeeded(),
                    None => self.blame(holder, Offence::BadOutline).await,
                }
                outline
            }
            Err(error) => {
                holder.failed(&error, began);
                None
            }
        }
    }

    async fn chunks(&self, outline: Outline) -> Result<Vec<u8>, FetchError> {
        let bytes = outline.bytes;
        let schedule = ChunkSchedule::new(outline).ok_or(FetchError::NoMemory {
            hash: self.hash,
            bytes,
        })?;
        let lanes = self.holders.iter().flat_map(|holder| {
            let first = self.first_lane(holder, &schedule).boxed();
            let more = (1..LANES_PER_HOLDER).map(|_| self.further_lane(holder, &schedule).boxed());
            iter::once(first).chain(more)
        });
        select(schedule.complete().boxed(), join_all(lanes)).await;
        schedule.into_bytes().map_err(|missing| {
            self.given_up(|hash, causes| FetchError::Incomplete {
                hash,
                missing,
                causes,
            })
        })
    }

    /// The first lane makes sure that the holder has the blob, by its outline: a chunk must not go
    /// from peer to peer that might have it while one that has it is idle.
    async fn first_lane(&self, holder: &Holder, schedule: &ChunkSchedule) {
        while !holder.is_proven() {
            sleep(holder.rest()).await;
            if holder.is_left_out() {
                return;
            }
            self.outline_from(holder).await;
        }
        self.lane(holder, schedule).await;
    }

    /// The others open when it has.
    async fn further_lane(&self, holder: &Holder, schedule: &ChunkSchedule) {
        if holder.proves_itself().await {
            self.lane(holder, schedule).await;
        }
    }

    /// Fetches one chunk after the other from one holder, until the blob is complete or the holder
    /// is of no use.
    async fn lane(&self, holder: &Holder, schedule: &ChunkSchedule) {
        loop {
            sleep(holder.rest()).await;
            if holder.is_left_out() || !schedule.wanted().await {
                return;
            }
            let Some(slot) = self.network.slots().take(holder.peer).await else {
                return;
            };
            let Some(chunk) = schedule.take() else {
                continue;
            };
            let began = Instant::now();
            let answer = self.ask_now(holder, BlobPart::Chunk(chunk.index())).await;
            drop(slot);
            match answer {
                Ok(bytes) => match chunk.fill(&bytes) {
                    Ok(()) => holder.succeeded(),
                    Err(_) => self.blame(holder, Offence::BadChunk).await,
                },
                Err(error) => {
                    drop(chunk);
                    holder.failed(&error, began);
                }
            }
        }
    }

    async fn ask(
        &self,
        holder: &Holder,
        part: BlobPart,
    ) -> Result<libp2p::bytes::Bytes, RequestError> {
        let _slot = self
            .network
            .slots()
            .take(holder.peer)
            .await
            .ok_or(RequestError::ShutDown)?;
        self.ask_now(holder, part).await
    }

    async fn ask_now(
        &self,
        holder: &Holder,
        part: BlobPart,
    ) -> Result<libp2p::bytes::Bytes, RequestError> {
        self.network
            .exchange(
                Exchange::Blob,
                holder.peer,
                blob::request(self.hash, part).into(),
            )
            .await
    }

    /// The holder lied: it is asked no more, and its reputation pays.
    async fn blame(&self, holder: &Holder, offence: Offence) {
        holder.lied(offence);
        self.network.offended(holder.peer, offence).await;
    }

    fn given_up(&self, error: impl FnOnce(BlobHash, Vec<Cause>) -> FetchError) -> FetchError {
        if self.network.is_shut_down() {
            return FetchError::ShutDown;
        }
        error(
            self.hash,
            self.holders.iter().filter_map(Holder::cause).collect(),
        )
    }
}

/// One peer that may hold the blob, as this fetch sees it.
struct Holder {
    peer: PeerKey,
    state: Mutex<HolderState>,
    standing: watch::Sender<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It may have the blob.
    Unknown,
    /// It has given some of it.
    Proven,
    /// It is asked no more.
    LeftOut,
}

#[derive(Debug, Clone, Default)]
struct HolderState {
    failures: u32,
    busy: u32,
    rest_until: Option<Instant>,
    last_failure: Option<Instant>,
    why: Option<String>,
}

impl Holder {
    fn new(peer: PeerKey) -> Self {
        Self {
            peer,
            state: Mutex::default(),
            standing: watch::Sender::new(Standing::Unknown),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HolderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_left_out(&self) -> bool {
        *self.standing.borrow() == Standing::LeftOut
    }

    fn is_proven(&self) -> bool {
        *self.standing.borrow() == Standing::Proven
    }

    /// Waits until it has given some of the blob; false when it is asked no more.
    async fn proves_itself(&self) -> bool {
        let mut standing = self.standing.subscribe();
        let known = standing
            .wait_for(|standing| *standing != Standing::Unknown)
            .await;
        known.is_ok_and(|standing| *standing == Standing::Proven)
    }

    fn now_is(&self, to: Standing) {
        self.standing.send_if_modified(|standing| {
            let changes = *standing != to && *standing != Standing::LeftOut;
            if changes {
                *standing = to;
            }
            changes
        });
    }

    fn rest(&self) -> Duration {
        let until = self.state().rest_until;
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    fn cause(&self) -> Option<Cause> {
        self.state().why.clone().map(|why| Cause {
            peer: self.peer,
            why,
        })
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.busy = 0;
        state.rest_until = None;
        drop(state);
        self.now_is(Standing::Proven);
    }

    /// One trouble strikes all lanes at once: requests that began before the last failure count
    /// with it.
    fn failed(&self, error: &RequestError, began: Instant) {
        let mut state = self.state();
        state.why = Some(error.to_string());
        if state.last_failure.is_some_and(|last| began <= last) {
            return;
        }
        let now = Instant::now();
        state.last_failure = Some(now);
        let rest = if *error == RequestError::Busy {
            state.busy += 1;
            pause(
                state.busy.min(5),
                Duration::from_millis(50),
                Duration::from_secs(1),
            )
        } else {
            state.failures += 1;
            pause(
                state.failures,
                Duration::from_millis(250),
                Duration::from_secs(8),
            )
        };
        state.rest_until = Some(now + rest);
        let hopeless = matches!(
            error,
            RequestError::NotAPeer
                | RequestError::Unsupported
                | RequestError::Malformed(_)
                | RequestError::ShutDown
        );
        if hopeless || state.failures >= FAILURES || state.busy >= BUSY {
            self.now_is(Standing::LeftOut);
        }
    }

    fn lied(&self, offence: Offence) {
        self.state().why = Some(match offence {
            Offence::BadOutline => "it sent an outline that is not the blob's".into(),
            _ => "it sent a chunk that is not the blob's".into(),
        });
        self.now_is(Standing::LeftOut);
    }
}

/// The pause before attempt `attempt` (from 1): doubled each time, and up to half of it random.
fn pause(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let full = first
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(longest);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
