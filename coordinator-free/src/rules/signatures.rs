//! Checks each signature once.
//!
//! The same message arrives many times: through gossip, in answers to requests, inside proposals
//! and certificates. An envelope's hash covers its signature, so this cache keeps the hashes of
//! envelopes whose signatures verified.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use weal_proto::{Envelope, EnvelopeHash, RunId};

/// How signatures are checked. A node uses [`Ed25519`]; the simulator shares results between cores.
pub trait CheckSignature: Send + Sync {
    /// Whether the envelope belongs to the run and its signature matches its signer.
    fn check(&self, envelope: &Envelope, run: RunId) -> bool;
}

/// Computes the check: Ed25519 under ZIP-215 rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519;

impl CheckSignature for Ed25519 {
    fn check(&self, envelope: &Envelope, run: RunId) -> bool {
        envelope.verify(run).is_ok()
    }
}

/// Hashes kept in each of two generations. When the young one is full, it replaces the old one.
const GENERATION: usize = 1 << 14;

/// A checker with a cache of signatures that verified.
#[derive(Clone)]
pub(crate) struct Signatures {
    run: RunId,
    checker: Arc<dyn CheckSignature>,
    young: BTreeSet<EnvelopeHash>,
    old: BTreeSet<EnvelopeHash>,
}

impl Signatures {
    /// An empty cache for one run.
    pub(crate) fn new(run: RunId, checker: Arc<dyn CheckSignature>) -> Self {
        Self {
            run,
            checker,
            young: BTreeSet::new(),
            old: BTreeSet::new(),
        }
    }

    /// The run that all messages must belong to.
    pub(crate) const fn run(&self) -> RunId {
        self.run
    }

    /// Whether the envelope belongs to the run and its signature matches its signer.
    pub(crate) fn check(&mut self, envelope: &Envelope) -> bool {
        let hash = envelope.hash();
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
