//! Converts between Malachite's messages and signed envelopes.

use std::sync::Arc;

use arc_malachitebft_core_types as malachite;
use malachite::{
    CommitCertificate, NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate,
    RoundCertificateType, RoundSignature, SignedMessage, VoteType,
};
use weal_proto::{
    Certificate, CommitSignature, Envelope, Message, PeerId, RoundSetHash, RunId, View,
    ViewCertificate, ViewSignature, VoteStep,
};

use super::action::Proposed;
use super::context::{Address, Agreement, Height, Proposal, Value, ValueId, Vote};

pub(super) type SignedVote = malachite::SignedVote<Agreement>;
pub(super) type SignedProposal = malachite::SignedProposal<Agreement>;

/// Malachite's "no round yet" never leaves the engine, so 0 can stand for it.
pub(super) fn view(round: Round) -> View {
    View(round.as_u32().unwrap_or(0))
}

pub(super) const fn round(view: View) -> Round {
    Round::new(view.0)
}

pub(super) const fn step(vote_type: VoteType) -> VoteStep {
    match vote_type {
        VoteType::Prevote => VoteStep::Prevote,
        VoteType::Precommit => VoteStep::Precommit,
    }
}

const fn vote_type(step: VoteStep) -> VoteType {
    match step {
        VoteStep::Prevote => VoteType::Prevote,
        VoteStep::Precommit => VoteType::Precommit,
    }
}

fn value_out(value: &NilOrVal<ValueId>) -> Option<RoundSetHash> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(id.0),
    }
}

fn value_in(value: Option<RoundSetHash>) -> NilOrVal<ValueId> {
    value.map_or(NilOrVal::Nil, |hash| NilOrVal::Val(ValueId(hash)))
}

pub(super) fn vote_out(vote: &Vote) -> weal_proto::Vote {
    weal_proto::Vote {
        round: vote.height.round(),
        view: view(vote.view),
        step: step(vote.step),
        value: value_out(&vote.value),
    }
}

pub(super) fn vote_in(voter: PeerId, vote: &weal_proto::Vote) -> Vote {
    Vote {
        height: Height::of(vote.round),
        view: round(vote.view),
        step: vote_type(vote.step),
        value: value_in(vote.value),
        voter: Address(voter),
    }
}

pub(super) fn proposal_out(proposal: &Proposal) -> weal_proto::Proposal {
    weal_proto::Proposal {
        round: proposal.height.round(),
        view: view(proposal.view),
        proof_of_lock: proposal.proof_of_lock.as_u32().map(View),
        value: proposal.value.hash,
    }
}

pub(super) fn proposal_in(proposer: PeerId, proposed: Proposed) -> Proposal {
    let Proposed { proposal, set } = proposed;
    Proposal {
        height: Height::of(proposal.round),
        view: round(proposal.view),
        proof_of_lock: proposal.proof_of_lock.map_or(Round::Nil, round),
        value: Value::new(set),
        proposer: Address(proposer),
    }
}

pub(super) fn signed_vote(envelope: &Envelope, vote: &weal_proto::Vote) -> SignedVote {
    SignedMessage::new(vote_in(envelope.signer, vote), envelope.signature)
}

pub(super) fn signed_proposal(envelope: &Envelope, proposed: Proposed) -> SignedProposal {
    SignedMessage::new(proposal_in(envelope.signer, proposed), envelope.signature)
}

pub(super) fn vote_envelope(run: RunId, signed: &SignedVote) -> Envelope {
    Envelope::from_parts(
        signed.message.voter.0,
        run,
        &vote_out(&signed.message),
        signed.signature,
    )
}

/// The proposal's envelope, with the round set beside it.
pub(super) fn proposal_envelope(run: RunId, signed: &SignedProposal) -> Envelope {
    let envelope = Envelope::from_parts(
        signed.message.proposer.0,
        run,
        &proposal_out(&signed.message),
        signed.signature,
    );
    Envelope {
        companion: signed.message.value.set.encode(),
        ..envelope
    }
}

/// The proof of a decision, with signatures in the order that the schema demands.
pub(super) fn certificate_out(certificate: &CommitCertificate<Agreement>) -> Certificate {
    let mut signatures: Vec<_> = certificate
        .commit_signatures
        .iter()
        .map(|commit| CommitSignature {
            peer: commit.address.0,
            signature: commit.signature,
        })
        .collect();
    signatures.sort_by_key(|commit| commit.peer);
    signatures.dedup_by_key(|commit| commit.peer);
    Certificate {
        round: certificate.height.round(),
        view: view(certificate.round),
        value: certificate.value_id.0,
        signatures,
    }
}

pub(super) fn polka_out(certificate: &PolkaCertificate<Agreement>) -> ViewCertificate {
    let value = Some(certificate.value_id.0);
    let signature = |s: &PolkaSignature<Agreement>| ViewSignature {
        peer: s.address.0,
        step: VoteStep::Prevote,
        value,
        signature: s.signature,
    };
    ViewCertificate {
        round: certificate.height.round(),
        view: view(certificate.round),
        polka: true,
        value,
        signatures: sorted(certificate.polka_signatures.iter().map(signature).collect()),
        precommits: false,
    }
}

pub(super) fn round_certificate_out(certificate: &RoundCertificate<Agreement>) -> ViewCertificate {
    let signature = |s: &RoundSignature<Agreement>| ViewSignature {
        peer: s.address.0,
        step: step(s.vote_type),
        value: value_out(&s.value_id),
        signature: s.signature,
    };
    ViewCertificate {
        round: certificate.height.round(),
        view: view(certificate.round),
        polka: false,
        value: None,
        signatures: sorted(certificate.round_signatures.iter().map(signature).collect()),
        precommits: certificate.cert_type == RoundCertificateType::Precommit,
    }
}

fn sorted(mut signatures: Vec<ViewSignature>) -> Vec<ViewSignature> {
    signatures.sort_by_key(|s| (s.peer, s.step));
    signatures.dedup_by_key(|s| (s.peer, s.step));
    signatures
}

/// A view certificate as one of Malachite's two kinds.
#[derive(Debug, Clone)]
pub(super) enum ViewProof {
    Polka(PolkaCertificate<Agreement>),
    Skip(RoundCertificate<Agreement>),
}

/// `None` for a polka that has no value, or that holds anything but prevotes for its value.
pub(super) fn view_proof(certificate: &ViewCertificate) -> Option<ViewProof> {
    let height = Height::of(certificate.round);
    if !certificate.polka {
        return Some(ViewProof::Skip(skip(height, certificate)));
    }
    let hash = certificate.value?;
    let prevotes_it = |s: &ViewSignature| s.step == VoteStep::Prevote && s.value == Some(hash);
    if !certificate.signatures.iter().all(prevotes_it) {
        return None;
    }
    Some(ViewProof::Polka(PolkaCertificate {
        height,
        round: round(certificate.view),
        value_id: ValueId(hash),
        polka_signatures: certificate
            .signatures
            .iter()
            .map(|s| PolkaSignature::new(Address(s.peer), s.signature))
            .collect(),
    }))
}

fn skip(height: Height, certificate: &ViewCertificate) -> RoundCertificate<Agreement> {
    let signature = |s: &ViewSignature| {
        RoundSignature::new(
            vote_type(s.step),
            value_in(s.value),
            Address(s.peer),
            s.signature,
        )
    };
    RoundCertificate {
        height,
        round: round(certificate.view),
        cert_type: if certificate.precommits {
            RoundCertificateType::Precommit
        } else {
            RoundCertificateType::Skip
        },
        round_signatures: certificate.signatures.iter().map(signature).collect(),
    }
}

/// Takes the round set out of a value, without copying it if nothing else shares it.
pub(super) fn into_set(value: Value) -> weal_proto::RoundSet {
    Arc::unwrap_or_clone(value.set)
}
