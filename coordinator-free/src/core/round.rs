//! The messages and findings of the running round. They are discarded when the round ends.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{
    Attestation, Closed, Commitment, Envelope, EnvelopeHash, PeerId, Recovery, RoundNumber, SlotId,
    Verdict, View, VoteStep,
};

use super::attest::ATTEMPTS_BACK;
use super::compare::Comparison;
use crate::agreement::Message;
use crate::interface::time::Millis;
use crate::interface::view::Phase;
use crate::rules::round_set::{Attestations, SignedCommitment};

/// Whether this node is training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Training {
    /// The core has not asked for training in this round.
    #[default]
    Idle,
    /// The core has asked for training, and waits for the answer.
    Running,
    /// Training has ended, with or without a contribution.
    Over,
}

/// The running round. Every message in it has a good signature, and its signer was entitled to send
/// it.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub phase: Phase,
    pub phase_ends: Option<Millis>,
    pub training: Training,
    /// The first commitment of each holder of a place.
    pub commitments: BTreeMap<PeerId, SignedCommitment>,
    /// Peers whose commitment arrived after this node had closed. Such a commitment may be to a
    /// copy of a revealed contribution.
    pub late: BTreeSet<PeerId>,
    /// This node takes no more commitments.
    pub is_closed: bool,
    /// Voters that take no more commitments.
    pub closed: BTreeMap<PeerId, Envelope>,
    /// Contributions that the caller is fetching and examining.
    pub examining: BTreeMap<EnvelopeHash, SlotId>,
    /// What the caller found.
    pub examined: BTreeMap<SlotId, Verdict>,
    /// How far the comparison of the contributions is.
    pub comparison: Comparison,
    /// The first attestation of each member in each attempt.
    pub attestations: Attestations,
    /// The attempt that this node attests in.
    pub attempt: u32,
    /// The last attempt in which this node computed its weights again; 0 if it did not.
    pub computed_again_in: u32,
    /// When this node began to wait for commitments.
    pub began: Millis,
    /// All members have committed, and the time left to newcomers is set.
    pub newcomers_are_late: bool,
    pub attest_time_is_up: bool,
    /// At most two proposals of each view. The second proves that its proposer contradicts itself;
    /// still, voters may have voted for it.
    pub proposals: BTreeMap<(View, EnvelopeHash), Envelope>,
    /// The first vote of each voter in each step.
    pub votes: BTreeMap<(View, VoteStep, PeerId), Envelope>,
    /// The newest view certificate of each voter and kind (true: a polka).
    pub view_certificates: BTreeMap<(PeerId, bool), (View, Envelope)>,
    /// What operators declare: the first recovery of each voter.
    pub recoveries: BTreeMap<PeerId, Envelope>,
    /// This node has stopped voting in the round, because its engine refused to continue or another
    /// machine uses its key. It leaves the decision to others.
    pub voting_stopped: bool,
}

impl Round {
    pub(super) fn restore_commitment(&mut self, current: RoundNumber, envelope: Envelope) {
        if let Ok(commitment) = envelope.open::<Commitment>()
            && commitment.round == current
        {
            self.commitments
                .insert(envelope.signer, SignedCommitment::new(envelope, commitment));
        }
    }

    pub(super) fn restore_attestation(&mut self, current: RoundNumber, envelope: Envelope) {
        if let Ok(attestation) = envelope.open::<Attestation>()
            && attestation.round == current
        {
            let attempt = attestation.attempt;
            self.attestations
                .insert((attempt, envelope.signer), (envelope, attestation));
            self.begin_attempt(attempt.max(self.attempt));
        }
    }

    /// Moves to a later attempt, and discards attestations of attempts long past, so that memory
    /// stays bounded in a round that takes many.
    pub(super) fn begin_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
        let oldest = attempt.saturating_sub(ATTEMPTS_BACK);
        self.attestations.retain(|(of, _), _| *of >= oldest);
    }

    /// Whether a member has attested in an attempt after this one.
    pub(super) fn has_attested_after(&self, attempt: u32, peer: &PeerId) -> bool {
        let later = self.attestations.keys().rev();
        let mut later = later.take_while(|(of, _)| *of > attempt);
        later.any(|(_, signer)| signer == peer)
    }

    /// Everything but its own commitment and what it stored as in time is late from now on.
    pub(super) fn restore_closed(&mut self, current: RoundNumber, envelope: Envelope) {
        if envelope
            .open::<Closed>()
            .is_ok_and(|closed| closed.round == current)
        {
            self.is_closed = true;
            self.closed.insert(envelope.signer, envelope);
        }
    }

    pub(super) fn restore_recovery(&mut self, current: RoundNumber, envelope: Envelope) {
        if envelope
            .open::<Recovery>()
            .is_ok_and(|recovery| recovery.round == current)
        {
            self.recoveries.insert(envelope.signer, envelope);
        }
    }

    /// Whether a member has attested in any attempt.
    pub(super) fn has_attested(&self, peer: &PeerId) -> bool {
        self.attestations.keys().any(|(_, signer)| signer == peer)
    }

    /// Keeps a message of the agreement, for peers that ask for it.
    pub(super) fn keep(&mut self, message: &Message) {
        match message {
            Message::Proposal(envelope, proposal) => {
                self.proposals
                    .insert((proposal.proposal.view, envelope.hash()), envelope.clone());
            }
            Message::Vote(envelope, vote) => {
                self.votes
                    .insert((vote.view, vote.step, envelope.signer), envelope.clone());
            }
            Message::ViewCertificate(envelope, certificate) => {
                self.view_certificates.insert(
                    (envelope.signer, certificate.polka),
                    (certificate.view, envelope.clone()),
                );
            }
        }
    }

    /// Every message of the agreement, in the order of views; within a view, proposals come first,
    /// then votes, then certificates.
    pub(super) fn agreement_messages(&self) -> Vec<Message> {
        let proposals = self.proposals.iter().map(|((view, _), it)| (*view, 0, it));
        let votes = self.votes.iter().map(|((view, _, _), it)| (*view, 1, it));
        let certificates = self.view_certificates.values();
        let certificates = certificates.map(|(view, it)| (*view, 2, it));
        let mut all: Vec<_> = proposals.chain(votes).chain(certificates).collect();
        all.sort_by_key(|(view, order, _)| (*view, *order));
        all.into_iter()
            .filter_map(|(_, _, envelope)| Message::decode(envelope))
            .collect()
    }

    /// The commitments that arrived in time.
    pub(super) fn in_time(&self) -> impl Iterator<Item = &SignedCommitment> {
        let in_time = |(peer, _): &(&PeerId, &SignedCommitment)| !self.late.contains(peer);
        self.commitments.iter().filter(in_time).map(|(_, it)| it)
    }

    /// Whether a peer's commitment arrived in time.
    pub(super) fn has_committed(&self, peer: &PeerId) -> bool {
        self.commitments.contains_key(peer) && !self.late.contains(peer)
    }

    /// Discards votes and proposals of earlier views, so that memory stays bounded in a round that
    /// takes many views.
    pub(super) fn forget_views_before(&mut self, view: View) {
        self.votes.retain(|(of, _, _), _| *of >= view);
        self.proposals.retain(|(of, _), _| *of >= view);
    }

    /// Peers that have voted, proposed, or moved to a later view.
    pub(super) fn deciders(&self) -> BTreeSet<PeerId> {
        let voters = self.votes.keys().map(|(_, _, peer)| *peer);
        let movers = self.view_certificates.keys().map(|(peer, _)| *peer);
        let proposers = self.proposals.values().map(|envelope| envelope.signer);
        voters.chain(movers).chain(proposers).collect()
    }
}

#[cfg(feature = "sim")]
impl Round {
    /// Checks what must always hold, `running` being the round's number.
    ///
    /// # Errors
    /// The broken statement.
    pub(super) fn check_invariants(&self, running: RoundNumber) -> Result<(), &'static str> {
        let of_this_round = |peer: &PeerId, signed: &SignedCommitment| {
            signed.envelope.signer == *peer && signed.commitment.round == running
        };
        if !self
            .commitments
            .iter()
            .all(|(peer, signed)| of_this_round(peer, signed))
        {
            return Err("a commitment is another peer's, or of another round");
        }
        if !self
            .attestations
            .iter()
            .all(|((attempt, peer), (envelope, attestation))| {
                envelope.signer == *peer
                    && attestation.round == running
                    && attestation.attempt == *attempt
            })
        {
            return Err("an attestation is another peer's, or of another round");
        }
        if !self
            .late
            .iter()
            .all(|peer| self.commitments.contains_key(peer))
        {
            return Err("a peer that has not committed counts as late");
        }
        if self
            .examining
            .iter()
            .any(|(_, slot)| self.examined.contains_key(slot))
        {
            return Err("a contribution is being examined a second time");
        }
        Ok(())
    }
}
