//! A state of the run that a link names, from which somebody begins who trusts the link.

use std::sync::Arc;

use weal_coordinator_free::Chain;
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
        Chain::restore(Arc::new(manifest.clone()), &snapshot)
            .map_err(|error| wrong(error.to_string()))?;
        if snapshot.round != self.round {
            return Err(wrong(format!("it is that of round {}", snapshot.round)));
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::new_run::{NewRun, RunFile};

    #[test]
    fn a_state_of_another_round_run_or_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = |founder: u8| {
            let founder = weal_proto::SigningKey::from_seed([founder; 32]).peer();
            let run = NewRun::from_file(&RunFile::default(), dir.path(), founder, Path::new("run"));
            run.unwrap().manifest
        };
        let (ours, others) = (manifest(1), manifest(2));
        let state = |of: &Manifest| Chain::genesis(Arc::new(of.clone())).snapshot();
        let open = |round: u64, snapshot: &ChainSnapshot| {
            let anchor = Anchor {
                round: RoundNumber(round),
                state: [0; 32].into(),
            };
            anchor.open(&ours, &snapshot.encode()).is_ok()
        };
        let good = state(&ours);
        let rules = good.rules + 1;
        assert!(open(0, &good));
        assert!(!open(32, &good));
        assert!(!open(0, &state(&others)));
        assert!(!open(0, &ChainSnapshot { rules, ..good }));
    }
}
