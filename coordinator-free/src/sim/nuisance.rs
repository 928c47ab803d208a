//! Dishonest peers that never contradict themselves, so nobody can ban them.

use std::collections::BTreeSet;

use weal_proto::{
    Attestation, BlobHash, Envelope, Kind, ListHash, Message as _, Proposal, RoundNumber, RoundSet,
    StateRoot,
};

use super::dishonest::{Act, Audience, Dishonest, Glimpse, Said};
use super::liar::Lie;

/// Sets that a grinding proposer tries for each proposal.
const TRIES: usize = 16;

/// A peer that is a nuisance from some round on.
#[derive(Debug)]
pub(super) struct Nuisance {
    lie: Lie,
    from_round: u64,
    /// Rounds in which it has sent nonsense.
    sent_in: BTreeSet<RoundNumber>,
}

impl Nuisance {
    pub(super) const fn new(lie: Lie, from_round: u64) -> Self {
        Self {
            lie,
            from_round,
            sent_in: BTreeSet::new(),
        }
    }

    /// What goes out instead of this message of its own; `None` if the message itself does.
    fn instead(&self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
        if glimpse.chain.round().0 < self.from_round {
            return None;
        }
        match (self.lie, envelope.kind) {
            (Lie::MadeUpRoots, Kind::Attestation) => made_up_root(glimpse, envelope),
            (Lie::Grinds, Kind::Proposal) => smallest_set(glimpse, envelope),
            _ => None,
        }
    }
}

/// An attestation of weights that nobody has. They are others in every attempt.
fn made_up_root(glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
    let attestation: Attestation = envelope.open().ok()?;
    let root: StateRoot = (*blake3::hash(&envelope.payload).as_bytes()).into();
    Some(glimpse.sign(&Attestation {
        base_root: root,
        valid: Default::default(),
        list: ListHash::of([]),
        refused: Vec::new(),
        ..attestation
    }))
}

/// The proposal with the set whose hash is the smallest, of all that leave out one attestation, one
/// leave or one ticket.
fn smallest_set(glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
    let mut proposal: Proposal = envelope.open().ok()?;
    let set = RoundSet::decode(&envelope.companion).ok()?;
    let without = |place: usize| {
        let mut other = set.clone();
        other.leaves.clear();
        other.tickets.clear();
        if place < other.attestations.len() {
            other.attestations.remove(place);
        }
        other
    };
    let smallest = (0..TRIES).map(without).min_by_key(RoundSet::hash)?;
    proposal.value = smallest.hash();
    Some(Envelope {
        companion: smallest.encode(),
        ..glimpse.sign(&proposal)
    })
}

/// Messages of every kind that are too long, cut off, or not its own.
fn nonsense(glimpse: &Glimpse<'_>, heard: &Envelope) -> Vec<Envelope> {
    let kinds = [
        Kind::Commitment,
        Kind::Attestation,
        Kind::Vote,
        Kind::Ticket,
    ];
    let mut cut_off = heard.clone();
    cut_off.payload.truncate(heard.payload.len() / 2);
    let stolen = Envelope {
        signer: glimpse.key.peer(),
        ..heard.clone()
    };
    let too_long = kinds.map(|kind| Envelope {
        kind,
        signer: glimpse.key.peer(),
        payload: vec![0xff; kind.max_payload_bytes() + 1],
        ..heard.clone()
    });
    let empty = kinds.map(|kind| Envelope {
        kind,
        payload: Vec::new(),
        ..heard.clone()
    });
    let mut all = vec![cut_off, stolen];
    all.extend(too_long);
    all.extend(empty);
    all
}

impl Dishonest for Nuisance {
    fn say(&mut self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        if envelope.signer != glimpse.key.peer() {
            return vec![Said::to_all(envelope)];
        }
        let instead = self.instead(glimpse, &envelope);
        vec![Said::to_all(instead.unwrap_or(envelope))]
    }

    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        let round = glimpse.chain.round();
        let Some(heard) = glimpse.heard.filter(|_| self.lie == Lie::Nonsense) else {
            return Vec::new();
        };
        if round.0 < self.from_round || !self.sent_in.insert(round) {
            return Vec::new();
        }
        let nonsense = nonsense(glimpse, heard).into_iter();
        nonsense.map(|it| Act::Say(Said::to_all(it))).collect()
    }

    fn serve(&mut self, _: &BlobHash) -> Audience {
        match self.lie {
            Lie::Withholds => Audience::Only(Vec::new()),
            _ => Audience::All,
        }
    }
}
