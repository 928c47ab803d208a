//! Fetches the state that a run link names, from which a newcomer begins instead of the manifest.

use std::time::Duration;

use weal_network::{Priority, Want};
use weal_proto::{ChainSnapshot, Manifest, limits};

use super::fetch::Newcomer;
use crate::anchor::Anchor;
use crate::error::Result;

/// How long the node looks for a peer that has the state.
const PATIENCE: Duration = Duration::from_secs(20);

impl Newcomer<'_> {
    /// The state that the link names. `None` if it names none, or no peer has it: then the newcomer
    /// begins with the manifest.
    ///
    /// # Errors
    /// When it is not a state of the run: somebody made up the link.
    pub(super) async fn state_of_link(&self, manifest: &Manifest) -> Result<Option<ChainSnapshot>> {
        let Some(anchor) = self.link.anchor else {
            return Ok(None);
        };
        let Anchor { round, state } = anchor;
        let want = Want {
            blob: state,
            max_bytes: limits::SNAPSHOT_BYTES as u64,
            priority: Priority::State,
            holders: Vec::new(),
            patience: self.patience.map_or(PATIENCE, |most| most.min(PATIENCE)),
        };
        match self.network.fetch(want).await {
            Ok(bytes) => {
                let snapshot = anchor.open(manifest, &bytes)?;
                self.tell(format!(
                    "beginning with the state before round {round}, which the link names"
                ));
                Ok(Some(snapshot))
            }
            Err(error) => {
                self.warn(format!(
                    "the state before round {round}, which the link names, could not be fetched: \
                     {error}; checking all rounds from the manifest on"
                ));
                Ok(None)
            }
        }
    }
}
