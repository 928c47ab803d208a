//! Checking the history of a run from its manifest on, or from a state that somebody trusts.

use std::fmt;
use std::sync::Arc;

use weal_proto::Decided;
use weal_proto::manifest::Manifest;

use super::chain::Chain;
use super::invalid::Invalid;
use super::round_set;
use super::signatures::{Ed25519, Signatures};
use crate::interface::output::Apply;

/// The decided history of a run, checked round by round by somebody who may take no part in it.
///
/// It takes nothing on trust but what it begins with: the manifest, whose hash is the run's id, or
/// the state before some round. Not the source of the decisions, nor the voters, who follow from
/// the rounds before.
pub struct History {
    chain: Chain,
    signatures: Signatures,
}

impl History {
    /// The history of a run before its round 0.
    pub fn of(manifest: Arc<Manifest>) -> Self {
        Self::after(Chain::genesis(manifest))
    }

    /// The history that goes on from here.
    pub fn after(chain: Chain) -> Self {
        Self {
            signatures: Signatures::new(chain.run(), Arc::new(Ed25519)),
            chain,
        }
    }

    /// What the rounds so far lead to.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Checks that a decision is the next round of this history: that voters with more than two
    /// thirds of the weight signed it, and that it follows the rules. Returns how it changes the
    /// weights.
    ///
    /// # Errors
    /// The first rule that the decision breaks. The history is then unchanged.
    pub fn follow(&mut self, decided: Decided) -> Result<Apply, Invalid> {
        let verified = round_set::verify(&self.chain, decided, &mut self.signatures)?;
        self.chain.extend(&verified)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("run", &self.chain.run())
            .field("round", &self.chain.round())
            .finish_non_exhaustive()
    }
}
