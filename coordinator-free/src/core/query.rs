//! What others may look at.

use std::collections::BTreeSet;

use weal_proto::{Envelope, Message as _, PeerId, RoundNumber, limits};

use super::Core;
use crate::interface::view::{CoreView, PeerView};
use crate::rules::chain::Chain;

/// Bytes of one answer to a request for a round's messages.
const ANSWER_BYTES: usize = limits::RESPONSE_BYTES * 3 / 4;

impl Core {
    /// The decided history.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Every signed message of a round: what a peer gets that asks for what it missed. Empty for
    /// all rounds but the running one: of decided ones the decision is all that matters.
    ///
    /// At most [`limits::ROUND_MESSAGES`] messages that fit into one response. What others need
    /// first comes first: what the agreement is about, then the votes of the newest views.
    pub fn round_messages(&self, round: RoundNumber) -> Vec<Envelope> {
        if round != self.chain.round() {
            return Vec::new();
        }
        let held = &self.round;
        let attestations = held.attestations.values().map(|(envelope, _)| envelope);
        let proposals = held.proposals.values().rev();
        let proofs = held
            .view_certificates
            .values()
            .map(|(_, envelope)| envelope);
        let votes = held.votes.values().rev();
        let contradictions = self
            .evidence
            .values()
            .flat_map(|pair| [&pair.first, &pair.second]);
        let commitments = held.commitments.values().map(|signed| &signed.envelope);
        let all = attestations
            .chain(commitments)
            .chain(proposals)
            .chain(proofs)
            .chain(votes)
            .chain(self.leaves.values())
            .chain(contradictions);

        let mut room = ANSWER_BYTES;
        all.take(limits::ROUND_MESSAGES)
            .take_while(|envelope| {
                match room.checked_sub(envelope.encode().len().saturating_add(8)) {
                    Some(left) => {
                        room = left;
                        true
                    }
                    None => false,
                }
            })
            .cloned()
            .collect()
    }

    /// A snapshot for status pages.
    pub fn view(&self) -> CoreView {
        let agreement = self.engine.as_ref().and_then(|engine| engine.view());
        CoreView {
            round: self.chain.round(),
            weights_round: self.weights.map(|weights| weights.round),
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
