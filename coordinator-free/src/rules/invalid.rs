//! The rules that a round set, or the proof of a decision, can break.

use thiserror::Error;
use weal_proto::{PeerId, RoundNumber, SlotId};

/// The first rule that a round set or a decision breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    /// It belongs to another round.
    #[error("it is for round {found}, but round {expected} is next to be decided")]
    Round {
        /// The set's round.
        found: RoundNumber,
        /// The next round to decide.
        expected: RoundNumber,
    },
    /// It follows another history.
    #[error("its parent is not the last decided round set")]
    Parent,
    /// It was built with another ledger.
    #[error("its ledger root differs from the one that decided history leads to")]
    LedgerRoot,
    /// A list is unsorted, or names a signer twice.
    #[error("its {0} are not in strictly ascending order of signers")]
    Order(&'static str),
    /// It holds more contributions than the manifest allows.
    #[error("it has more contributions than the manifest's limits.contributions")]
    TooMany,
    /// A signature does not match its signer.
    #[error("a signature that should be from {0} does not verify")]
    Signature(PeerId),
    /// The evidence proves nothing, or nothing that is not decided already.
    #[error("the evidence against {0} proves nothing new")]
    Evidence(PeerId),
    /// The signer of the leave is not a member, or was heard since it signed.
    #[error("{0} is not a member, or was heard since it signed its leave")]
    Leave(PeerId),
    /// The attestation is for another round or attempt, or its signer is not a member.
    #[error("the attestation of {0} is for another round or attempt, or {0} is not a member")]
    Attestation(PeerId),
    /// The set does not say which commitments an attestation speaks of.
    #[error("the list of {0}'s attestation cannot be rebuilt from the set")]
    List(PeerId),
    /// The late attestation is out of time, or decided already.
    #[error("the late attestation of {0} is too old, decided already or not a member's")]
    Late(PeerId),
    /// The ticket is out of time, lacks work, or its signer needs none.
    #[error("the ticket of {0} is out of time, lacks work, or {0} needs none")]
    Ticket(PeerId),
    /// Two thirds of the weight or less attest the base root.
    #[error("no more than two thirds of the weight attest its base root")]
    AttestationWeight,
    /// The set's contributions are not the ones that its attestations support.
    #[error("its contributions are not those that its attestations support, at place {0}")]
    Contributions(SlotId),
    /// The commitment must not be applied.
    #[error(
        "the contribution of {0} is for another round or base root, has a size or samples that the \
         rules forbid, or comes from a banned peer"
    )]
    Contribution(PeerId),
    /// Voters that are gone stand beside something else, or are no voters.
    #[error("it declares voters gone, and is not a recovery that this round allows")]
    Recovery,
    /// The certificate proves another decision.
    #[error("the certificate is for another round set")]
    CertificateValue,
    /// A signer of the certificate has no vote, or appears twice.
    #[error("{0} signed the certificate twice, or is not a voter")]
    CertificateSigner(PeerId),
    /// Two thirds of the weight or less signed the certificate.
    #[error("no more than two thirds of the weight signed the certificate")]
    CertificateWeight,
}
