//! What passes between the rules and the engine.

use weal_proto::{Decided, Envelope, Proposal, RoundSet, ViewCertificate, Vote};

use crate::interface::names::TimerId;
use crate::rules::content::Content;

/// Something that the engine wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Append the entry to the round's log before carrying out any later action.
    Log(Vec<u8>),
    /// Send the message to every peer.
    Publish(Envelope),
    /// Keep the message for peers that ask what they missed.
    Keep(Envelope),
    SetTimer {
        id: TimerId,
        delay_ms: u64,
    },
    CancelTimer(TimerId),
    /// Voters have decided the round.
    Decided(Box<Decided>),
    /// The engine refused an input. It sent nothing of what it was about to send.
    Fault(String),
}

/// A proposal and the round set that travelled beside it. The proposal signs the set's hash.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub proposal: Proposal,
    pub set: RoundSet,
}

/// A message for the engine. Its signature is good, it belongs to the engine's round, and its
/// signer was entitled to send it.
#[derive(Debug)]
pub(crate) enum Message {
    /// A valid proposal, from its view's proposer.
    Proposal(Envelope, Box<Proposed>),
    Vote(Envelope, Vote),
    /// Proof that voters prevoted a value, or moved to a later view.
    ViewCertificate(Envelope, ViewCertificate),
}

impl Message {
    /// Decodes an envelope that was checked before; `None` for kinds that the engine does not take.
    pub(crate) fn decode(envelope: &Envelope) -> Option<Self> {
        let envelope = envelope.clone();
        match Content::decode(&envelope).ok()? {
            Content::Proposal(proposal, set) => {
                let set = *set?;
                Some(Self::Proposal(
                    envelope,
                    Box::new(Proposed { proposal, set }),
                ))
            }
            Content::Vote(vote) => Some(Self::Vote(envelope, vote)),
            Content::ViewCertificate(certificate) => {
                Some(Self::ViewCertificate(envelope, certificate))
            }
            _ => None,
        }
    }
}
