//! What dishonest peers send instead of an honest core's messages.
//!
//! A liar runs an honest core, and replaces some of its messages on the way out: half of the peers
//! receive the original and the other half a contradicting message. Both are signed.

use weal_proto::{
    Commitment, Envelope, Kind, Proposal, RoundNumber, RoundSetHash, RunId, Signable, SigningKey,
    Vote, VoteStep,
};

/// How a peer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Proposes two sets in one view, and votes for each towards the peers that received it.
    TwoProposals,
    /// Commits to two blobs in one round.
    TwoCommitments,
    /// Precommits to the value towards half of the peers, and to none towards the others.
    TwoVotes,
}

/// A liar, and what it has proposed.
#[derive(Debug)]
pub(super) struct Liar {
    lie: Lie,
    from_round: u64,
    /// The last two sets that it proposed: its core's, and the other.
    proposed: Option<(RoundSetHash, RoundSetHash)>,
}

impl Liar {
    pub(super) const fn new(lie: Lie, from_round: u64) -> Self {
        Self {
            lie,
            from_round,
            proposed: None,
        }
    }

    /// What the other half of the peers receives instead of this message; `None` if all receive the
    /// same.
    pub(super) fn instead(
        &mut self,
        key: &SigningKey,
        run: RunId,
        envelope: &Envelope,
    ) -> Option<Envelope> {
        if envelope.signer != key.peer() {
            return None;
        }
        let sign = Signer { key, run };
        match (self.lie, envelope.kind) {
            (Lie::TwoProposals, Kind::Proposal) => self.other_proposal(sign, envelope),
            (Lie::TwoProposals, Kind::Vote) => self.vote_for_the_other(sign, envelope),
            (Lie::TwoVotes, Kind::Vote) => self.vote_for_none(sign, envelope),
            (Lie::TwoCommitments, Kind::Commitment) => self.other_commitment(sign, envelope),
            _ => None,
        }
    }

    const fn begins(&self, round: RoundNumber) -> bool {
        round.0 >= self.from_round
    }

    /// The same set without its last contribution. It is equally valid.
    fn other_proposal(&mut self, sign: Signer<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut proposal: Proposal = envelope
            .open()
            .ok()
            .filter(|p: &Proposal| self.begins(p.round))?;
        let first = proposal.value.hash();
        proposal.value.contributions.pop()?;
        self.proposed = Some((first, proposal.value.hash()));
        Some(sign.envelope(&proposal))
    }

    fn vote_for_the_other(&self, sign: Signer<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut vote: Vote = envelope.open().ok()?;
        let (first, other) = self.proposed?;
        if vote.value != Some(first) {
            return None;
        }
        vote.value = Some(other);
        Some(sign.envelope(&vote))
    }

    fn vote_for_none(&self, sign: Signer<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut vote: Vote = envelope
            .open()
            .ok()
            .filter(|vote: &Vote| self.begins(vote.round))?;
        if vote.step != VoteStep::Precommit {
            return None;
        }
        vote.value.take()?;
        Some(sign.envelope(&vote))
    }

    fn other_commitment(&self, sign: Signer<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut commitment: Commitment = envelope
            .open()
            .ok()
            .filter(|c: &Commitment| self.begins(c.round))?;
        commitment.blob = blake3::hash(commitment.blob.as_bytes())
            .as_bytes()
            .to_owned()
            .into();
        Some(sign.envelope(&commitment))
    }
}

#[derive(Clone, Copy)]
struct Signer<'a> {
    key: &'a SigningKey,
    run: RunId,
}

impl Signer<'_> {
    fn envelope<M: Signable>(self, message: &M) -> Envelope {
        Envelope::sign(self.key, self.run, message)
    }
}
