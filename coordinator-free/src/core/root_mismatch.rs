//! Own weights that others do not share.
//!
//! A decision names the weights it starts from, so damaged ones are found out at the latest by the
//! next decision. But an attestation from damaged weights is given once and for all: with more than
//! a third of the weight behind such ones, the round could never be decided. So a peer looks at
//! what others train from before it attests.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{PeerId, StateRoot};

use super::Core;
use crate::interface::event::Event;
use crate::interface::view::Phase;

impl Core {
    /// Gets the weights of most voters and starts the round over, when own ones differ from them.
    /// True when it does.
    pub(super) fn starts_over(&mut self) -> bool {
        let (Some(own), Some(others)) = (self.own_root(), self.root_of_most()) else {
            return false;
        };
        if own == others {
            return false;
        }
        let round = self.chain.round();
        self.report(Event::RootMismatch { round, own, others });
        self.stop_training();
        self.weights = None;
        self.enter(Phase::Waiting, None);
        self.fetch_weights(round, others);
        true
    }

    /// The base root that voters of more than half the weight speak of: some of them are honest.
    fn root_of_most(&self) -> Option<StateRoot> {
        let mut speakers: BTreeMap<StateRoot, BTreeSet<PeerId>> = BTreeMap::new();
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
            speakers.entry(root).or_default().insert(*peer);
        }
        let roster = self.chain.ledger().roster();
        let half = u128::from(roster.total().0) / 2;
        speakers
            .into_iter()
            .find(|(_, peers)| roster.weigh(peers) > half)
            .map(|(root, _)| root)
    }
}
