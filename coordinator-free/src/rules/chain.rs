//! The end of decided history: all that the next round depends on.

use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{
    Commitment, LedgerRoot, PeerId, RoundNumber, RoundSet, RoundSetHash, RunId, Seed,
};

use crate::interface::output::{Apply, Chosen};
use crate::rules::beacon;
use crate::rules::invalid::Invalid;
use crate::rules::ledger::{Ledger, Outcome};
use crate::rules::verified::Verified;

/// The end of decided history: all that the rules of the next round depend on.
///
/// A latecomer starts from [`Chain::genesis`] and [extends](Self::extend) it round by round. Each
/// step proves itself: it takes a [`Verified`] decision.
#[derive(Debug, Clone)]
pub struct Chain {
    manifest: Arc<Manifest>,
    run: RunId,
    round: RoundNumber,
    parent: RoundSetHash,
    seed: Seed,
    ledger: Ledger,
    ledger_root: LedgerRoot,
}

impl Chain {
    /// The history of a run before its round 0.
    pub fn genesis(manifest: Arc<Manifest>) -> Self {
        let run = manifest.run();
        let ledger = Ledger::genesis(&manifest);
        let ledger_root = ledger.root();
        Self {
            manifest,
            run,
            round: RoundNumber(0),
            parent: (*run.as_bytes()).into(),
            seed: beacon::genesis(run),
            ledger,
            ledger_root,
        }
    }

    /// The run's id: the hash of its manifest.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// What was fixed when the run was made.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next round to decide. Its number is the number of decided rounds.
    pub const fn round(&self) -> RoundNumber {
        self.round
    }

    /// The hash of the last decided round set; before round 0, the run's id.
    pub const fn parent(&self) -> RoundSetHash {
        self.parent
    }

    /// The seed of the next round.
    pub const fn seed(&self) -> Seed {
        self.seed
    }

    /// The accounts and voters that decide the next round.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger's hash, which the next round set must repeat.
    pub const fn ledger_root(&self) -> LedgerRoot {
        self.ledger_root
    }

    /// Takes a decision as history and moves to the next round.
    ///
    /// # Errors
    /// [`Invalid::Round`] if the decision is not for the next round. The chain is then unchanged.
    pub fn extend(&mut self, verified: &Verified) -> Result<(), Invalid> {
        let set = &verified.decided().value;
        if set.round != self.round {
            return Err(Invalid::Round {
                found: set.round,
                expected: self.round,
            });
        }
        let outcome = Outcome::of(set);
        self.ledger
            .apply(self.round, &outcome, &self.manifest.membership);
        self.ledger_root = self.ledger.root();
        self.seed = beacon::next(self.seed, verified.hash());
        self.parent = verified.hash();
        self.round = self.round.next();
        Ok(())
    }

    /// The output that applies a decided set to the weights.
    pub(crate) fn apply_output(&self, set: &RoundSet) -> Apply {
        let chosen = set.contributions.iter().filter_map(|envelope| {
            let commitment: Commitment = envelope.open().ok()?;
            Some(Chosen {
                peer: envelope.signer,
                commitment,
            })
        });
        Apply {
            round: set.round,
            base_root: set.base_root,
            contributions: chosen.collect(),
            outer_rate_ppm: self.manifest.outer.rate_ppm(set.round),
            rule: self.manifest.outer.rule,
        }
    }

    /// Whether a peer may attest in the next round: voters and all other members may.
    pub(crate) fn may_attest(&self, peer: &PeerId) -> bool {
        self.ledger.roster().contains(peer) || self.ledger.is_member(peer)
    }

    /// Whether the manifest allows the size of a contribution's blob.
    pub(crate) fn allows_size(&self, commitment: &Commitment) -> bool {
        (1..=u64::from(self.manifest.limits.blob_bytes)).contains(&commitment.blob_bytes)
    }
}
