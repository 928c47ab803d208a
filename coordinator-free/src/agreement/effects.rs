//! Carries out what Malachite asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect, Input, LivenessMsg, Resumable, Resume, SignedConsensusMsg,
    VoteExtensionError,
};
use arc_malachitebft_core_types::{CommitCertificate, SignedMessage, Timeout};
use weal_proto::{
    Envelope, PeerId, RoundNumber, RunId, Signable, SigningKey, View, ViewCertificate,
};

use super::action::Action;
use super::codec;
use super::context::{Agreement, Proposal, Vote};
use super::log;
use super::timeouts::{self, Timeouts};
use super::verify;
use crate::interface::names::TimerId;
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;
use crate::rules::slot::Slot;

/// Why an effect is not carried out. Malachite then abandons the input it was processing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Signing would make this node contradict itself.
    #[error("signing would contradict what this node has signed for {0:?}")]
    Contradiction(Slot),
    /// Malachite logs an input of a kind that it should never log.
    #[error("the engine logs an input that has no log entry")]
    Unloggable,
}

/// How many voters send what all voters hold: the proof that a view is over, and the proposal that
/// they locked. One copy is enough. If each of 128 voters sent its own, that would be a gigabyte,
/// and on slow lines no later view could end in time either.
const SPEAKERS: usize = 8;

/// Turns Malachite's effects into [`Action`]s. It has no clock, no disk and no network.
pub(super) struct EffectHandler {
    pub run: RunId,
    pub round: RoundNumber,
    pub key: SigningKey,
    pub timeouts: Timeouts,
    /// Whether this node has a vote. A node without one signs nothing, so it needs no log.
    pub votes: bool,
    /// Everything that this node has signed in this round.
    pub signed: BTreeMap<Slot, Envelope>,
    /// Timers that are set, each with its delay in milliseconds.
    pub timers: BTreeMap<TimerId, u64>,
    /// The log entries being replayed, if any. A replay publishes nothing, and logs no entry twice.
    pub replaying: Option<BTreeSet<Vec<u8>>>,
    pub roster: Arc<Roster>,
    /// The view that waits for a proposal of this node.
    pub must_propose_in: Option<View>,
    /// The current view and its proposer; `None` before the first view begins.
    pub view: Option<(View, PeerId)>,
    /// How often the current view's proof was sent again.
    pub repeats: usize,
    /// The proof of the decision, once there is one.
    pub certificate: Option<CommitCertificate<Agreement>>,
    /// Actions that the engine has not handed on yet.
    pub actions: Vec<Action>,
}

impl EffectHandler {
    pub(super) fn carry_out(
        &mut self,
        effect: Effect<Agreement>,
        signatures: &mut Signatures,
    ) -> Result<Resume<Agreement>, Refusal> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.cancel_all();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                self.cancel(&timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.schedule(&timeout);
                r.resume_with(())
            }
            Effect::StartRound(_, view, proposer, _, r) => {
                self.view = Some((codec::view(view), proposer.0));
                self.must_propose_in = None;
                self.repeats = 0;
                r.resume_with(())
            }
            Effect::GetValue(_, view, _, r) => {
                self.must_propose_in = Some(codec::view(view));
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                self.publish_consensus(&message);
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                self.publish_liveness(&message);
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.publish(codec::vote_envelope(self.run, &vote));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                self.repeats = self.repeats.saturating_add(1);
                self.share(&codec::round_certificate_out(&certificate));
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => r.resume_with(self.sign_vote(vote)?),
            Effect::SignProposal(proposal, r) => r.resume_with(self.sign_proposal(proposal)?),
            Effect::VerifySignature(message, _, r) => {
                r.resume_with(signatures.check(&consensus_envelope(self.run, message)))
            }
            Effect::VerifyCommitCertificate(certificate, voters, _, r) => {
                r.resume_with(verify::commit(&certificate, &voters, signatures))
            }
            Effect::VerifyExtendedCommitCertificate(certificate, voters, _, _, r) => r.resume_with(
                verify::commit(&certificate.trim_vote_extensions(), &voters, signatures),
            ),
            Effect::VerifyPolkaCertificate(certificate, voters, _, r) => {
                r.resume_with(verify::polka(&certificate, &voters, signatures))
            }
            Effect::VerifyRoundCertificate(certificate, voters, _, r) => {
                r.resume_with(verify::round(&certificate, &voters, signatures))
            }
            Effect::WalAppend(_, input, r) => {
                self.log(&input)?;
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                self.certificate = Some(certificate);
                r.resume_with(())
            }
            // Nothing to do. Proposals hold their whole value; `core::equivocation` finds
            // contradictions of all kinds; the engine never gets a decided round to verify.
            Effect::RestreamProposal(_, _, _, _, _, r)
            | Effect::Finalize(_, _, _, r)
            | Effect::CertVerifiedSyncValue(_, _, r)
            | Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            // Our votes have no extensions.
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => {
                r.resume_with(Err(VoteExtensionError::InvalidVoteExtension))
            }
        })
    }

    fn schedule(&mut self, timeout: &Timeout) {
        let (id, delay_ms) = (
            timeouts::timer(self.round, timeout),
            self.timeouts.delay_ms(timeout),
        );
        self.timers.insert(id, delay_ms);
        self.actions.push(Action::SetTimer { id, delay_ms });
    }

    fn cancel(&mut self, timeout: &Timeout) {
        let id = timeouts::timer(self.round, timeout);
        if self.timers.remove(&id).is_some() {
            self.actions.push(Action::CancelTimer(id));
        }
    }

    pub(super) fn cancel_all(&mut self) {
        let timers = std::mem::take(&mut self.timers);
        self.actions
            .extend(timers.into_keys().map(Action::CancelTimer));
    }

    fn publish(&mut self, envelope: Envelope) {
        if self.replaying.is_none() {
            self.actions.push(Action::Publish(envelope));
        }
    }

    fn publish_consensus(&mut self, message: &SignedConsensusMsg<Agreement>) {
        match message {
            SignedConsensusMsg::Vote(vote) => self.publish(codec::vote_envelope(self.run, vote)),
            SignedConsensusMsg::Proposal(proposal) => {
                let own = proposal.message.proposer.0 == self.key.peer();
                if own || self.speaks(codec::view(proposal.message.view)) {
                    self.publish(codec::proposal_envelope(self.run, proposal));
                }
            }
        }
    }

    fn publish_liveness(&mut self, message: &LivenessMsg<Agreement>) {
        match message {
            LivenessMsg::Vote(vote) => self.publish(codec::vote_envelope(self.run, vote)),
            LivenessMsg::PolkaCertificate(polka) => self.share(&codec::polka_out(polka)),
            LivenessMsg::SkipRoundCertificate(skip) => {
                self.share(&codec::round_certificate_out(skip));
            }
        }
    }

    /// Sends a certificate that all voters hold, or only keeps it, if others send theirs.
    fn share(&mut self, certificate: &ViewCertificate) {
        let envelope = Envelope::sign(&self.key, self.run, certificate);
        if self.speaks(certificate.view) {
            self.publish(envelope);
        } else if self.replaying.is_none() {
            self.actions.push(Action::Keep(envelope));
        }
    }

    /// Whether this node is one of those that send what all voters hold about a view: those that
    /// propose next. If nothing has moved until the proof is sent again, the next ones send it.
    fn speaks(&self, view: View) -> bool {
        let next = View(view.0.saturating_add(1));
        let speakers = self.roster.proposers_from(next);
        let mut speakers = speakers
            .skip(self.repeats.saturating_mul(SPEAKERS))
            .take(SPEAKERS);
        speakers.any(|peer| peer == self.key.peer())
    }

    fn sign_vote(&mut self, vote: Vote) -> Result<codec::SignedVote, Refusal> {
        let message = codec::vote_out(&vote);
        let slot = Slot::Vote(message.round, message.view, message.step);
        let signature = self.sign(slot, &message)?.signature;
        Ok(SignedMessage::new(vote, signature))
    }

    fn sign_proposal(&mut self, proposal: Proposal) -> Result<codec::SignedProposal, Refusal> {
        let message = codec::proposal_out(&proposal);
        self.must_propose_in = None;
        let slot = Slot::Proposal(message.round, message.view);
        let signature = self.sign(slot, &message)?.signature;
        Ok(SignedMessage::new(proposal, signature))
    }

    /// Signs a message, unless this node has signed another one for the slot. Whatever else goes
    /// wrong, this node does not contradict itself.
    fn sign<M: Signable>(&mut self, slot: Slot, message: &M) -> Result<Envelope, Refusal> {
        let envelope = Envelope::sign(&self.key, self.run, message);
        match self.signed.get(&slot) {
            Some(before) if before.payload != envelope.payload => Err(Refusal::Contradiction(slot)),
            Some(before) => Ok(before.clone()),
            None => {
                self.signed.insert(slot, envelope.clone());
                Ok(envelope)
            }
        }
    }

    fn log(&mut self, input: &Input<Agreement>) -> Result<(), Refusal> {
        if !self.votes {
            return Ok(());
        }
        let entry = log::encode(self.run, input).ok_or(Refusal::Unloggable)?;
        if !self
            .replaying
            .as_ref()
            .is_some_and(|entries| entries.contains(&entry))
        {
            self.actions.push(Action::Log(entry));
        }
        Ok(())
    }
}

fn consensus_envelope(
    run: RunId,
    message: SignedMessage<Agreement, ConsensusMsg<Agreement>>,
) -> Envelope {
    let SignedMessage { message, signature } = message;
    match message {
        ConsensusMsg::Vote(vote) => codec::vote_envelope(run, &SignedMessage::new(vote, signature)),
        ConsensusMsg::Proposal(proposal) => {
            codec::proposal_envelope(run, &SignedMessage::new(proposal, signature))
        }
    }
}
