//! The structural check of a contribution. The cheapest tests come first, and a number from a peer
//! decides about an allocation only after it was checked.

use weal_kernels::{Contribution, Error as CodecError, decode};
use weal_proto::{BlobHeader, Commitment, LayoutHash, PeerId, RunId, Verdict};

use crate::plan::Plan;

/// Why a contribution was not found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What this voter attests.
    pub verdict: Verdict,
    /// The name under which the metrics count it.
    pub cause: &'static str,
    /// What is wrong, for people.
    pub why: String,
}

impl Refusal {
    pub(crate) fn new(verdict: Verdict, cause: &'static str, why: impl Into<String>) -> Self {
        Self {
            verdict,
            cause,
            why: why.into(),
        }
    }
}

/// What a contribution is checked against, besides its commitment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub plan: &'a Plan,
    pub run: RunId,
    /// Version of the contribution codec.
    pub codec: u32,
}

impl Check<'_> {
    /// Examines the blob that was fetched for a peer's commitment.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(crate) fn contribution(
        &self,
        peer: PeerId,
        commitment: &Commitment,
        blob: &[u8],
    ) -> Result<Contribution, Refusal> {
        let plan = self.plan;
        if blob.len() as u64 != commitment.blob_bytes || blob.len() > plan.max_blob_bytes {
            let why = format!(
                "{} bytes; the commitment says {}, and at most {} are allowed",
                blob.len(),
                commitment.blob_bytes,
                plan.max_blob_bytes
            );
            return Err(Refusal::new(Verdict::WrongSize, "contribution_size", why));
        }
        let wrong_header =
            |why: String| Refusal::new(Verdict::WrongHeader, "contribution_header", why);
        let (header, body) =
            BlobHeader::split(blob).map_err(|error| wrong_header(error.to_string()))?;
        if header.base_root != commitment.base_root {
            let why = "its base root is not the committed one";
            return Err(Refusal::new(Verdict::WrongBase, "contribution_base", why));
        }
        let expected = BlobHeader {
            run: self.run,
            round: commitment.round,
            peer,
            base_root: commitment.base_root,
            layout: LayoutHash::from(plan.layout.hash()),
            codec: self.codec,
        };
        if header != expected {
            return Err(wrong_header(
                "its header names another run, round, peer, model or codec".into(),
            ));
        }
        let decoded = decode(&plan.layout, &plan.compression, body, plan.max_blob_bytes)
            .map_err(|error| undecodable(&error))?;
        if decoded.values() == 0 {
            let why = "it holds no values";
            return Err(Refusal::new(Verdict::Empty, "contribution_empty", why));
        }
        Ok(decoded)
    }
}

fn undecodable(error: &CodecError) -> Refusal {
    let (verdict, cause) = match error {
        CodecError::Scale { .. } => (Verdict::BadValues, "contribution_scale"),
        CodecError::BodyTooLong { .. } => (Verdict::Malformed, "contribution_too_long"),
        CodecError::BodyTooShort { .. } => (Verdict::Malformed, "contribution_too_short"),
        CodecError::IndexOutOfRange { .. } => (Verdict::Malformed, "contribution_index"),
        CodecError::Padding { .. } => (Verdict::Malformed, "contribution_padding"),
        CodecError::TrailingBytes { .. } => (Verdict::Malformed, "contribution_trailing_bytes"),
        _ => (Verdict::Malformed, "contribution_malformed"),
    };
    Refusal::new(verdict, cause, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_kernels::{Compression, Layout, TensorSpec};

    #[test]
    fn a_contribution_that_cannot_be_decoded_is_counted_by_its_cause() {
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
        // A complete body is 1c 01 42: see docs/protocol/contribution.md.
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
