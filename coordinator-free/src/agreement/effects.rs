//! Carrying out what the engine asks for.

use std::collections::{BTreeMap, BTreeSet};

use arc_malachitebft_core_consensus::{ConsensusMsg, Input};
use arc_malachitebft_core_consensus::{
    Effect, LivenessMsg, Resumable, Resume, SignedConsensusMsg, VoteExtensionError,
};
use arc_malachitebft_core_types::{CommitCertificate, SignedMessage, Timeout};
use weal_proto::{Envelope, PeerId, RoundNumber, RunId, Signable, SigningKey, View};

use super::codec;
use super::context::{Agreement, Proposal, Vote};
use super::engine::Action;
use super::log;
use super::timers::{self, Times};
use super::verify;
use crate::interface::output::TimerId;
use crate::rules::evidence::Slot;
use crate::rules::signatures::Signatures;

/// Why an effect was not carried out. The engine then stops what it was doing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The engine is about to contradict what this peer signed before.
    #[error("it would contradict what this peer signed in {0:?}")]
    Contradiction(Slot),
    /// The engine wants to log what it never logs.
    #[error("it logs what cannot be logged")]
    Unloggable,
}

/// What the engine acts through: it holds no clock, no disk and no network, only notes of what is
/// to be done.
pub(super) struct Hands {
    pub run: RunId,
    pub round: RoundNumber,
    pub key: SigningKey,
    pub times: Times,
    /// False for a peer without a vote, who signs nothing and so need not remember anything.
    pub votes: bool,
    /// What this peer has signed in this round.
    pub spoken: BTreeMap<Slot, Envelope>,
    /// Timers that are set, and how long each was set for, in milliseconds.
    pub timers: BTreeMap<TimerId, u64>,
    /// Entries being replayed. Nothing is published during a replay, and nothing logged twice.
    pub replaying: Option<BTreeSet<Vec<u8>>>,
    /// The view this peer is to propose a value in.
    pub wanted: Option<View>,
    /// The current view and its proposer.
    pub view: Option<(View, PeerId)>,
    /// The proof of the decision.
    pub certificate: Option<CommitCertificate<Agreement>>,
    /// What is to be done.
    pub actions: Vec<Action>,
}

impl Hands {
    pub fn carry_out(
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
                self.wanted = None;
                r.resume_with(())
            }
            Effect::GetValue(_, view, _, r) => {
                self.wanted = Some(codec::view(view));
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                self.publish(match &message {
                    SignedConsensusMsg::Vote(vote) => codec::vote_envelope(self.run, vote),
                    SignedConsensusMsg::Proposal(proposal) => {
                        codec::proposal_envelope(self.run, proposal)
                    }
                });
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
                self.publish_signed(&codec::round_certificate_out(&certificate));
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
            // Proposals hold their value whole, so there is nothing more to send again.
            Effect::RestreamProposal(_, _, _, _, _, r) => r.resume_with(()),
            // Contradictions are found where messages come in, for all kinds alike.
            Effect::Finalize(_, _, _, r) => r.resume_with(()),
            // Decided rounds are verified by the chain; the engine is never given one.
            Effect::CertVerifiedSyncValue(_, _, r) => r.resume_with(()),
            Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            // Votes carry no extensions.
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => {
                r.resume_with(Err(VoteExtensionError::InvalidVoteExtension))
            }
        })
    }

    fn schedule(&mut self, timeout: &Timeout) {
        let (id, delay_ms) = (
            timers::timer(self.round, timeout),
            self.times.delay_ms(timeout),
        );
        self.timers.insert(id, delay_ms);
        self.actions.push(Action::SetTimer { id, delay_ms });
    }

    fn cancel(&mut self, timeout: &Timeout) {
        let id = timers::timer(self.round, timeout);
        if self.timers.remove(&id).is_some() {
            self.actions.push(Action::CancelTimer(id));
        }
    }

    pub fn cancel_all(&mut self) {
        let timers = std::mem::take(&mut self.timers);
        self.actions
            .extend(timers.into_keys().map(Action::CancelTimer));
    }

    fn publish(&mut self, envelope: Envelope) {
        if self.replaying.is_none() {
            self.actions.push(Action::Publish(envelope));
        }
    }

    fn publish_signed<M: Signable>(&mut self, message: &M) {
        self.publish(Envelope::sign(&self.key, self.run, message));
    }

    fn publish_liveness(&mut self, message: &LivenessMsg<Agreement>) {
        match message {
            LivenessMsg::Vote(vote) => self.publish(codec::vote_envelope(self.run, vote)),
            LivenessMsg::PolkaCertificate(polka) => self.publish_signed(&codec::polka_out(polka)),
            LivenessMsg::SkipRoundCertificate(skip) => {
                self.publish_signed(&codec::round_certificate_out(skip))
            }
        }
    }

    fn sign_vote(&mut self, vote: Vote) -> Result<codec::SignedVote, Refusal> {
        let message = codec::vote_out(&vote);
        let slot = Slot::Vote(message.round, message.view, message.step);
        let signature = self.sign(slot, &message)?.signature;
        Ok(SignedMessage::new(vote, signature))
    }

    fn sign_proposal(&mut self, proposal: Proposal) -> Result<codec::SignedProposal, Refusal> {
        let message = codec::proposal_out(&proposal);
        self.wanted = None;
        let slot = Slot::Proposal(message.round, message.view);
        let signature = self.sign(slot, &message)?.signature;
        Ok(SignedMessage::new(proposal, signature))
    }

    /// Signs, unless this peer has signed something else in its place: whatever else goes wrong, it
    /// does not contradict itself.
    fn sign<M: Signable>(&mut self, slot: Slot, message: &M) -> Result<Envelope, Refusal> {
        let envelope = Envelope::sign(&self.key, self.run, message);
        match self.spoken.get(&slot) {
            Some(before) if before.payload != envelope.payload => Err(Refusal::Contradiction(slot)),
            Some(before) => Ok(before.clone()),
            None => {
                self.spoken.insert(slot, envelope.clone());
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
