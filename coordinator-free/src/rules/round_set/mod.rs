//! What a round decides: how a set is built, and when it is valid.
//!
//! Validity is objective: a function of the set's bytes and of what was decided before. A voter
//! needs no blob, no clock and no memory of gossip to judge a proposal, so no honest voter can be
//! talked into refusing a valid one.

mod build;
mod check;
mod choose;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use build::{Material, build};
pub(crate) use check::{check, outcome};
pub(crate) use choose::choose;
pub(crate) use tally::Tally;

use thiserror::Error;
use weal_proto::{Commitment, Envelope, EnvelopeHash, PeerId, RoundNumber};

/// A commitment with what is needed of it again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedCommitment {
    /// As signed.
    pub envelope: Envelope,
    /// The envelope's hash: what findings speak of.
    pub hash: EnvelopeHash,
    /// What is committed to.
    pub commitment: Commitment,
}

/// Why a round set, or the proof of a decision, is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Of another round than the one to decide.
    #[error("it is of round {found}, and round {expected} is to be decided")]
    Round {
        /// The round found.
        found: RoundNumber,
        /// The round to decide.
        expected: RoundNumber,
    },
    /// It follows another history.
    #[error("its parent is not the last decided round")]
    Parent,
    /// It was made with another ledger.
    #[error("its ledger root is not the decided history's")]
    LedgerRoot,
    /// A list is not strictly rising by signer.
    #[error("its {0} are not strictly rising by signer")]
    Order(&'static str),
    /// More contributions than the manifest allows.
    #[error("it has more contributions than the manifest's limits.contributions")]
    TooMany,
    /// A signature is not the signer's.
    #[error("a signature is not that of {0}")]
    Signature(PeerId),
    /// The evidence proves nothing, or nothing new.
    #[error("the evidence against {0} proves nothing, or nothing new")]
    Evidence(PeerId),
    /// The Leave is not one of this run's members, or was said before the member's last
    /// contribution.
    #[error("the leave of {0} does not count")]
    Leave(PeerId),
    /// The attestation is not a member's of this round.
    #[error("the attestation of {0} is not a member's of this round")]
    Attestation(PeerId),
    /// Not more than two thirds of the weight attest the base root.
    #[error("not more than two thirds of the weight attest its base root")]
    AttestationWeight,
    /// The contribution may not be applied.
    #[error(
        "the contribution of {0} is of another round or base, has a forbidden size, or comes from a banned peer"
    )]
    Contribution(PeerId),
    /// Not more than two thirds of the weight found the contribution valid.
    #[error("not more than two thirds of the weight found the contribution of {0} valid")]
    Support(PeerId),
    /// The certificate is of another value.
    #[error("the certificate is of another round set")]
    CertificateValue,
    /// A signer of the certificate is no voter, or signs twice.
    #[error("{0} signed the certificate and is no voter, or signed twice")]
    CertificateSigner(PeerId),
    /// Not more than two thirds of the weight signed the certificate.
    #[error("not more than two thirds of the weight signed the certificate")]
    CertificateWeight,
}
