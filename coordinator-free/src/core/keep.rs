//! Keeping messages that have passed the checks.

use weal_proto::{Attestation, Envelope, Leave, PeerId, RoundNumber};

use super::Core;
use crate::agreement::{Message, Proposed, proves};
use crate::interface::event::{DropCause, Event};
use crate::rules::content::Content;
use crate::rules::round_set;

impl Core {
    /// Keeps a message of the next round. The next roster is not known yet, but whoever is on it is
    /// almost certainly a member now.
    pub(super) fn keep_early(
        &mut self,
        envelope: Envelope,
        content: &Content,
    ) -> Result<(), DropCause> {
        if matches!(content, Content::Proposal(_, None)) {
            return Err(DropCause::Malformed);
        }
        let signer = &envelope.signer;
        let newcomer = self.chain.ledger().has_ticket(signer)
            || self.chain.places().newcomers().contains(signer);
        let commits = matches!(content, Content::Commitment(_)) && newcomer;
        if !commits && !self.chain.may_attest(signer) {
            return Err(DropCause::NotMember);
        }
        self.early.admits(&envelope)?;
        self.check_signature(&envelope)?;
        self.early.keep(envelope);
        Ok(())
    }

    /// Keeps a message that has passed all checks but the last one.
    pub(super) fn keep(&mut self, envelope: Envelope, content: Content) -> Result<(), DropCause> {
        let signer = envelope.signer;
        self.heard_in(&signer, content.round(), content.slot().is_some());
        match content {
            Content::Commitment(commitment) => self.keep_commitment(envelope, commitment),
            Content::Attestation(attestation) => self.keep_attestation(envelope, attestation),
            Content::Proposal(proposal, set) => {
                let set = *set.ok_or(DropCause::Malformed)?;
                let proposed = Proposed { proposal, set };
                self.check_value(&proposed)?;
                self.progress();
                self.keep_and_feed(Message::Proposal(envelope, Box::new(proposed)));
            }
            Content::Vote(vote) => {
                self.progress();
                self.keep_and_feed(Message::Vote(envelope, vote));
            }
            Content::ViewCertificate(certificate) => {
                let roster = self.chain.ledger().roster();
                if !proves(&certificate, roster, &mut self.signatures) {
                    return Err(DropCause::Invalid);
                }
                self.keep_and_feed(Message::ViewCertificate(envelope, certificate));
            }
            Content::Closed(_) => {
                self.round.closed.insert(signer, envelope);
                self.progress();
            }
            Content::Recovery(_) => {
                self.round.recoveries.insert(signer, envelope);
                self.decide_by_recovery();
            }
            Content::Ticket(ticket) => {
                let bits = ticket.work_bits(self.chain.run(), signer);
                if !self.make_room_for_ticket(bits) {
                    return Err(DropCause::Full);
                }
                self.tickets.insert(signer, envelope);
            }
            Content::Leave(_) if signer == self.me => {}
            Content::Leave(_) => {
                self.leaves.insert(signer, envelope);
                self.progress();
            }
        }
        Ok(())
    }

    fn keep_attestation(&mut self, envelope: Envelope, attestation: Attestation) {
        let signer = envelope.signer;
        if attestation.round < self.chain.round() {
            self.late.insert((attestation.round, signer), envelope);
            self.laggards.insert(signer, self.chain.round());
            return;
        }
        let slot = (attestation.attempt, signer);
        self.round
            .attestations
            .insert(slot, (envelope, attestation));
        self.progress();
        self.follow_attempt();
    }

    /// A peer that says something of a round after the one it left in has not left.
    fn heard_in(&mut self, peer: &PeerId, round: RoundNumber, is_of_a_slot: bool) {
        let left = |envelope: &Envelope| envelope.open::<Leave>().map(|leave| leave.round);
        let outlived = self
            .leaves
            .get(peer)
            .is_some_and(|envelope| left(envelope).is_ok_and(|left| round > left));
        if is_of_a_slot && outlived && *peer != self.me {
            self.leaves.remove(peer);
        }
    }

    fn check_value(&mut self, proposed: &Proposed) -> Result<(), DropCause> {
        let checked = round_set::check(&self.chain, &proposed.set, &mut self.signatures);
        let proposal = &proposed.proposal;
        checked.map_err(|cause| {
            self.report(Event::ProposalRefused {
                round: proposal.round,
                view: proposal.view,
                cause: cause.to_string(),
            });
            DropCause::Invalid
        })
    }

    fn keep_and_feed(&mut self, message: Message) {
        self.round.keep(&message);
        self.feed_engine(message);
    }
}
