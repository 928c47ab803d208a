//! Checks signatures, each once.
//!
//! A round's messages come back many times: in gossip, in answers, inside proposals and
//! certificates. An envelope's hash covers its signature, so a hash that was found good once stays
//! good.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use weal_proto::{Envelope, EnvelopeHash, RunId};

/// Checks an envelope's signature.
pub trait CheckSignature: Send + Sync {
    /// Whether the envelope belongs to the run and its signature is the signer's.
    fn check(&self, envelope: &Envelope, run: RunId) -> bool;
}

/// Ed25519, computed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519;

impl CheckSignature for Ed25519 {
    fn check(&self, envelope: &Envelope, run: RunId) -> bool {
        envelope.verify(run).is_ok()
    }
}

/// Good hashes kept in each of two generations; a peer cannot make this grow, since only good
/// signatures are kept.
const GENERATION: usize = 1 << 14;

/// A checker that remembers what it found good.
#[derive(Clone)]
pub struct Signatures {
    run: RunId,
    checker: Arc<dyn CheckSignature>,
    young: BTreeSet<EnvelopeHash>,
    old: BTreeSet<EnvelopeHash>,
}

impl Signatures {
    /// A checker for a run.
    pub fn new(run: RunId, checker: Arc<dyn CheckSignature>) -> Self {
        Self {
            run,
            checker,
            young: BTreeSet::new(),
            old: BTreeSet::new(),
        }
    }

    /// The run whose messages are checked.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// Whether the envelope belongs to the run and its signature is the signer's.
    pub fn check(&mut self, envelope: &Envelope) -> bool {
        self.check_hashed(envelope, envelope.hash())
    }

    /// As [`check`](Self::check), for an envelope whose hash is known.
    pub fn check_hashed(&mut self, envelope: &Envelope, hash: EnvelopeHash) -> bool {
        if self.young.contains(&hash) || self.old.contains(&hash) {
            return true;
        }
        let good = self.checker.check(envelope, self.run);
        if good {
            self.remember(hash);
        }
        good
    }

    fn remember(&mut self, hash: EnvelopeHash) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }
}

impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signatures")
            .field("run", &self.run)
            .field("known", &self.young.len())
            .finish_non_exhaustive()
    }
}
