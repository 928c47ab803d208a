//! The payload of a signed envelope, decoded.

use weal_proto::{
    Attestation, Closed, Commitment, DecodeError, Envelope, Kind, Leave, Message, Proposal,
    Recovery, RoundNumber, RoundSet, Ticket, ViewCertificate, Vote,
};

use crate::rules::slot::Slot;

/// What an envelope says. Decoding checks the payload's form, but no signature.
#[derive(Debug)]
pub(crate) enum Content {
    Commitment(Commitment),
    Attestation(Attestation),
    /// A proposal, with the round set that travels beside it, if any.
    Proposal(Proposal, Option<Box<RoundSet>>),
    Vote(Vote),
    ViewCertificate(ViewCertificate),
    Leave(Leave),
    Ticket(Ticket),
    Closed(Closed),
    Recovery(Recovery),
}

impl Content {
    /// Decodes an envelope's payload, and the round set beside a proposal.
    ///
    /// # Errors
    /// When the payload is not a canonical message of the envelope's kind, or what travels beside a
    /// proposal is not the round set whose hash it signs.
    pub(crate) fn decode(envelope: &Envelope) -> Result<Self, DecodeError> {
        Ok(match envelope.kind {
            Kind::Commitment => Self::Commitment(envelope.open()?),
            Kind::Attestation => Self::Attestation(envelope.open()?),
            Kind::Proposal => {
                let proposal: Proposal = envelope.open()?;
                let set = proposed_set(envelope, &proposal)?;
                Self::Proposal(proposal, set)
            }
            Kind::Vote => Self::Vote(envelope.open()?),
            Kind::ViewCertificate => Self::ViewCertificate(envelope.open()?),
            Kind::Leave => Self::Leave(envelope.open()?),
            Kind::Ticket => Self::Ticket(envelope.open()?),
            Kind::Closed => Self::Closed(envelope.open()?),
            Kind::Recovery => Self::Recovery(envelope.open()?),
        })
    }

    /// The round that the message is about.
    pub(crate) const fn round(&self) -> RoundNumber {
        match self {
            Self::Commitment(commitment) => commitment.round,
            Self::Attestation(attestation) => attestation.round,
            Self::Proposal(proposal, _) => proposal.round,
            Self::Vote(vote) => vote.round,
            Self::ViewCertificate(certificate) => certificate.round,
            Self::Leave(leave) => leave.round,
            Self::Ticket(ticket) => ticket.round,
            Self::Closed(closed) => closed.round,
            Self::Recovery(recovery) => recovery.round,
        }
    }

    /// The slot that the message takes; `None` for the kinds that a peer may repeat.
    pub(crate) const fn slot(&self) -> Option<Slot> {
        Some(match self {
            Self::Commitment(commitment) => Slot::Commitment(commitment.round),
            Self::Attestation(attestation) => {
                Slot::Attestation(attestation.round, attestation.attempt)
            }
            Self::Proposal(proposal, _) => Slot::Proposal(proposal.round, proposal.view),
            Self::Vote(vote) => Slot::Vote(vote.round, vote.view, vote.step),
            Self::Recovery(recovery) => Slot::Recovery(recovery.round),
            Self::ViewCertificate(_) | Self::Leave(_) | Self::Ticket(_) | Self::Closed(_) => {
                return None;
            }
        })
    }
}

fn proposed_set(
    envelope: &Envelope,
    proposal: &Proposal,
) -> Result<Option<Box<RoundSet>>, DecodeError> {
    if envelope.companion.is_empty() {
        return Ok(None);
    }
    let set = RoundSet::decode(&envelope.companion)?;
    if set.hash() == proposal.value {
        return Ok(Some(Box::new(set)));
    }
    Err(DecodeError::Malformed {
        message: "proposal",
        cause: "the round set beside it is another one".into(),
    })
}
