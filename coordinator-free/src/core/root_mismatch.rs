//! Noticing that our weights differ from the voters'.
//!
//! A decision names the weights that it starts from, so the next decision exposes damaged weights
//! at the latest. But a member attests only once in a round: if members with more than a third of
//! the weight attested from damaged weights, nobody could decide the round. So a node compares its
//! weights with those that others train from before it attests.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{PeerId, StateRoot};

use super::Core;
use super::weight_sync::Weights;
use crate::interface::event::Event;
use crate::interface::view::Phase;

impl Core {
    /// If most voters start from other weights, discards ours, fetches theirs and restarts the
    /// round. Returns whether it does.
    pub(super) fn restart_if_weights_differ(&mut self) -> bool {
        let (Some(ours), Some(theirs)) = (self.base_root(), self.majority_root()) else {
            return false;
        };
        if ours == theirs {
            return false;
        }
        let round = self.chain.round();
        self.report(Event::RootMismatch {
            round,
            ours,
            theirs,
        });
        self.stop_training();
        self.enter(Phase::Waiting, None);
        let target = Weights {
            round,
            root: theirs,
        };
        self.weight_sync.discard(target);
        self.fetch_weights(target);
        true
    }

    /// The base root that voters with more than half the weight name. Some of them are honest.
    fn majority_root(&self) -> Option<StateRoot> {
        let mut peers_by_root: BTreeMap<StateRoot, BTreeSet<PeerId>> = BTreeMap::new();
        let committed = self
            .round
            .commitments
            .iter()
            .map(|(peer, signed)| (peer, signed.commitment.base_root));
        let attested = self
            .round
            .attestations
            .iter()
            .map(|(peer, (_, attestation))| (peer, attestation.base_root));
        for (peer, root) in committed.chain(attested) {
            peers_by_root.entry(root).or_default().insert(*peer);
        }
        let roster = self.chain.ledger().roster();
        let half = u128::from(roster.total().0) / 2;
        peers_by_root
            .into_iter()
            .find(|(_, peers)| roster.weigh(peers) > half)
            .map(|(root, _)| root)
    }
}
