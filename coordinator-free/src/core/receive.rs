//! Messages from strangers: which are dropped, which are kept, which are forwarded.
//!
//! Every message climbs the same ladder of checks, and is dropped at the first that it fails. Cheap
//! checks come first, the signature late.
//!
//! | kind | 2 content | 3 round | 4 sender and view | 5 slot | 7 value |
//! |---|---|---|---|---|---|
//! | commitment | blob size | running | anyone | a peer's first | |
//! | attestation | | running | a member | a member's first | |
//! | proposal | | running | near view, its proposer | the first two of a view | valid set |
//! | vote | | running | a voter, near view | a voter's first in a step | |
//! | view certificate | | running | a voter | newer than the voter's last | |
//! | leave | | at most the next | a member, silent since | a member's first | |
//!
//! 1. **Frame.** `WrongRun`; longer than its kind may be: `Oversized`; its signer is `Banned`.
//! 2. **Content.** `Malformed`; a blob size that the manifest forbids: `Invalid`.
//! 3. **Round.** `PastRound`, `FutureRound`. A message of the next round cannot be judged yet. If
//!    it is new, fits (else `Replayed`, `Full`) and has a good signature, it is kept in
//!    [`Early`](super::early::Early) and forwarded. Only members may send one (`NotMember`), except
//!    that anyone may commit early.
//! 4. **Sender and view.** `NotMember`, `NotVoter`, `NotProposer`; a view far ahead or long over:
//!    `FutureView`, `PastView`; a leave from before the member's last contribution: `PastRound`.
//! 5. **Slot.** The same payload again: `Replayed`. A stranger's commitment when as many strangers
//!    have committed as the manifest allows peers: `Full`.
//! 6. **Signature.** `BadSignature`. Now a different payload in an occupied slot is proof: see
//!    `equivocation`. The first contradiction of a peer is kept as evidence and forwarded, so that
//!    everyone can prove it; later ones are `Contradicted`.
//! 7. **Value.** A proposal whose round set breaks a rule: `Invalid`.
//!
//! A message that passes all checks is kept and forwarded.

use weal_proto::{Envelope, Leave, PeerId, Proposal, View, ViewCertificate};

use super::Core;
use crate::agreement::{Message, VIEWS_AHEAD, VIEWS_BACK};
use crate::interface::event::{DropCause, Event};
use crate::interface::output::{Acceptance, Output};
use crate::rules::content::Content;
use crate::rules::round_set;

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
            Place::Occupied(first) if matches!(content, Content::Proposal(_)) => {
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
            Content::Commitment(commitment) if !self.chain.allows_size(commitment) => {
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
        if round == running {
            Ok(When::Now)
        } else if round == running.next() {
            Ok(When::NextRound)
        } else if round < running {
            Err(DropCause::PastRound)
        } else {
            self.follow(round);
            Err(DropCause::FutureRound)
        }
    }

    fn check_sender(&self, signer: &PeerId, content: &Content) -> Result<(), DropCause> {
        match content {
            Content::Commitment(_) => Ok(()),
            Content::Attestation(_) if self.chain.may_attest(signer) => Ok(()),
            Content::Attestation(_) => Err(DropCause::NotMember),
            Content::Proposal(proposal) => self.check_proposer(signer, proposal),
            Content::Vote(vote) => {
                self.check_voter(signer)?;
                self.check_view(vote.view)
            }
            Content::ViewCertificate(_) => self.check_voter(signer),
            Content::Leave(leave) => self.check_leaver(signer, leave),
        }
    }

    fn check_proposer(&self, signer: &PeerId, proposal: &Proposal) -> Result<(), DropCause> {
        let view = proposal.view;
        self.check_view(view)?;
        let roster = self.chain.ledger().roster();
        if roster.proposer(&self.chain.seed(), view) != Some(*signer) {
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
        let current = self
            .engine
            .as_ref()
            .and_then(|engine| engine.view())
            .map_or(0, |(view, _)| view.0);
        if view.0 > current.saturating_add(VIEWS_AHEAD) {
            Err(DropCause::FutureView)
        } else if view.0.saturating_add(VIEWS_BACK) < current {
            Err(DropCause::PastView)
        } else {
            Ok(())
        }
    }

    fn check_leaver(&self, signer: &PeerId, leave: &Leave) -> Result<(), DropCause> {
        let account = self.chain.ledger().account(signer);
        let member = account.filter(|account| account.member);
        let member = member.ok_or(DropCause::NotMember)?;
        if leave.round.next() < member.contributed_until {
            return Err(DropCause::PastRound);
        }
        Ok(())
    }

    fn check_slot(&self, envelope: &Envelope, content: &Content) -> Result<Place, DropCause> {
        let signer = &envelope.signer;
        let known = match content {
            Content::Commitment(_) => match self.round.commitments.get(signer) {
                None if self.strangers_are_full(signer) => return Err(DropCause::Full),
                known => known.map(|signed| &signed.envelope),
            },
            Content::Attestation(_) => self.round.attestations.get(signer).map(|(known, _)| known),
            Content::Proposal(proposal) => {
                return self.check_proposal_slot(envelope, proposal.view);
            }
            Content::Vote(vote) => self.round.votes.get(&(vote.view, vote.step, *signer)),
            Content::ViewCertificate(certificate) => {
                return self.check_certificate_slot(envelope, certificate);
            }
            Content::Leave(_) if self.leaves.contains_key(signer) => {
                return Err(DropCause::Replayed);
            }
            Content::Leave(_) => None,
        };
        match known {
            None => Ok(Place::Free),
            Some(known) if known.payload == envelope.payload => Err(DropCause::Replayed),
            Some(known) => Ok(Place::Occupied(known.clone())),
        }
    }

    /// Whether a commitment of this peer has no place because too many strangers have committed.
    fn strangers_are_full(&self, signer: &PeerId) -> bool {
        let limit = usize::try_from(self.chain.manifest().limits.peers).unwrap_or(usize::MAX);
        let ledger = self.chain.ledger();
        let committed = self.round.commitments.keys();
        !ledger.is_member(signer)
            && committed.filter(|peer| !ledger.is_member(peer)).count() >= limit
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
                if *view > certificate.view || known.payload == envelope.payload =>
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

    /// Keeps a message of the next round. The next roster is not known yet, but whoever is on it is
    /// almost certainly a member now.
    fn keep_early(&mut self, envelope: Envelope, content: &Content) -> Result<(), DropCause> {
        let anyone_may = matches!(content, Content::Commitment(_));
        if !anyone_may && !self.chain.may_attest(&envelope.signer) {
            return Err(DropCause::NotMember);
        }
        self.early.admits(&envelope)?;
        self.check_signature(&envelope)?;
        self.early.keep(envelope);
        Ok(())
    }

    /// Keeps a message that has passed all checks but the last one.
    fn keep(&mut self, envelope: Envelope, content: Content) -> Result<(), DropCause> {
        let signer = envelope.signer;
        match content {
            Content::Commitment(commitment) => self.keep_commitment(envelope, commitment),
            Content::Attestation(attestation) => {
                self.round
                    .attestations
                    .insert(signer, (envelope, attestation));
                self.progress();
            }
            Content::Proposal(proposal) => {
                self.check_value(&proposal)?;
                self.progress();
                self.keep_and_feed(Message::Proposal(envelope, proposal));
            }
            Content::Vote(vote) => {
                self.progress();
                self.keep_and_feed(Message::Vote(envelope, vote));
            }
            Content::ViewCertificate(certificate) => {
                self.keep_and_feed(Message::ViewCertificate(envelope, certificate));
            }
            Content::Leave(_) if signer == self.me => {}
            Content::Leave(_) => {
                self.leaves.insert(signer, envelope);
                self.progress();
            }
        }
        Ok(())
    }

    fn check_value(&mut self, proposal: &Proposal) -> Result<(), DropCause> {
        let checked = round_set::check(&self.chain, &proposal.value, &mut self.signatures);
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
