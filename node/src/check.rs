//! The structural check of a contribution: cheapest first, and nothing is allocated that a peer's number decides
//! before that number has been checked.

use weal_kernels::{Contribution, Error, decode};
use weal_proto::{BlobHeader, LayoutHash, PeerId, RoundNumber, RunId, StateRoot, Verdict};

use crate::model::Plan;

/// What a contribution must be, by its commitment and its round.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The round.
    pub round: RoundNumber,
    /// Who contributed.
    pub peer: PeerId,
    /// Length of the blob in bytes.
    pub blob_bytes: u64,
    /// State root of the weights the training started from.
    pub base_root: StateRoot,
}

/// Examines a blob that was fetched for a commitment.
///
/// # Errors
/// The verdict that this voter attests.
pub fn contribution(plan: &Plan, run: RunId, codec: u32, claim: &Claim, blob: &[u8]) -> Result<Contribution, Verdict> {
    if blob.len() as u64 != claim.blob_bytes || blob.len() > plan.max_blob_bytes {
        return Err(Verdict::WrongSize);
    }
    let (header, body) = BlobHeader::split(blob).map_err(|_| Verdict::WrongHeader)?;
    if header.base_root != claim.base_root {
        return Err(Verdict::WrongBase);
    }
    let expected = BlobHeader {
        run,
        round: claim.round,
        peer: claim.peer,
        base_root: claim.base_root,
        layout: LayoutHash::from(plan.layout.hash()),
        codec,
    };
    if header != expected {
        return Err(Verdict::WrongHeader);
    }
    decode(&plan.layout, &plan.compression, body, plan.max_blob_bytes).map_err(verdict)
}

fn verdict(error: Error) -> Verdict {
    tracing::debug!(%error, "a contribution does not decode");
    if matches!(error, Error::Scale { .. }) { Verdict::BadValues } else { Verdict::Malformed }
}
