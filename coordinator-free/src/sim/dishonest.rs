//! What a dishonest peer does otherwise than its core.

use std::collections::BTreeMap;
use std::fmt;

use weal_proto::{BlobHash, Envelope, PeerId, RoundSet, RunId, Signable, SigningKey};

use crate::interface::time::Millis;
use crate::rules::beacon;
use crate::rules::chain::Chain;
use crate::rules::trust::committee::committee;

/// What a dishonest peer knows when it acts.
pub struct Glimpse<'a> {
    /// The peer's key.
    pub key: &'a SigningKey,
    /// The run.
    pub run: RunId,
    /// Virtual time.
    pub now: Millis,
    /// The decided history that its core holds.
    pub chain: &'a Chain,
    /// The message that its core has just received, if that is what happened.
    pub heard: Option<&'a Envelope>,
    /// Whether some peer serves a blob by now.
    pub is_served: &'a dyn Fn(&BlobHash) -> bool,
}

impl Glimpse<'_> {
    /// Signs a message with the peer's key.
    pub fn sign<M: Signable>(&self, message: &M) -> Envelope {
        Envelope::sign(self.key, self.run, message)
    }

    /// The voters that would measure a peer's contribution if this set were decided, and how many
    /// voices each would have; by the ledger of now.
    pub fn committee_after(&self, set: &RoundSet, of: &PeerId) -> BTreeMap<PeerId, u64> {
        let rules = &self.chain.manifest().trust;
        let seed = beacon::next(self.chain.seed(), set.hash());
        let voters = self.chain.ledger().measurers(rules);
        committee(voters, seed, of, rules.committee)
    }
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The message. It need not be the peer's own.
    pub envelope: Envelope,
    /// The peers that receive it.
    pub to: Audience,
}

impl Said {
    /// A message to everybody.
    pub const fn to_all(envelope: Envelope) -> Self {
        Self {
            envelope,
            to: Audience::All,
        }
    }
}

/// Something that a dishonest peer does by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Sends a message.
    Say(Said),
    /// Holds a blob, and serves it from now on.
    Serve(BlobHash),
}

/// Who receives a message, or is served a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Every other peer.
    All,
    /// Peers with an even index.
    Even,
    /// Peers with an odd index.
    Odd,
    /// These peers, by index.
    Only(Vec<usize>),
}

impl Audience {
    /// Whether it holds the peer with this index.
    pub fn holds(&self, peer: usize) -> bool {
        match self {
            Self::All => true,
            Self::Even => peer.is_multiple_of(2),
            Self::Odd => !peer.is_multiple_of(2),
            Self::Only(peers) => peers.contains(&peer),
        }
    }
}

/// A dishonest peer. An honest core runs underneath, and this decides what of it gets out.
///
/// Whatever is random in it must follow from its own seed, so that a run can be repeated.
pub trait Dishonest: fmt::Debug {
    /// What goes out instead of a message that the core broadcasts.
    fn say(&mut self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said>;

    /// What it does besides, after each step of the core.
    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        let _ = glimpse;
        Vec::new()
    }

    /// Who is served a blob that the core reveals.
    fn serve(&mut self, blob: &BlobHash) -> Audience {
        let _ = blob;
        Audience::All
    }
}
