//! The structural check of a contribution: cheapest first, and nothing is allocated that a peer's
//! number decides before that number has been checked.

use weal_kernels::{Contribution, Error, decode};
use weal_proto::{BlobHeader, LayoutHash, PeerId, RoundNumber, RunId, StateRoot, Verdict};

use crate::plan::Plan;

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

/// Why a contribution was not found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What this voter attests.
    pub verdict: Verdict,
    /// What it is counted under.
    pub cause: &'static str,
    /// What is wrong, for people.
    pub why: String,
}

impl Refusal {
    /// A refusal for that reason.
    pub fn new(verdict: Verdict, cause: &'static str, why: impl Into<String>) -> Self {
        Self {
            verdict,
            cause,
            why: why.into(),
        }
    }
}

/// Examines a blob that was fetched for a commitment.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn contribution(
    plan: &Plan,
    run: RunId,
    codec: u32,
    claim: &Claim,
    blob: &[u8],
) -> Result<Contribution, Refusal> {
    if blob.len() as u64 != claim.blob_bytes || blob.len() > plan.max_blob_bytes {
        let why = format!(
            "{} bytes, {} committed to, at most {}",
            blob.len(),
            claim.blob_bytes,
            plan.max_blob_bytes
        );
        return Err(Refusal::new(Verdict::WrongSize, "contribution_size", why));
    }
    let wrong_header = |why: String| Refusal::new(Verdict::WrongHeader, "contribution_header", why);
    let (header, body) =
        BlobHeader::split(blob).map_err(|error| wrong_header(error.to_string()))?;
    if header.base_root != claim.base_root {
        let why = "it starts from other weights than it was committed to with";
        return Err(Refusal::new(Verdict::WrongBase, "contribution_base", why));
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
        return Err(wrong_header(
            "the header is not that of this run, round, peer, model and codec".into(),
        ));
    }
    decode(&plan.layout, &plan.compression, body, plan.max_blob_bytes)
        .map_err(|error| undecodable(&error))
}

fn undecodable(error: &Error) -> Refusal {
    let (verdict, cause) = match error {
        Error::Scale { .. } => (Verdict::BadValues, "contribution_scale"),
        Error::BodyTooLong { .. } => (Verdict::Malformed, "contribution_too_long"),
        Error::BodyTooShort { .. } => (Verdict::Malformed, "contribution_too_short"),
        Error::IndexOutOfRange { .. } => (Verdict::Malformed, "contribution_index"),
        Error::Padding { .. } => (Verdict::Malformed, "contribution_padding"),
        Error::TrailingBytes { .. } => (Verdict::Malformed, "contribution_trailing_bytes"),
        _ => (Verdict::Malformed, "contribution_malformed"),
    };
    Refusal::new(verdict, cause, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_kernels::{Compression, Layout, TensorSpec};

    #[test]
    fn what_does_not_decode_is_counted_by_its_cause() {
        let layout = Layout::new(vec![TensorSpec::new("w", [8])]).unwrap();
        let compression = Compression {
            chunk: 8,
            keep: 2,
            decay_ppm: 0,
        };
        let refusal = |body: &[u8]| {
            let refusal = undecodable(&decode(&layout, &compression, body, 4).unwrap_err());
            (refusal.verdict, refusal.cause)
        };
        // A whole body is 1c 01 42: see docs/protocol/contribution.md.
        assert!(decode(&layout, &compression, &[0x1c, 0x01, 0x42], 4).is_ok());
        let malformed = |cause| (Verdict::Malformed, cause);
        assert_eq!(refusal(&[0; 5]), malformed("contribution_too_long"));
        assert_eq!(refusal(&[0x1c, 0x01]), malformed("contribution_too_short"));
        assert_eq!(
            refusal(&[0x1c, 0x01, 0x02, 0x01]),
            malformed("contribution_index")
        );
        assert_eq!(
            refusal(&[0x1c, 0x05, 0x42]),
            malformed("contribution_padding")
        );
        assert_eq!(
            refusal(&[0x1c, 0x01, 0x42, 0x00]),
            malformed("contribution_trailing_bytes")
        );
        assert_eq!(
            refusal(&[0x02, 0x01, 0x42]),
            (Verdict::BadValues, "contribution_scale")
        );
    }
}
