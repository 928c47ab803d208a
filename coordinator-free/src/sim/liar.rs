//! What dishonest peers send instead of an honest core's messages.
//!
//! A liar runs an honest core, and replaces some of its messages on the way out: half of the peers
//! receive the original and the other half a contradicting message. Both are signed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use weal_proto::{
    Commitment, Envelope, Kind, Message as _, Proposal, RoundNumber, RoundSet, RoundSetHash, Vote,
    VoteStep,
};

use super::dishonest::{Audience, Dishonest, Glimpse, Said};

/// How a peer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Proposes two sets in one view. All liars of this kind vote for each set towards the peers
    /// that received it.
    TwoProposals,
    /// Commits to two blobs in one round.
    TwoCommitments,
    /// Precommits to the value towards half of the peers, and to none towards the others.
    TwoVotes,
    /// Attests weights that nobody has.
    MadeUpRoots,
    /// Proposes, of many sets, the one whose hash is the smallest.
    Grinds,
    /// Commits, and serves its contribution to nobody.
    Withholds,
    /// Sends messages that are too long, cut off, or not its own.
    Nonsense,
}

impl Lie {
    /// Whether such a peer contradicts itself, so that others can prove it.
    pub const fn is_provable(self) -> bool {
        matches!(
            self,
            Self::TwoProposals | Self::TwoCommitments | Self::TwoVotes
        )
    }
}

/// What colluding liars know of one another: for each set that one of them proposed, the set that
/// goes to peers with an even index and the one for the others.
pub(super) type Plot = Rc<RefCell<BTreeMap<RoundSetHash, (RoundSetHash, RoundSetHash)>>>;

/// A liar, and what it and its friends have proposed.
#[derive(Debug)]
pub(super) struct Liar {
    lie: Lie,
    from_round: u64,
    plot: Plot,
    /// Its vote for its own proposal, until that is out.
    held_back: Option<Envelope>,
}

impl Liar {
    pub(super) const fn new(lie: Lie, from_round: u64, plot: Plot) -> Self {
        Self {
            lie,
            from_round,
            plot,
            held_back: None,
        }
    }

    /// What the peers with an odd index receive instead of this message; `None` if all receive the
    /// same.
    fn instead(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
        match (self.lie, envelope.kind) {
            (Lie::TwoProposals, Kind::Proposal) => self.other_proposal(glimpse, envelope),
            (Lie::TwoVotes, Kind::Vote) => self.vote_for_none(glimpse, envelope),
            (Lie::TwoCommitments, Kind::Commitment) => self.other_commitment(glimpse, envelope),
            _ => None,
        }
    }

    const fn begins(&self, round: RoundNumber) -> bool {
        round.0 >= self.from_round
    }

    /// The same set without its last attestation. It is equally valid, as long as enough are left.
    fn other_proposal(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut proposal: Proposal = envelope
            .open()
            .ok()
            .filter(|p: &Proposal| self.begins(p.round))?;
        let mut set = RoundSet::decode(&envelope.companion).ok()?;
        let first = proposal.value;
        set.attestations.pop()?;
        proposal.value = set.hash();
        let sets = (first, proposal.value);
        let mut plot = self.plot.borrow_mut();
        plot.insert(sets.0, sets);
        plot.insert(sets.1, sets);
        Some(Envelope {
            companion: set.encode(),
            ..glimpse.sign(&proposal)
        })
    }

    /// Whether a liar must wait with this vote: its core votes for its own proposal before it sends
    /// that, and only then is there a second set to vote for.
    fn is_too_early(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> bool {
        let roster = glimpse.chain.ledger().roster();
        let for_its_own = |vote: &Vote| {
            vote.step == VoteStep::Prevote
                && vote
                    .value
                    .is_some_and(|set| !self.plot.borrow().contains_key(&set))
                && self.begins(vote.round)
                && roster.proposer(vote.view) == Some(envelope.signer)
        };
        (self.lie, envelope.kind) == (Lie::TwoProposals, Kind::Vote)
            && envelope.open().is_ok_and(|vote| for_its_own(&vote))
    }

    /// A vote for each of the two sets, if the core votes for one of them.
    fn both_votes(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<[Envelope; 2]> {
        if (self.lie, envelope.kind) != (Lie::TwoProposals, Kind::Vote) {
            return None;
        }
        let vote: Vote = envelope.open().ok()?;
        let (even, odd) = *self.plot.borrow().get(&vote.value?)?;
        let votes = [even, odd].map(|set| Vote {
            value: Some(set),
            ..vote
        });
        Some(votes.map(|vote| glimpse.sign(&vote)))
    }

    fn vote_for_none(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut vote: Vote = envelope
            .open()
            .ok()
            .filter(|vote: &Vote| self.begins(vote.round))?;
        if vote.step != VoteStep::Precommit {
            return None;
        }
        vote.value.take()?;
        Some(glimpse.sign(&vote))
    }

    fn other_commitment(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut commitment: Commitment = envelope
            .open()
            .ok()
            .filter(|c: &Commitment| self.begins(c.round))?;
        commitment.blob = blake3::hash(commitment.blob.as_bytes())
            .as_bytes()
            .to_owned()
            .into();
        Some(glimpse.sign(&commitment))
    }
}

impl Dishonest for Liar {
    fn say(&mut self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        if envelope.signer != glimpse.key.peer() {
            return vec![Said::to_all(envelope)];
        }
        if self.is_too_early(glimpse, &envelope) {
            self.held_back = Some(envelope);
            return Vec::new();
        }
        let is_proposal = envelope.kind == Kind::Proposal;
        let mut said = self.both(glimpse, envelope);
        if let Some(vote) = self.held_back.take_if(|_| is_proposal) {
            said.extend(self.both(glimpse, vote));
        }
        said
    }
}

impl Liar {
    /// A message, or what the two halves of the peers receive instead.
    fn both(&self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        let [even, odd] = if let Some(votes) = self.both_votes(glimpse, &envelope) {
            votes
        } else if let Some(other) = self.instead(glimpse, &envelope) {
            [envelope, other]
        } else {
            return vec![Said::to_all(envelope)];
        };
        vec![
            Said {
                envelope: even,
                to: Audience::Even,
            },
            Said {
                envelope: odd,
                to: Audience::Odd,
            },
        ]
    }
}
