//! Messages from strangers. Each check is cheaper than the one after it; signatures come last but
//! for what needs one.

use weal_proto::{
    Attestation, Commitment, Envelope, Kind, Leave, Message as _, PeerId, Proposal, RoundNumber,
    Signable, View, ViewCertificate, Vote,
};

use super::Core;
use crate::agreement::{Message, VIEWS_AHEAD, VIEWS_BACK};
use crate::interface::event::{DropCause, Event};
use crate::interface::input::MessageId;
use crate::interface::output::{Acceptance, Output};
use crate::rules::evidence;

/// Whether a message is of the running round or of the one after it.
enum Timely {
    Now,
    Early,
}

impl Core {
    pub(super) fn received(&mut self, id: MessageId, envelope: Envelope) {
        let (kind, signer) = (envelope.kind, envelope.signer);
        let acceptance = match self.take_in(envelope) {
            Ok(()) => Acceptance::Accept,
            Err(cause) => {
                self.report(Event::Dropped {
                    kind,
                    signer,
                    cause,
                });
                if cause.blames_sender() {
                    Acceptance::Reject
                } else {
                    Acceptance::Ignore
                }
            }
        };
        self.outputs.push(Output::Verdict { id, acceptance });
    }

    /// Takes in a message that waited for its round. Nobody is there any more to hear a verdict.
    pub(super) fn take_in_quietly(&mut self, envelope: Envelope) {
        let (kind, signer) = (envelope.kind, envelope.signer);
        if let Err(cause) = self.take_in(envelope) {
            self.report(Event::Dropped {
                kind,
                signer,
                cause,
            });
        }
    }

    fn take_in(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        if envelope.run != self.chain.run() {
            return Err(DropCause::WrongRun);
        }
        if envelope.payload.len() > most_bytes(envelope.kind) {
            return Err(DropCause::Oversized);
        }
        if self.chain.ledger().is_banned(&envelope.signer) {
            return Err(DropCause::Banned);
        }
        match envelope.kind {
            Kind::Commitment => self.take_commitment(envelope),
            Kind::Attestation => self.take_attestation(envelope),
            Kind::Proposal => self.take_proposal(envelope),
            Kind::Vote => self.take_vote(envelope),
            Kind::ViewCertificate => self.take_view_certificate(envelope),
            Kind::Leave => self.take_leave(envelope),
        }
    }

    fn take_commitment(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let commitment: Commitment = open(&envelope)?;
        if !self.chain.allows_size(&commitment) {
            return Err(DropCause::Invalid);
        }
        if let Timely::Early = self.timely(commitment.round)? {
            return self.keep_early(envelope);
        }
        if let Some(known) = self.round.commitments.get(&envelope.signer) {
            let known = known.envelope.clone();
            return self.said_before(&known, envelope);
        }
        if !self.chain.ledger().is_member(&envelope.signer) && self.strangers_are_many() {
            return Err(DropCause::Full);
        }
        self.verify(&envelope)?;
        self.own_key_elsewhere(&envelope, commitment.round);
        self.keep_commitment(envelope, commitment);
        Ok(())
    }

    fn strangers_are_many(&self) -> bool {
        let limit = usize::try_from(self.chain.manifest().limits.peers).unwrap_or(usize::MAX);
        let ledger = self.chain.ledger();
        self.round
            .commitments
            .keys()
            .filter(|peer| !ledger.is_member(peer))
            .count()
            >= limit
    }

    fn take_attestation(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let attestation: Attestation = open(&envelope)?;
        if let Timely::Early = self.timely(attestation.round)? {
            return self.keep_early_of_member(envelope);
        }
        if !self.chain.may_attest(&envelope.signer) {
            return Err(DropCause::NotMember);
        }
        if let Some((known, _)) = self.round.attestations.get(&envelope.signer) {
            let known = known.clone();
            return self.said_before(&known, envelope);
        }
        self.verify(&envelope)?;
        self.own_key_elsewhere(&envelope, attestation.round);
        self.round
            .attestations
            .insert(envelope.signer, (envelope, attestation));
        self.progress();
        Ok(())
    }

    fn take_proposal(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let proposal: Proposal = open(&envelope)?;
        if let Timely::Early = self.timely(proposal.round)? {
            return self.keep_early_of_member(envelope);
        }
        let (round, view, hash) = (proposal.round, proposal.view, envelope.hash());
        self.near_enough(view)?;
        if self
            .chain
            .ledger()
            .roster()
            .proposer(&self.chain.seed(), view)
            != Some(envelope.signer)
        {
            return Err(DropCause::NotProposer);
        }
        if proposal.proof_of_lock.is_some_and(|lock| lock >= view) {
            return Err(DropCause::Invalid);
        }
        let known: Vec<_> = self
            .round
            .proposals
            .iter()
            .filter(|((of, _), _)| *of == view)
            .map(|(_, known)| known.clone())
            .collect();
        if known.iter().any(|known| known.payload == envelope.payload) {
            return Err(DropCause::Replayed);
        }
        if known.len() >= 2 {
            return Err(DropCause::Contradicted);
        }
        self.verify(&envelope)?;
        self.own_key_elsewhere(&envelope, round);
        if let Some(known) = known.first() {
            self.note_contradiction(known, &envelope, round);
        }
        if let Err(cause) = self.chain.check(&proposal.value, &mut self.signatures) {
            self.report(Event::ProposalRefused {
                round,
                view,
                cause: cause.to_string(),
            });
            return Err(DropCause::Invalid);
        }
        self.round.proposals.insert((view, hash), envelope.clone());
        self.progress();
        self.tell(Message::Proposal(envelope, proposal));
        Ok(())
    }

    fn take_vote(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let vote: Vote = open(&envelope)?;
        if let Timely::Early = self.timely(vote.round)? {
            return self.keep_early_of_member(envelope);
        }
        self.voter(&envelope.signer)?;
        self.near_enough(vote.view)?;
        let place = (vote.view, vote.step, envelope.signer);
        if let Some(known) = self.round.votes.get(&place) {
            let known = known.clone();
            return self.said_before(&known, envelope);
        }
        self.verify(&envelope)?;
        self.own_key_elsewhere(&envelope, vote.round);
        self.round.votes.insert(place, envelope.clone());
        self.progress();
        self.tell(Message::Vote(envelope, vote));
        Ok(())
    }

    fn take_view_certificate(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let proof: ViewCertificate = open(&envelope)?;
        if let Timely::Early = self.timely(proof.round)? {
            return self.keep_early_of_member(envelope);
        }
        self.voter(&envelope.signer)?;
        let place = (envelope.signer, proof.polka);
        if self
            .round
            .view_certificates
            .get(&place)
            .is_some_and(|(view, known)| *view > proof.view || known.payload == envelope.payload)
        {
            return Err(DropCause::Replayed);
        }
        self.verify(&envelope)?;
        self.round
            .view_certificates
            .insert(place, (proof.view, envelope));
        self.tell(Message::ViewCertificate(proof));
        Ok(())
    }

    fn take_leave(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        let leave: Leave = open(&envelope)?;
        if leave.round > self.chain.round().next() {
            return Err(DropCause::FutureRound);
        }
        let account = self
            .chain
            .ledger()
            .account(&envelope.signer)
            .filter(|account| account.member);
        let account = account.ok_or(DropCause::NotMember)?;
        if leave.round.next() < account.contributed_until {
            return Err(DropCause::PastRound);
        }
        if self.leaves.contains_key(&envelope.signer) {
            return Err(DropCause::Replayed);
        }
        self.verify(&envelope)?;
        if envelope.signer != self.me {
            self.leaves.insert(envelope.signer, envelope);
            self.progress();
        }
        Ok(())
    }

    fn timely(&mut self, round: RoundNumber) -> Result<Timely, DropCause> {
        let current = self.chain.round();
        if round == current {
            Ok(Timely::Now)
        } else if round == current.next() {
            Ok(Timely::Early)
        } else if round < current {
            Err(DropCause::PastRound)
        } else {
            self.follow(round);
            Err(DropCause::FutureRound)
        }
    }

    fn near_enough(&self, view: View) -> Result<(), DropCause> {
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

    fn voter(&self, peer: &PeerId) -> Result<(), DropCause> {
        if self.chain.ledger().roster().contains(peer) {
            Ok(())
        } else {
            Err(DropCause::NotVoter)
        }
    }

    fn verify(&mut self, envelope: &Envelope) -> Result<(), DropCause> {
        if self.signatures.check(envelope) {
            Ok(())
        } else {
            Err(DropCause::BadSignature)
        }
    }

    fn keep_early(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        self.early.admits(&envelope)?;
        self.verify(&envelope)?;
        self.early.keep(envelope);
        Ok(())
    }

    /// The coming roster is not known; whoever is on it was almost surely a member before.
    fn keep_early_of_member(&mut self, envelope: Envelope) -> Result<(), DropCause> {
        if self.chain.may_attest(&envelope.signer) {
            self.keep_early(envelope)
        } else {
            Err(DropCause::NotMember)
        }
    }

    /// A second message in a place that holds one: the same again, or a contradiction.
    fn said_before(&mut self, known: &Envelope, envelope: Envelope) -> Result<(), DropCause> {
        if known.payload == envelope.payload {
            return Err(DropCause::Replayed);
        }
        self.verify(&envelope)?;
        // The first contradiction is passed on, so that everybody can prove it; more would only be
        // noise.
        if self.note_contradiction(known, &envelope, self.chain.round()) {
            Ok(())
        } else {
            Err(DropCause::Contradicted)
        }
    }

    /// Keeps two contradicting messages as evidence. False when nothing new is proven.
    fn note_contradiction(
        &mut self,
        known: &Envelope,
        other: &Envelope,
        round: RoundNumber,
    ) -> bool {
        let peer = known.signer;
        let has_account = self.chain.ledger().account(&peer).is_some();
        if peer == self.me || !has_account || self.evidence.contains_key(&peer) {
            self.own_key_elsewhere(other, round);
            return false;
        }
        self.evidence
            .insert(peer, evidence::pair(known.clone(), other.clone()));
        self.report(Event::Equivocation {
            peer,
            round,
            kind: other.kind,
        });
        true
    }

    /// This peer's own words, which it does not know of. Whatever is behind it, it must not vote
    /// against them.
    fn own_key_elsewhere(&mut self, envelope: &Envelope, round: RoundNumber) {
        if envelope.signer != self.me {
            return;
        }
        self.report(Event::OwnKeyElsewhere {
            round,
            kind: envelope.kind,
        });
        if matches!(envelope.kind, Kind::Vote | Kind::Proposal) && !self.round.barred {
            self.bar("this key has voted elsewhere".into());
        }
    }
}

fn open<M: Signable>(envelope: &Envelope) -> Result<M, DropCause> {
    envelope.open().map_err(|_| DropCause::Malformed)
}

/// Bytes that a kind's payload may have.
fn most_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Commitment => Commitment::MAX_BYTES,
        Kind::Attestation => Attestation::MAX_BYTES,
        Kind::Proposal => Proposal::MAX_BYTES,
        Kind::Vote => Vote::MAX_BYTES,
        Kind::ViewCertificate => ViewCertificate::MAX_BYTES,
        Kind::Leave => Leave::MAX_BYTES,
    }
}
