//! What dishonest peers do in the agreement itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use weal_coordinator_free::sim::{Act, Audience, Dishonest, Glimpse, Random, Said};
use weal_proto::{
    Attestation, Commitment, Envelope, Kind, Message as _, PeerId, Proposal, RoundNumber, RoundSet,
    Score, SigningKey, SlotId, Ticket, limits,
};

use crate::grinding::Grinder;
use crate::lab::Lab;

/// What a dishonest peer does in the agreement itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    /// It attests two state roots, each towards half of the peers.
    TwoAttestations,
    /// It attests weights that nobody has, and refuses every contribution.
    BadAttestations,
    /// It proposes sets without contributions.
    Censor,
    /// It proposes sets with as few attestations as it has to, and never its victims'.
    Narrow,
    /// It attests the right weights, and refuses every contribution.
    RefuseAll,
    /// It attests random bytes, more bytes than fit, and scores for all places.
    Garbage,
    /// It proposes the set, of many, whose seed draws its friends to measure its friends.
    Grind,
    /// It sends valid messages of keys that nobody knows.
    Flood,
}

/// Messages of unknown keys that a flooding peer sends for each commitment it hears.
const FLOOD: usize = 20;
/// What a made-up score says, in parts per million of the loss.
const MADE_UP: i32 = 900_000;

/// A peer that does this.
#[derive(Debug)]
pub(crate) struct Mischievous {
    mischief: Mischief,
    random: Random,
    grinder: Grinder,
    /// The newest round in which each peer's commitment was heard.
    heard: BTreeMap<PeerId, RoundNumber>,
}

impl Mischievous {
    pub(crate) fn new(mischief: Mischief, index: usize, lab: &Rc<RefCell<Lab>>) -> Self {
        let seed = lab.borrow().seed() ^ index as u64;
        Self {
            mischief,
            random: Random::new(seed),
            grinder: Grinder::new(lab),
            heard: BTreeMap::new(),
        }
    }

    /// The attestation of weights that nobody has, or of nothing valid.
    fn other_attestation(&mut self, envelope: &Envelope) -> Option<Attestation> {
        let attestation: Attestation = envelope.open().ok()?;
        let refuses = self.mischief != Mischief::TwoAttestations;
        Some(Attestation {
            base_root: match self.mischief {
                Mischief::RefuseAll => attestation.base_root,
                _ => self.random.bytes().into(),
            },
            valid: if refuses {
                Default::default()
            } else {
                attestation.valid.clone()
            },
            ..attestation
        })
    }

    /// Random bytes, more bytes than fit, and scores for all places.
    fn garbage(&mut self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        let with = |payload: Vec<u8>| Envelope {
            payload,
            ..envelope.clone()
        };
        let random = (0..32).flat_map(|_| self.random.bytes()).collect();
        let mut said = vec![
            with(random),
            with(vec![0x0a; limits::ATTESTATION_BYTES + 1]),
        ];
        if let Ok(mut attestation) = envelope.open::<Attestation>() {
            let score = |slot| Score {
                slot,
                own_ppm: MADE_UP,
                held_ppm: MADE_UP,
            };
            attestation.scores = (0..=u8::MAX).map(SlotId).map(score).collect();
            said.push(glimpse.sign(&attestation));
        }
        said.into_iter().map(Said::to_all).collect()
    }

    /// The proposal with another set.
    fn other_proposal(&mut self, glimpse: &Glimpse<'_>, envelope: &Envelope) -> Option<Envelope> {
        let mut proposal: Proposal = envelope.open().ok()?;
        let mut set = RoundSet::decode(&envelope.companion).ok()?;
        if self.mischief == Mischief::Censor {
            set.contributions.clear();
        } else if self.mischief == Mischief::Grind {
            set = self.grinder.best(glimpse, set);
        } else {
            let roster = glimpse.chain.ledger().roster();
            let mut kept = 0_u128;
            set.attestations.retain(|attestation| {
                let needed = !roster.is_quorum(kept);
                kept += u128::from(roster.weight(&attestation.signer));
                needed
            });
        }
        proposal.value = set.hash();
        Some(Envelope {
            companion: set.encode(),
            ..glimpse.sign(&proposal)
        })
    }

    /// Whether it sends something else than its core's messages of a kind.
    const fn replaces(&self, kind: Kind) -> bool {
        match self.mischief {
            Mischief::TwoAttestations
            | Mischief::BadAttestations
            | Mischief::RefuseAll
            | Mischief::Garbage => matches!(kind, Kind::Attestation),
            Mischief::Censor | Mischief::Narrow | Mischief::Grind => matches!(kind, Kind::Proposal),
            Mischief::Flood => false,
        }
    }

    /// The commitment that was heard, if it is the first of a member in its round. Answering
    /// strangers would make floods answer one another for ever.
    fn new_commitment(&mut self, glimpse: &Glimpse<'_>) -> Option<Commitment> {
        let heard = glimpse.heard.filter(|one| one.kind == Kind::Commitment)?;
        let commitment: Commitment = heard.open().ok()?;
        let is_member = glimpse.chain.ledger().is_member(&heard.signer);
        let before = self.heard.get(&heard.signer);
        let is_new = before.is_none_or(|round| *round < commitment.round);
        (is_member && is_new).then(|| {
            self.heard.insert(heard.signer, commitment.round);
            commitment
        })
    }

    /// A commitment and a ticket of a key that nobody knows.
    fn of_a_stranger(&mut self, glimpse: &Glimpse<'_>, heard: &Commitment) -> [Envelope; 2] {
        let key = SigningKey::from_seed(self.random.bytes());
        let commitment = Commitment {
            blob: self.random.bytes().into(),
            ..heard.clone()
        };
        let ticket = Ticket {
            round: heard.round,
            nonce: self.random.next(),
        };
        [
            Envelope::sign(&key, glimpse.run, &commitment),
            Envelope::sign(&key, glimpse.run, &ticket),
        ]
    }
}

impl Dishonest for Mischievous {
    fn say(&mut self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        if envelope.signer != glimpse.key.peer() {
            return vec![Said::to_all(envelope)];
        }
        if !self.replaces(envelope.kind) {
            return vec![Said::to_all(envelope)];
        }
        if self.mischief == Mischief::Garbage {
            return self.garbage(glimpse, envelope);
        }
        let other = if envelope.kind == Kind::Attestation {
            let other = self.other_attestation(&envelope);
            other.map(|other| glimpse.sign(&other))
        } else {
            self.other_proposal(glimpse, &envelope)
        };
        match other {
            None => vec![Said::to_all(envelope)],
            Some(other) if self.mischief == Mischief::TwoAttestations => vec![
                Said {
                    envelope,
                    to: Audience::Even,
                },
                Said {
                    envelope: other,
                    to: Audience::Odd,
                },
            ],
            Some(other) => vec![Said::to_all(other)],
        }
    }

    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        let (Mischief::Flood, Some(heard)) = (self.mischief, self.new_commitment(glimpse)) else {
            return Vec::new();
        };
        let strangers = (0..FLOOD).flat_map(|_| self.of_a_stranger(glimpse, &heard));
        strangers.map(Said::to_all).map(Act::Say).collect()
    }
}
