//! What is known of the running round. It ends with the round.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{
    Attestation, Commitment, Envelope, EnvelopeHash, PeerId, RoundNumber, Verdict, View, VoteStep,
};

use crate::interface::time::Millis;
use crate::interface::view::Phase;
use crate::rules::round_set::SignedCommitment;

/// Whether this peer is training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Training {
    /// Not in this round, or not yet.
    #[default]
    Idle,
    /// The caller is at it.
    Running,
    /// It came to an end, with or without a contribution.
    Over,
}

/// The running round. Everything in the maps has a good signature, and is its signer's to say.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub phase: Phase,
    pub phase_ends: Option<Millis>,
    pub training: Training,
    /// The first commitment of each peer.
    pub commitments: BTreeMap<PeerId, SignedCommitment>,
    /// Whose came after this peer stopped waiting: it may be a copy of what was revealed.
    pub late: BTreeSet<PeerId>,
    /// What is being fetched and examined.
    pub examining: BTreeSet<EnvelopeHash>,
    /// What was found.
    pub examined: BTreeMap<EnvelopeHash, Verdict>,
    /// The first attestation of each member.
    pub attestations: BTreeMap<PeerId, (Envelope, Attestation)>,
    pub attest_time_is_up: bool,
    /// At most two of a view: a second proves that its proposer lies, and may be the one that was
    /// voted for.
    pub proposals: BTreeMap<(View, EnvelopeHash), Envelope>,
    /// The first vote of each voter in each step.
    pub votes: BTreeMap<(View, VoteStep, PeerId), Envelope>,
    /// The newest view certificate of each voter and kind (a polka, or not).
    pub view_certificates: BTreeMap<(PeerId, bool), (View, Envelope)>,
    /// The engine refused to go on, or this key is in use elsewhere: the decision is left to
    /// others.
    pub barred: bool,
}

impl Round {
    pub fn restore_commitment(&mut self, current: RoundNumber, envelope: Envelope) {
        if let Ok(commitment) = envelope.open::<Commitment>()
            && commitment.round == current
        {
            let hash = envelope.hash();
            self.commitments.insert(
                envelope.signer,
                SignedCommitment {
                    envelope,
                    hash,
                    commitment,
                },
            );
        }
    }

    pub fn restore_attestation(&mut self, current: RoundNumber, envelope: Envelope) {
        if let Ok(attestation) = envelope.open::<Attestation>()
            && attestation.round == current
        {
            self.attestations
                .insert(envelope.signer, (envelope, attestation));
        }
    }

    /// Whose commitments came in time.
    pub fn committed(&self) -> impl Iterator<Item = &PeerId> {
        self.commitments
            .keys()
            .filter(|peer| !self.late.contains(*peer))
    }

    /// Whether a peer's commitment came in time.
    pub fn has_committed(&self, peer: &PeerId) -> bool {
        self.commitments.contains_key(peer) && !self.late.contains(peer)
    }

    /// Forgets what was said in views before this one: a round that takes many views must not take
    /// ever more memory.
    pub fn forget_views_before(&mut self, view: View) {
        self.votes.retain(|(of, _, _), _| *of >= view);
        self.proposals.retain(|(of, _), _| *of >= view);
    }

    /// Who takes part in the agreement already.
    pub fn speakers(&self) -> BTreeSet<PeerId> {
        let voters = self.votes.keys().map(|(_, _, peer)| *peer);
        voters
            .chain(self.proposals.values().map(|envelope| envelope.signer))
            .collect()
    }
}
