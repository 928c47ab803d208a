//! The structural check of a contribution: cheapest first, and nothing is allocated that a peer's number decides
//! before that number has been checked.

use weal_coordinator_free::Fetch;
use weal_kernels::{Contribution, Error, decode};
use weal_proto::{BlobHeader, LayoutHash, RunId, Verdict};

use crate::model::Plan;

/// Examines a blob that was fetched for a commitment.
///
/// # Errors
/// The verdict that this voter attests.
pub fn contribution(plan: &Plan, run: RunId, codec: u32, fetch: &Fetch, blob: &[u8]) -> Result<Contribution, Verdict> {
    if blob.len() as u64 != fetch.blob_bytes || blob.len() > plan.max_body_bytes {
        return Err(Verdict::WrongSize);
    }
    let (header, body) = BlobHeader::split(blob).map_err(|_| Verdict::WrongHeader)?;
    if header.base_root != fetch.base_root {
        return Err(Verdict::WrongBase);
    }
    let expected = BlobHeader {
        run,
        round: fetch.round,
        peer: fetch.peer,
        base_root: fetch.base_root,
        layout: LayoutHash::from(plan.layout.hash()),
        codec,
    };
    if header != expected {
        return Err(Verdict::WrongHeader);
    }
    decode(&plan.layout, &plan.compression, body, plan.max_body_bytes).map_err(verdict)
}

fn verdict(error: Error) -> Verdict {
    tracing::debug!(%error, "a contribution does not decode");
    if matches!(error, Error::Scale { .. }) { Verdict::BadValues } else { Verdict::Malformed }
}
