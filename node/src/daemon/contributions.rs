//! Getting the contributions of peers: fetching, checking and keeping them.
//!
//! A commitment is a stranger's word. What it names is compared with the index of blobs before
//! anything is fetched or read, every fetch ends at the close of the fetch phase, and nothing is
//! kept before it was checked. Fetches of members, of newcomers and of decided rounds have places
//! of their own, so that newcomers who are slow on purpose hold up each other only.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use weal_coordinator_free::Fetch;
use weal_kernels::Contribution;
use weal_network::Want;
use weal_proto::{Commitment, PeerId, Verdict};

use super::jobs::{Done, JobContext};
use super::places::Purpose;
use crate::check::{Check, Refusal};
use crate::store::blobs::{Holding, Keep};

impl JobContext {
    /// Gets a contribution, from disk or from peers, and checks it. Ends at the deadline.
    pub(super) async fn examine(self, fetch: Fetch, purpose: Purpose, deadline: Instant) -> Done {
        let (commitment, peer) = (fetch.hash, fetch.peer);
        let examined = self.obtain(peer, &fetch.commitment, purpose);
        let refusal = match tokio::time::timeout_at(deadline.into(), examined).await {
            Ok(Ok(contribution)) => {
                let (round, contribution) = (fetch.commitment.round, Arc::new(contribution));
                self.examined()
                    .keep(fetch.commitment.blob, round, contribution);
                None
            }
            Ok(Err(refusal)) => Some(refusal),
            Err(_) => Some(unavailable("it did not arrive within the fetch phase")),
        };
        Done::Examined {
            commitment,
            peer,
            refusal,
        }
    }

    /// A peer's contribution, which is stored here from now on.
    ///
    /// # Errors
    /// Why it cannot be had, or is not valid.
    pub(super) async fn obtain(
        &self,
        peer: PeerId,
        commitment: &Commitment,
        purpose: Purpose,
    ) -> Result<Contribution, Refusal> {
        if commitment.blob_bytes > self.plan.max_blob_bytes as u64 {
            return Err(self.too_long(commitment));
        }
        let place = self.places.take(purpose, commitment.blob_bytes).await;
        let place = place.ok_or_else(|| unavailable("the node is stopping"))?;
        let (hash, bytes) = (&commitment.blob, commitment.blob_bytes);
        match self.blobs.holding(hash, commitment.round, bytes) {
            Holding::Nothing => {}
            Holding::Contribution => {
                if let Some(found) = self.read(peer, commitment, &place).await? {
                    return Ok(found);
                }
            }
            Holding::Else => return Err(no_contribution()),
        }
        let want = Want {
            blob: *hash,
            max_bytes: bytes,
            priority: purpose.priority(),
            holders: vec![peer.into()],
            patience: purpose.patience(),
        };
        let fetched = self.network.fetch(want).await;
        let blob = fetched.map_err(|error| unavailable(error.to_string()))?;
        self.check_and_keep(peer, commitment, (blob, place)).await
    }

    /// The contribution on this node's disk. `None` if it is damaged there.
    async fn read(
        &self,
        peer: PeerId,
        commitment: &Commitment,
        _place: &OwnedSemaphorePermit,
    ) -> Result<Option<Contribution>, Refusal> {
        let (context, commitment) = (self.clone(), commitment.clone());
        let check = self.places.check().await;
        in_background(move || {
            let _check = check;
            match context.blobs.get(&commitment.blob) {
                Ok(Some(blob)) => context.check(peer, &commitment, &blob).map(Some),
                Ok(None) => Ok(None),
                Err(error) => {
                    tracing::warn!("a contribution is fetched again: {error:#}");
                    Ok(None)
                }
            }
        })
        .await
    }

    /// Checks what was fetched, and stores it if it is valid. What is not valid leaves nothing on
    /// disk.
    async fn check_and_keep(
        &self,
        peer: PeerId,
        commitment: &Commitment,
        (blob, place): (Vec<u8>, OwnedSemaphorePermit),
    ) -> Result<Contribution, Refusal> {
        let (context, commitment) = (self.clone(), commitment.clone());
        let check = self.places.check().await;
        in_background(move || {
            // A fetch that is cancelled meanwhile keeps its place until this thread is done.
            let _places = (place, check);
            let contribution = context.check(peer, &commitment, &blob)?;
            let keep = Keep::Round(commitment.round);
            if let Err(error) = context.blobs.put(&blob, keep, false) {
                // This disk's fault is not the peer's.
                tracing::warn!("a valid contribution could not be stored: {error:#}");
            }
            Ok(contribution)
        })
        .await
    }

    pub(super) fn check(
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

    fn too_long(&self, commitment: &Commitment) -> Refusal {
        let why = format!(
            "the commitment says {} bytes; at most {} are allowed",
            commitment.blob_bytes, self.plan.max_blob_bytes
        );
        Refusal::new(Verdict::WrongSize, "contribution_size", why)
    }
}

/// Runs a check on a thread that may block.
async fn in_background<T: Send + 'static>(
    check: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let checked = tokio::task::spawn_blocking(check).await;
    // A check that panics has met something it should have refused.
    checked.unwrap_or_else(|error| {
        let why = format!("the check failed: {error}");
        Err(Refusal::new(Verdict::Malformed, "contribution_panic", why))
    })
}

fn unavailable(why: impl Into<String>) -> Refusal {
    Refusal::new(Verdict::Unavailable, "contribution_unavailable", why)
}

/// A commitment names data of the run, its weights or an old contribution.
fn no_contribution() -> Refusal {
    Refusal::new(
        Verdict::WrongHeader,
        "contribution_not_one",
        "the blob that it names is something else, which this node has",
    )
}
