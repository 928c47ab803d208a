//! The payload of a signed envelope, decoded.

use weal_proto::{
    Attestation, Commitment, DecodeError, Envelope, Kind, Leave, Proposal, RoundNumber,
    ViewCertificate, Vote,
};

use crate::rules::slot::Slot;

/// What an envelope says. Decoding checks the payload's form, but no signature.
#[derive(Debug)]
pub(crate) enum Content {
    Commitment(Commitment),
    Attestation(Attestation),
    Proposal(Proposal),
    Vote(Vote),
    ViewCertificate(ViewCertificate),
    Leave(Leave),
}

impl Content {
    /// Decodes an envelope's payload.
    ///
    /// # Errors
    /// When the payload is not a canonical message of the envelope's kind.
    pub(crate) fn decode(envelope: &Envelope) -> Result<Self, DecodeError> {
        Ok(match envelope.kind {
            Kind::Commitment => Self::Commitment(envelope.open()?),
            Kind::Attestation => Self::Attestation(envelope.open()?),
            Kind::Proposal => Self::Proposal(envelope.open()?),
            Kind::Vote => Self::Vote(envelope.open()?),
            Kind::ViewCertificate => Self::ViewCertificate(envelope.open()?),
            Kind::Leave => Self::Leave(envelope.open()?),
        })
    }

    /// The round that the message is about.
    pub(crate) const fn round(&self) -> RoundNumber {
        match self {
            Self::Commitment(commitment) => commitment.round,
            Self::Attestation(attestation) => attestation.round,
            Self::Proposal(proposal) => proposal.round,
            Self::Vote(vote) => vote.round,
            Self::ViewCertificate(certificate) => certificate.round,
            Self::Leave(leave) => leave.round,
        }
    }

    /// The slot that the message takes; `None` for the kinds that a peer may repeat.
    pub(crate) const fn slot(&self) -> Option<Slot> {
        Some(match self {
            Self::Commitment(commitment) => Slot::Commitment(commitment.round),
            Self::Attestation(attestation) => Slot::Attestation(attestation.round),
            Self::Proposal(proposal) => Slot::Proposal(proposal.round, proposal.view),
            Self::Vote(vote) => Slot::Vote(vote.round, vote.view, vote.step),
            Self::ViewCertificate(_) | Self::Leave(_) => return None,
        })
    }
}
