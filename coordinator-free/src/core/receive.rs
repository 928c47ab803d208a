//! Messages from strangers: which are dropped, which are kept, which are forwarded.
//!
//! Every message climbs the same ladder of checks, and is dropped at the first that it fails. Cheap
//! checks come first, the signature late.
//!
//! | kind | 2 content | 3 round | 4 sender and view | 5 slot | 7 value |
//! |---|---|---|---|---|---|
//! | ticket | | running, or 3 before | enough work, needs a place | a peer's first | |
//! | commitment | blob size, samples | running | holds a place | a peer's first | |
//! | closed | | running | a voter | a voter's first | |
//! | attestation | | running, or 3 before | a member | a member's first in an attempt | |
//! | proposal | | running | near view, its proposer | the first two of a view | valid set |
//! | vote | | running | a voter, near view | a voter's first in a step | |
//! | view certificate | | running | a voter, no view long over | newer than the voter's last | its votes |
//! | leave | | at most the next | a member, silent since | a member's first | |
//! | recovery | | running | a voter | a voter's first | |
//!
//! 1. **Frame.** `WrongRun`; longer than its kind may be: `Oversized`; its signer is `Banned`.
//! 2. **Content.** `Malformed`; a blob size or samples that the rules forbid: `Invalid`.
//! 3. **Round.** `PastRound`, `FutureRound`. A message of the next round cannot be judged yet. If
//!    it is new, fits (else `Replayed`, `Full`) and has a good signature, it is kept in
//!    [`Early`](super::early::Early) and forwarded. Only members may send one (`NotMember`), except
//!    that a newcomer with a decided ticket may commit early.
//! 4. **Sender and view.** `NoPlace`, `NotMember`, `NotVoter`, `NotProposer`; a view far ahead or
//!    long over: `FutureView`, `PastView`; a leave that its signer has outlived: `PastRound`; an
//!    attempt far ahead: `FutureView`.
//! 5. **Slot.** The same payload again: `Replayed`. A ticket when there are many with more work:
//!    `Full`. A proposal without its set, as evidence holds it: `Malformed`, unless it contradicts
//!    one that is kept.
//! 6. **Signature.** `BadSignature`. Now a different payload in an occupied slot is proof: see
//!    `equivocation`. The first contradiction of a peer is kept as evidence and forwarded, so that
//!    everyone can prove it; later ones are `Contradicted`.
//! 7. **Value.** A proposal whose round set breaks a rule, or a view certificate whose votes do not
//!    prove what it says: `Invalid`.
//!
//! A message that passes all checks is kept and forwarded.

use weal_proto::{Attestation, Envelope, Leave, PeerId, Proposal, View, ViewCertificate, limits};

use super::Core;
use super::attest::ATTEMPTS_BACK;
use crate::agreement::{MOST_VIEWS, VIEWS_AHEAD, VIEWS_BACK};
use crate::interface::event::{DropCause, Event};
use crate::interface::output::{Acceptance, Output};
use crate::rules::content::Content;

/// The core accepts all attestations of this many attempts ahead.
const ATTEMPTS_AHEAD: u32 = 2;

/// The round that a message is for.
enum When {
    Now,
    NextRound,
}

/// Whether the message's slot is free.
enum Place {
    Free,
    /// The signer has filled it with this message, whose payload differs.
    Occupied(Envelope),
}

impl Core {
    /// Processes a message from a peer, and answers with exactly one verdict.
    pub(super) fn received(&mut self, envelope: Envelope) {
        let acceptance = match self.receive(envelope) {
            Ok(()) => Acceptance::Accept,
            Err(cause) if cause.blames_sender() => Acceptance::Reject,
            Err(_) => Acceptance::Ignore,
        };
        self.outputs.push(Output::Verdict(acceptance));
    }

    /// Processes a message and reports it if it is dropped. Messages that were kept for their round
    /// come here directly: they got their verdict when they arrived.
    pub(super) fn receive(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let (kind, signer) = (envelope.kind, envelope.signer);
        self.check_and_keep(envelope).inspect_err(|cause| {
            let cause = *cause;
            self.outputs.push(Output::Report(Event::Dropped {
                kind,
                signer,
                cause,
            }));
        })
    }

    /// Climbs the ladder of checks.
    fn check_and_keep(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        self.check_frame(&envelope)?;
        let content = self.check_content(&envelope)?;
        if let When::NextRound = self.check_round(&content)? {
            return self.keep_early(envelope, &content);
        }
        self.check_sender(&envelope.signer, &content)?;
        let place = self.check_slot(&envelope, &content)?;
        self.check_signature(&envelope)?;
        match place {
            Place::Free => self.check_own_key(&envelope, &content),
            // Voters may have voted for a second proposal, so it is kept as well as the first.
            Place::Occupied(first) if matches!(content, Content::Proposal(_, Some(_))) => {
                self.check_own_key(&envelope, &content);
                self.note_equivocation(&first, &envelope);
            }
            Place::Occupied(first) => return self.contradicted(&first, &envelope),
        }
        self.keep(envelope, content)
    }

    fn check_frame(&self, envelope: &Envelope) -> Result<(), DropCause> {
        if envelope.run != self.chain.run() {
            Err(DropCause::WrongRun)
        } else if envelope.payload.len() > envelope.kind.max_payload_bytes() {
            Err(DropCause::Oversized)
        } else if self.chain.ledger().is_banned(&envelope.signer) {
            Err(DropCause::Banned)
        } else {
            Ok(())
        }
    }

    fn check_content(&self, envelope: &Envelope) -> Result<Content, DropCause> {
        let content = Content::decode(envelope).map_err(|_| DropCause::Malformed)?;
        match &content {
            Content::Commitment(commitment) if !self.chain.allows(commitment) => {
                Err(DropCause::Invalid)
            }
            _ => Ok(content),
        }
    }

    fn check_round(&mut self, content: &Content) -> Result<When, DropCause> {
        let (round, running) = (content.round(), self.chain.round());
        if matches!(content, Content::Leave(_)) {
            return if round > running.next() {
                Err(DropCause::FutureRound)
            } else {
                Ok(When::Now)
            };
        }
        let may_be_late = matches!(content, Content::Attestation(_) | Content::Ticket(_));
        let oldest = running.0.saturating_sub(limits::LATE_ROUNDS);
        if round == running {
            Ok(When::Now)
        } else if round == running.next() {
            Ok(When::NextRound)
        } else if round < running {
            if may_be_late && round.0 >= oldest {
                Ok(When::Now)
            } else {
                Err(DropCause::PastRound)
            }
        } else {
            self.follow(round);
            Err(DropCause::FutureRound)
        }
    }

    fn check_sender(&self, signer: &PeerId, content: &Content) -> Result<(), DropCause> {
        match content {
            Content::Commitment(_) if self.chain.places().slot_of(signer).is_some() => Ok(()),
            Content::Commitment(_) => Err(DropCause::NoPlace),
            Content::Attestation(attestation) => self.check_attester(signer, attestation),
            Content::Proposal(proposal, _) => self.check_proposer(signer, proposal),
            Content::Vote(vote) => {
                self.check_voter(signer)?;
                self.check_view(vote.view)
            }
            // It proves its view, so it may lead anywhere: a voter that was away needs it.
            Content::ViewCertificate(certificate) => {
                self.check_voter(signer)?;
                if certificate.view.0 >= MOST_VIEWS {
                    return Err(DropCause::FutureView);
                }
                self.check_not_past(certificate.view)
            }
            Content::Leave(leave) => self.check_leaver(signer, leave),
            Content::Closed(_) | Content::Recovery(_) => self.check_voter(signer),
            Content::Ticket(ticket) if self.chain.allows_ticket(signer, ticket) => Ok(()),
            Content::Ticket(_) => Err(DropCause::Invalid),
        }
    }

    fn check_attester(&self, signer: &PeerId, attestation: &Attestation) -> Result<(), DropCause> {
        if !self.chain.may_attest(signer) {
            return Err(DropCause::NotMember);
        }
        let attempt = attestation.attempt;
        if attempt >= limits::ATTEMPTS {
            return Err(DropCause::FutureView);
        }
        if attestation.round < self.chain.round() {
            let allowed = self.chain.allows_late(signer, attestation.round);
            return allowed.then_some(()).ok_or(DropCause::PastRound);
        }
        // One of each member may be further ahead, so that a node that was away can follow.
        let newest = self.round.attempt.saturating_add(ATTEMPTS_AHEAD);
        if attempt > newest && self.round.has_attested_after(newest, signer) {
            return Err(DropCause::FutureView);
        }
        if attempt.saturating_add(ATTEMPTS_BACK) < self.round.attempt {
            return Err(DropCause::PastView);
        }
        Ok(())
    }

    fn check_proposer(&self, signer: &PeerId, proposal: &Proposal) -> Result<(), DropCause> {
        let view = proposal.view;
        self.check_view(view)?;
        let roster = self.chain.ledger().roster();
        if roster.proposer(view) != Some(*signer) {
            return Err(DropCause::NotProposer);
        }
        if proposal.proof_of_lock.is_some_and(|lock| lock >= view) {
            return Err(DropCause::Invalid);
        }
        Ok(())
    }

    fn check_voter(&self, peer: &PeerId) -> Result<(), DropCause> {
        if self.chain.ledger().roster().contains(peer) {
            Ok(())
        } else {
            Err(DropCause::NotVoter)
        }
    }

    fn check_view(&self, view: View) -> Result<(), DropCause> {
        if view.0 > self.current_view().saturating_add(VIEWS_AHEAD) {
            return Err(DropCause::FutureView);
        }
        self.check_not_past(view)
    }

    fn check_not_past(&self, view: View) -> Result<(), DropCause> {
        if view.0.saturating_add(VIEWS_BACK) < self.current_view() {
            return Err(DropCause::PastView);
        }
        Ok(())
    }

    fn current_view(&self) -> u32 {
        let view = self.engine.as_ref().and_then(|engine| engine.view());
        view.map_or(0, |(view, _)| view.0)
    }

    fn check_leaver(&self, signer: &PeerId, leave: &Leave) -> Result<(), DropCause> {
        let account = self.chain.ledger().account(signer);
        let member = account.filter(|account| account.member);
        let member = member.ok_or(DropCause::NotMember)?;
        if member.outlived_leave(leave.round) {
            return Err(DropCause::PastRound);
        }
        Ok(())
    }

    fn check_slot(&self, envelope: &Envelope, content: &Content) -> Result<Place, DropCause> {
        let signer = &envelope.signer;
        let known = match content {
            Content::Commitment(_) => {
                let known = self.round.commitments.get(signer);
                known.map(|signed| &signed.envelope)
            }
            Content::Attestation(attestation) if attestation.round < self.chain.round() => {
                // One of each member is enough, of whatever attempt.
                return match self.late.contains_key(&(attestation.round, *signer)) {
                    true => Err(DropCause::Replayed),
                    false => Ok(Place::Free),
                };
            }
            Content::Attestation(attestation) => {
                let slot = (attestation.attempt, *signer);
                let known = self.round.attestations.get(&slot);
                known.map(|(known, _)| known)
            }
            Content::Proposal(proposal, set) => {
                let place = self.check_proposal_slot(envelope, proposal.view)?;
                // Without its set it proves nothing but that its signer contradicted itself.
                return match (&place, set) {
                    (Place::Free, None) => Err(DropCause::Malformed),
                    _ => Ok(place),
                };
            }
            Content::Vote(vote) => self.round.votes.get(&(vote.view, vote.step, *signer)),
            Content::ViewCertificate(certificate) => {
                return self.check_certificate_slot(envelope, certificate);
            }
            Content::Recovery(_) => self.round.recoveries.get(signer),
            Content::Closed(_) => self.round.closed.get(signer),
            Content::Leave(_) if self.leaves.contains_key(signer) => {
                return Err(DropCause::Replayed);
            }
            Content::Ticket(_) if self.tickets.contains_key(signer) => {
                return Err(DropCause::Replayed);
            }
            Content::Leave(_) | Content::Ticket(_) => None,
        };
        match known {
            None => Ok(Place::Free),
            Some(known) if known.payload == envelope.payload => Err(DropCause::Replayed),
            Some(known) => Ok(Place::Occupied(known.clone())),
        }
    }

    fn check_proposal_slot(&self, envelope: &Envelope, view: View) -> Result<Place, DropCause> {
        let known: Vec<_> = self
            .round
            .proposals
            .iter()
            .filter(|((of, _), _)| *of == view)
            .map(|(_, known)| known)
            .collect();
        if known.iter().any(|known| known.payload == envelope.payload) {
            return Err(DropCause::Replayed);
        }
        match known.as_slice() {
            [] => Ok(Place::Free),
            [first] => Ok(Place::Occupied((*first).clone())),
            _ => Err(DropCause::Contradicted),
        }
    }

    fn check_certificate_slot(
        &self,
        envelope: &Envelope,
        certificate: &ViewCertificate,
    ) -> Result<Place, DropCause> {
        let slot = (envelope.signer, certificate.polka);
        match self.round.view_certificates.get(&slot) {
            Some((view, known))
                if *view >= certificate.view || known.payload == envelope.payload =>
            {
                Err(DropCause::Replayed)
            }
            _ => Ok(Place::Free),
        }
    }

    pub(super) fn check_signature(&mut self, envelope: &Envelope) -> Result<(), DropCause> {
        if self.signatures.check(envelope) {
            Ok(())
        } else {
            Err(DropCause::BadSignature)
        }
    }
}
