//! What other parts of the program may read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weal_proto::{Envelope, Message as _, PeerId, RoundNumber, ViewCertificate, limits};

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

    /// Whether this node may not sign yet, because it has no record of the run and has not heard of
    /// it: see [`Recovered::genesis`](crate::Recovered::genesis).
    pub fn waits_to_hear(&self) -> bool {
        !self.fresh_start.may_sign(&self.chain)
    }

    /// Every signed message of a round, for a peer that asks what it missed. Empty for all rounds
    /// but the running one: of a decided round, only the decision matters.
    ///
    /// Returns at most [`limits::ROUND_MESSAGES`] messages, and at most `max_bytes` on the wire:
    /// each message counts its encoded envelope and 8 bytes of framing. One message of each kind
    /// follows the other, those of the heaviest voters first, so that neither a crowd without a
    /// vote nor one kind of message keeps the others out.
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
        one_of_each(self.messages_by_kind())
            .filter(|envelope| fits(envelope))
            .take(limits::ROUND_MESSAGES)
            .cloned()
            .collect()
    }

    /// The messages of each kind, in the order in which peers need them.
    fn messages_by_kind(&self) -> Vec<VecDeque<&Envelope>> {
        let round = &self.round;
        let closed = round.closed.values().chain(round.recoveries.values());
        let commitments = round.commitments.values().map(|signed| &signed.envelope);
        let certificates = round
            .view_certificates
            .values()
            .map(|(_, envelope)| envelope);
        let evidence = self
            .evidence
            .values()
            .flat_map(|pair| [&pair.first, &pair.second]);
        vec![
            self.heaviest_first(closed),
            self.newest_attempts_first(),
            self.heaviest_first(commitments),
            round.proposals.values().rev().collect(),
            one_of_each_proof(certificates),
            round.votes.values().rev().collect(),
            self.heaviest_first(self.leaves.values()),
            self.tickets.values().collect(),
            self.late.values().collect(),
            evidence.collect(),
        ]
    }

    /// Attestations of the newest attempt, then those of earlier ones: a peer that was away follows
    /// to the newest.
    fn newest_attempts_first(&self) -> VecDeque<&Envelope> {
        let roster = self.chain.ledger().roster();
        let mut attestations: Vec<_> = self.round.attestations.iter().collect();
        attestations.sort_by_key(|((attempt, peer), _)| Reverse((*attempt, roster.weight(peer))));
        let envelopes = attestations.into_iter().map(|(_, (envelope, _))| envelope);
        envelopes.collect()
    }

    fn heaviest_first<'a>(
        &self,
        messages: impl Iterator<Item = &'a Envelope>,
    ) -> VecDeque<&'a Envelope> {
        let roster = self.chain.ledger().roster();
        let mut messages: Vec<_> = messages.collect();
        messages.sort_by_key(|envelope| Reverse(roster.weight(&envelope.signer)));
        messages.into()
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
        let (members, newcomers) = self.expected_committers();
        let coefficients = ledger.coefficients_ppm(&self.chain.manifest().trust);
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
                measured: account.standing.measured,
                coefficient_ppm: coefficients.get(&peer).copied().unwrap_or(0),
                member: account.member,
                banned: account.banned,
                placed: self.chain.places().slot_of(&peer).is_some(),
                expected: members.contains(&peer) || newcomers.contains(&peer),
                committed: self.round.has_committed(&peer),
                attested: self.round.has_attested(&peer),
            }
        };
        known.into_iter().map(view).collect()
    }
}

/// One certificate of each view and kind, the newest first: each proves as much as any other.
fn one_of_each_proof<'a>(
    certificates: impl Iterator<Item = &'a Envelope>,
) -> VecDeque<&'a Envelope> {
    let proof = |envelope: &'a Envelope| {
        let certificate: ViewCertificate = envelope.open().ok()?;
        let kind = (certificate.polka, certificate.precommits);
        Some(((certificate.view, kind), envelope))
    };
    let proofs: BTreeMap<_, _> = certificates.filter_map(proof).collect();
    proofs.into_values().rev().collect()
}

/// One message of each kind in turn, until there are none.
fn one_of_each(mut kinds: Vec<VecDeque<&Envelope>>) -> impl Iterator<Item = &Envelope> {
    let mut turn = 0;
    std::iter::from_fn(move || {
        let count = kinds.len();
        let kind = (turn..turn + count)
            .map(|kind| kind % count)
            .find(|kind| kinds.get(*kind).is_some_and(|kind| !kind.is_empty()))?;
        turn = kind + 1;
        kinds.get_mut(kind)?.pop_front()
    })
}

#[cfg(test)]
mod tests {
    use weal_proto::{Leave, RunId, SigningKey, View};

    use super::*;

    #[test]
    fn one_proof_of_each_view_and_kind_is_enough() {
        let run = RunId::from([1; 32]);
        let proof = |signer: u8, view: u32, polka: bool| {
            let certificate = ViewCertificate {
                round: RoundNumber(0),
                view: View(view),
                polka,
                value: None,
                signatures: Vec::new(),
                precommits: false,
            };
            Envelope::sign(&SigningKey::from_seed([signer; 32]), run, &certificate)
        };
        let all = [
            proof(1, 3, false),
            proof(2, 3, false),
            proof(1, 4, true),
            proof(3, 4, true),
            proof(2, 4, false),
        ];
        let kept = one_of_each_proof(all.iter());
        let kept: Vec<_> = kept.into_iter().map(|it| it.open().unwrap()).collect();
        let found = kept
            .iter()
            .map(|it: &ViewCertificate| (it.view.0, it.polka));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [(4, true), (4, false), (3, false)]
        );
    }

    #[test]
    fn no_kind_of_message_keeps_the_others_out() {
        let run = RunId::from([1; 32]);
        let message = |round| {
            let round = RoundNumber(round);
            Envelope::sign(&SigningKey::from_seed([2; 32]), run, &Leave { round })
        };
        let messages: Vec<_> = (0..6).map(message).collect();
        let [a, b, c, d, e, f] = &messages[..] else {
            panic!("six messages")
        };
        let kinds = vec![
            vec![a, b, c].into(),
            vec![].into(),
            vec![d, e].into(),
            vec![f].into(),
        ];
        let order: Vec<_> = one_of_each(kinds).collect();
        assert_eq!(order, [a, d, f, b, e, c]);
    }
}
