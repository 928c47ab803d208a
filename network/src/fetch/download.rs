//! One fetch: first the outline, then the chunks.

use std::collections::HashSet;
use std::iter;
use std::time::{Duration, Instant};

use futures::future::{join_all, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::bytes::Bytes;
use tokio::time::sleep;
use weal_proto::{BlobHash, BlobPart, Outline};

use super::chunks::ChunkSchedule;
use super::holder::{Holder, pause};
use crate::blob_protocol;
use crate::error::{Cause, FetchError, RequestError};
use crate::identity::PeerKey;
use crate::protocols::Exchange;
use crate::reputation::Offence;
use crate::requester::Requester;

/// Lanes of one fetch per holder.
const LANES_PER_HOLDER: usize = 4;
/// Limit on the holders of one fetch.
const HOLDERS: usize = 32;
/// Time after which the next holder is asked for the outline as well.
const PATIENCE: Duration = Duration::from_secs(2);
/// Attempts to get the outline from any holder, with a pause between them.
const OUTLINE_ATTEMPTS: u32 = 4;

/// See [`Network::fetch_blob`](crate::Network::fetch_blob).
pub(crate) async fn fetch(
    requester: &Requester,
    hash: BlobHash,
    max_bytes: u64,
    holders: Vec<PeerKey>,
) -> Result<Vec<u8>, FetchError> {
    let mut seen = HashSet::from([requester.local()]);
    let holders: Vec<_> = holders
        .into_iter()
        .filter(|holder| seen.insert(*holder))
        .take(HOLDERS)
        .collect();
    if holders.is_empty() {
        return Err(FetchError::NoHolders { hash });
    }
    let download = Download {
        requester,
        hash,
        holders: holders.into_iter().map(Holder::new).collect(),
    };
    let outline = download.outline().await?;
    if outline.bytes > max_bytes {
        return Err(FetchError::TooLarge {
            hash,
            bytes: outline.bytes,
            limit: max_bytes,
        });
    }
    download.chunks(outline).await
}

struct Download<'a> {
    requester: &'a Requester,
    hash: BlobHash,
    holders: Vec<Holder>,
}

impl Download<'_> {
    async fn outline(&self) -> Result<Outline, FetchError> {
        for attempt in 0..OUTLINE_ATTEMPTS {
            if attempt > 0 {
                sleep(pause(
                    attempt,
                    Duration::from_millis(250),
                    Duration::from_secs(4),
                ))
                .await;
            }
            if let Some(outline) = self.outline_from_any().await {
                return Ok(outline);
            }
            if self.holders.iter().all(|holder| holder.is_excluded()) {
                break;
            }
        }
        Err(self.failure(|hash, causes| FetchError::NotFound { hash, causes }))
    }

    /// Asks one holder after the other. If an answer takes longer than [`PATIENCE`], asks the next
    /// one as well.
    async fn outline_from_any(&self) -> Option<Outline> {
        let mut next = self.holders.iter().filter(|holder| !holder.is_excluded());
        let mut asked: FuturesUnordered<_> = next
            .next()
            .map(|holder| self.outline_from(holder))
            .into_iter()
            .collect();
        loop {
            tokio::select! {
                answer = asked.next() => match answer {
                    Some(Some(outline)) => return Some(outline),
                    Some(None) => {
                        if asked.is_empty() {
                            asked.push(self.outline_from(next.next()?));
                        }
                    }
                    None => return None,
                },
                () = sleep(PATIENCE) => {
                    if let Some(holder) = next.next() {
                        asked.push(self.outline_from(holder));
                    }
                }
            }
        }
    }

    async fn outline_from(&self, holder: &Holder) -> Option<Outline> {
        let began = Instant::now();
        match self.ask(holder, BlobPart::Outline).await {
            Ok(answer) => {
                let outline = blob_protocol::decode_outline(&self.hash, &answer);
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
            self.failure(|hash, causes| FetchError::Incomplete {
                hash,
                missing,
                causes,
            })
        })
    }

    /// The first lane checks that the holder has the blob, by asking for the outline. Otherwise a
    /// chunk could wait for holders without the blob while another one is idle.
    async fn first_lane(&self, holder: &Holder, schedule: &ChunkSchedule) {
        while !holder.is_proven() {
            sleep(holder.rest()).await;
            if holder.is_excluded() {
                return;
            }
            self.outline_from(holder).await;
        }
        self.lane(holder, schedule).await;
    }

    /// The other lanes start once the holder has proven that it has the blob.
    async fn further_lane(&self, holder: &Holder, schedule: &ChunkSchedule) {
        if holder.proven().await {
            self.lane(holder, schedule).await;
        }
    }

    /// Fetches one chunk after the other from one holder, until the blob is complete or the holder
    /// is excluded.
    async fn lane(&self, holder: &Holder, schedule: &ChunkSchedule) {
        loop {
            sleep(holder.rest()).await;
            if holder.is_excluded() || !schedule.wanted().await {
                return;
            }
            let Some(slot) = self.requester.slot(holder.peer).await else {
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

    async fn ask(&self, holder: &Holder, part: BlobPart) -> Result<Bytes, RequestError> {
        let _slot = self
            .requester
            .slot(holder.peer)
            .await
            .ok_or(RequestError::ShutDown)?;
        self.ask_now(holder, part).await
    }

    async fn ask_now(&self, holder: &Holder, part: BlobPart) -> Result<Bytes, RequestError> {
        let request = blob_protocol::request(self.hash, part).into();
        self.requester
            .request(Exchange::Blob, holder.peer, request)
            .await
    }

    /// Excludes a holder that sent wrong bytes, and reports the offence.
    async fn blame(&self, holder: &Holder, offence: Offence) {
        holder.lied(offence);
        self.requester.offended(holder.peer, offence).await;
    }

    fn failure(&self, error: impl FnOnce(BlobHash, Vec<Cause>) -> FetchError) -> FetchError {
        if self.requester.is_shut_down() {
            return FetchError::ShutDown;
        }
        error(
            self.hash,
            self.holders.iter().filter_map(Holder::cause).collect(),
        )
    }
}
