//! Certificates: proofs made of many votes.

use super::{RoundSet, VoteStep};
use crate::envelope::{Kind, Signable, Signature};
use crate::error::DecodeError;
use crate::ids::{PeerId, RoundNumber, RoundSetHash, View};
use crate::limits;
use crate::message::Standalone;
use crate::schema::{message, rising};

message! {
    /// One voter's precommit in a [`Certificate`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CommitSignature("commit signature", 128) {
        /// The voter.
        pub peer: PeerId = 1,
        /// Signature of the precommit's envelope.
        pub signature: Signature = 2,
    }
}

message! {
    /// Proof that more than two thirds of the weight precommitted a round set.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Certificate("certificate", limits::CERTIFICATE_BYTES, sorted_by_peer) {
        /// The round decided.
        pub round: RoundNumber = 1,
        /// The view that decided it.
        pub view: View = 2,
        /// The round set decided.
        pub value: RoundSetHash = 3,
        /// Strictly rising by peer.
        pub signatures: Vec<CommitSignature> = 4[limits::VOTERS],
    }
}

fn sorted_by_peer(certificate: &Certificate) -> Result<(), DecodeError> {
    rising("Certificate.signatures", &certificate.signatures, |s| {
        s.peer
    })
}

impl Standalone for Certificate {}

message! {
    /// One voter's vote in a [`ViewCertificate`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ViewSignature("view signature", 160) {
        /// The voter.
        pub peer: PeerId = 1,
        /// Whether this is a prevote or a precommit.
        pub step: VoteStep = 2,
        /// The round set voted for; `None` is a vote for nil.
        pub value: Option<RoundSetHash> = 3,
        /// Signature of the vote's envelope.
        pub signature: Signature = 4,
    }
}

message! {
    /// Proof that voters moved on within a round.
    ///
    /// It is either a polka (prevotes for one value) or one of the engine's round certificates:
    /// precommits of a view, or votes that skip to a later view.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ViewCertificate("view certificate", limits::CERTIFICATE_BYTES, sorted_by_vote) {
        /// The round in progress.
        pub round: RoundNumber = 1,
        /// The view that the votes belong to.
        pub view: View = 2,
        /// Whether this is a polka.
        pub polka: bool = 3,
        /// The polka's value.
        pub value: Option<RoundSetHash> = 4,
        /// Strictly rising by peer and step.
        pub signatures: Vec<ViewSignature> = 5[limits::VOTERS],
        /// Whether this is a certificate of precommits instead of one that skips.
        pub precommits: bool = 6,
    }
}

fn sorted_by_vote(certificate: &ViewCertificate) -> Result<(), DecodeError> {
    rising("ViewCertificate.signatures", &certificate.signatures, |s| {
        (s.peer, s.step)
    })
}

impl Standalone for ViewCertificate {}

impl Signable for ViewCertificate {
    const KIND: Kind = Kind::ViewCertificate;
}

message! {
    /// A decided round with its proof. A latecomer verifies these one after the other.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Decided("decided round", limits::DECIDED_BYTES) {
        /// The round set decided.
        pub value: RoundSet = 1,
        /// The proof of the decision.
        pub certificate: Certificate = 2,
    }
}

impl Standalone for Decided {}
