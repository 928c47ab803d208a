//! Checks the votes in certificates. Each signature covers the envelope that the vote was sent in.
#![allow(clippy::result_large_err)] // Malachite's error type.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_malachitebft_core_types as malachite;
use malachite::{
    CertificateError, CommitCertificate, CommitSignature, NilOrVal, PolkaCertificate,
    PolkaSignature, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage,
    VoteType,
};
use weal_proto::{Signature, ViewCertificate};

use super::codec::{ViewProof, view_proof, vote_envelope};
use super::context::{Address, Agreement, Vote, Voters};
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;

type Checked = Result<(), CertificateError<Agreement>>;

/// The part of the total that a certificate's weight must exceed.
#[derive(Clone, Copy)]
enum Bound {
    TwoThirds,
    OneThird,
}

/// Whether a view certificate proves what it says to the voters of its round.
pub(crate) fn proves(
    certificate: &ViewCertificate,
    roster: &Roster,
    signatures: &mut Signatures,
) -> bool {
    let Some(voters) = Voters::new(Arc::new(roster.clone())) else {
        return false;
    };
    match view_proof(certificate) {
        Some(ViewProof::Polka(proof)) => polka(&proof, &voters, signatures).is_ok(),
        Some(ViewProof::Skip(proof)) => round(&proof, &voters, signatures).is_ok(),
        None => false,
    }
}

pub(super) fn commit(
    certificate: &CommitCertificate<Agreement>,
    voters: &Voters,
    signatures: &mut Signatures,
) -> Checked {
    let votes = certificate.commit_signatures.iter().map(|s| {
        let vote = Vote {
            height: certificate.height,
            view: certificate.round,
            step: VoteType::Precommit,
            value: NilOrVal::Val(certificate.value_id),
            voter: s.address,
        };
        (vote, s.signature)
    });
    let weight = weigh(votes, voters, signatures, |vote, signature| {
        CertificateError::InvalidCommitSignature(CommitSignature::new(vote.voter, signature))
    })?;
    Bound::TwoThirds.require(weight, voters)
}

pub(super) fn polka(
    certificate: &PolkaCertificate<Agreement>,
    voters: &Voters,
    signatures: &mut Signatures,
) -> Checked {
    let votes = certificate.polka_signatures.iter().map(|s| {
        let vote = Vote {
            height: certificate.height,
            view: certificate.round,
            step: VoteType::Prevote,
            value: NilOrVal::Val(certificate.value_id),
            voter: s.address,
        };
        (vote, s.signature)
    });
    let weight = weigh(votes, voters, signatures, |vote, signature| {
        CertificateError::InvalidPolkaSignature(PolkaSignature::new(vote.voter, signature))
    })?;
    Bound::TwoThirds.require(weight, voters)
}

pub(super) fn round(
    certificate: &RoundCertificate<Agreement>,
    voters: &Voters,
    signatures: &mut Signatures,
) -> Checked {
    let precommits = certificate.cert_type == RoundCertificateType::Precommit;
    if let Some(s) = certificate
        .round_signatures
        .iter()
        .find(|s| precommits && s.vote_type == VoteType::Prevote)
    {
        return Err(CertificateError::InvalidVoteType(s.address));
    }
    let votes = certificate.round_signatures.iter().map(|s| {
        let vote = Vote {
            height: certificate.height,
            view: certificate.round,
            step: s.vote_type,
            value: s.value_id,
            voter: s.address,
        };
        (vote, s.signature)
    });
    let bound = if precommits {
        Bound::TwoThirds
    } else {
        Bound::OneThird
    };
    let weight = weigh(votes, voters, signatures, |vote, signature| {
        CertificateError::InvalidRoundSignature(RoundSignature::new(
            vote.step, vote.value, vote.voter, signature,
        ))
    })?;
    bound.require(weight, voters)
}

/// The combined weight of the votes, each of which must be valid.
fn weigh(
    votes: impl Iterator<Item = (Vote, Signature)>,
    voters: &Voters,
    signatures: &mut Signatures,
    bad_signature: impl Fn(&Vote, Signature) -> CertificateError<Agreement>,
) -> Result<u128, CertificateError<Agreement>> {
    let roster = voters.roster();
    let mut seen: BTreeSet<Address> = BTreeSet::new();
    let mut weight = 0_u128;
    for (vote, signature) in votes {
        let voter = vote.voter;
        if !seen.insert(voter) {
            return Err(CertificateError::DuplicateVote(voter));
        }
        if !roster.contains(&voter.0) {
            return Err(CertificateError::UnknownValidator(voter));
        }
        let signed = SignedMessage::new(vote, signature);
        if !signatures.check(&vote_envelope(signatures.run(), &signed)) {
            return Err(bad_signature(&signed.message, signature));
        }
        weight = weight.saturating_add(roster.weight(&voter.0).into());
    }
    Ok(weight)
}

impl Bound {
    fn require(self, weight: u128, voters: &Voters) -> Checked {
        let roster = voters.roster();
        let total = roster.total().0;
        let (met, part) = match self {
            Self::TwoThirds => (roster.is_quorum(weight), total.saturating_mul(2) / 3),
            Self::OneThird => (roster.has_honest(weight), total / 3),
        };
        if met {
            return Ok(());
        }
        Err(CertificateError::NotEnoughVotingPower {
            signed: u64::try_from(weight).unwrap_or(u64::MAX),
            total,
            expected: part.saturating_add(1),
        })
    }
}
