//! What other parts of the program may read.

use std::collections::BTreeSet;

use weal_proto::{Envelope, Message as _, PeerId, RoundNumber, limits};

use super::Core;
use crate::interface::view::{CoreView, PeerView};
use crate::rules::chain::Chain;

/// The most bytes that a response needs around each encoded envelope: a field tag and a length.
const FRAME_BYTES: usize = 8;

impl Core {
    /// The decided history.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Every signed message of a round, for a peer that asks what it missed. Empty for all rounds
    /// but the running one: of a decided round, only the decision matters.
    ///
    /// Returns at most [`limits::ROUND_MESSAGES`] messages, and at most `max_bytes` on the wire:
    /// each message counts its encoded envelope and 8 bytes of framing. What peers need first comes
    /// first: what voters decide about, and then the votes of the newest views.
    pub fn round_messages(&self, round: RoundNumber, max_bytes: usize) -> Vec<Envelope> {
        if round != self.chain.round() {
            return Vec::new();
        }
        let mut bytes_left = max_bytes;
        let mut fits = |envelope: &&Envelope| {
            let bytes = envelope.encode().len().saturating_add(FRAME_BYTES);
            let left = bytes_left.checked_sub(bytes);
            bytes_left = left.unwrap_or(bytes_left);
            left.is_some()
        };
        self.messages_by_urgency()
            .take(limits::ROUND_MESSAGES)
            .take_while(|envelope| fits(envelope))
            .cloned()
            .collect()
    }

    fn messages_by_urgency(&self) -> impl Iterator<Item = &Envelope> {
        let round = &self.round;
        let attestations = round.attestations.values().map(|(envelope, _)| envelope);
        let commitments = round.commitments.values().map(|signed| &signed.envelope);
        let proposals = round.proposals.values().rev();
        let certificates = round.view_certificates.values();
        let certificates = certificates.map(|(_, envelope)| envelope);
        let votes = round.votes.values().rev();
        let evidence = self
            .evidence
            .values()
            .flat_map(|pair| [&pair.first, &pair.second]);
        attestations
            .chain(commitments)
            .chain(proposals)
            .chain(certificates)
            .chain(votes)
            .chain(self.leaves.values())
            .chain(evidence)
    }

    /// A snapshot for status pages.
    pub fn view(&self) -> CoreView {
        let agreement = self.engine.as_ref().and_then(|engine| engine.view());
        CoreView {
            round: self.chain.round(),
            weights_round: self.weight_sync.held().map(|weights| weights.round),
            phase: self.round.phase,
            phase_ends: self.round.phase_ends,
            seed: self.chain.seed(),
            view: agreement.map(|(view, _)| view),
            proposer: agreement.map(|(_, proposer)| proposer),
            peers: self.peers(),
            total_weight: self.chain.ledger().roster().total(),
            leaving: self.leaving,
        }
    }

    fn peers(&self) -> Vec<PeerView> {
        let ledger = self.chain.ledger();
        let expected = self.expected_committers();
        let known = ledger
            .iter()
            .map(|(peer, _)| peer)
            .chain(self.round.commitments.keys().copied());
        let known: BTreeSet<PeerId> = known.collect();
        let view = |peer: PeerId| {
            let account = ledger.account(&peer).copied().unwrap_or_default();
            PeerView {
                peer,
                voting_weight: weal_proto::Weight(ledger.roster().weight(&peer)),
                weight: weal_proto::Weight(account.weight),
                contributions: account.contributions,
                member: account.member,
                banned: account.banned,
                expected: expected.contains(&peer),
                committed: self.round.has_committed(&peer),
                attested: self.round.attestations.contains_key(&peer),
            }
        };
        known.into_iter().map(view).collect()
    }
}
