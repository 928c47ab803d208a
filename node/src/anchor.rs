//! A state of the run that a link names, from which somebody begins who trusts the link.

use weal_proto::{BlobHash, ChainSnapshot, Manifest, Message, RoundNumber};

use crate::error::{Error, Result};

/// What was decided before a round, by the hash of its snapshot. All nodes compute the same
/// snapshot, so they agree on the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The first round that is not part of it.
    pub round: RoundNumber,
    /// The snapshot's blob hash.
    pub state: BlobHash,
}

impl Anchor {
    /// Decodes the snapshot, whose hash was checked.
    ///
    /// # Errors
    /// When it is none, or of another round, run or version. Then the link is wrong, whoever sent
    /// the bytes.
    pub(crate) fn open(&self, manifest: &Manifest, bytes: &[u8]) -> Result<ChainSnapshot> {
        let wrong = |why: String| {
            Error::link(format!(
                "the state that the link names for round {} cannot be used: {why}",
                self.round
            ))
            .with_hint("ask for another link, or leave `round` and `state` out of this one")
        };
        let snapshot = ChainSnapshot::decode(bytes).map_err(|error| wrong(error.to_string()))?;
        let found = (snapshot.run, snapshot.round);
        if found != (manifest.run(), self.round) {
            return Err(wrong(format!(
                "it is that of round {} of run {}",
                found.1,
                found.0.short()
            )));
        }
        Ok(snapshot)
    }
}
