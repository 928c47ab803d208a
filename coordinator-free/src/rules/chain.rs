//! Decided history, boiled down to what the next round needs.

use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{
    Commitment, Decided, LedgerRoot, PeerId, RoundNumber, RoundSet, RoundSetHash, RunId, Seed,
};

use crate::interface::output::{Apply, Chosen};
use crate::rules::beacon;
use crate::rules::certificate;
use crate::rules::ledger::Ledger;
use crate::rules::round_set::{self, Invalid};
use crate::rules::signatures::Signatures;

/// The end of the decided history: everything that the rules of the next round depend on.
///
/// A latecomer starts from [`Chain::genesis`] and [extends](Self::extend) it round by round; each
/// step proves itself.
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

    /// The run.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// What fixes the run.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next round to decide: as many are decided.
    pub const fn round(&self) -> RoundNumber {
        self.round
    }

    /// Hash of the last decided round set; the run id before round 0.
    pub const fn parent(&self) -> RoundSetHash {
        self.parent
    }

    /// The seed of the next round.
    pub const fn seed(&self) -> Seed {
        self.seed
    }

    /// The ledger that the next round is decided by.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Its hash.
    pub const fn ledger_root(&self) -> LedgerRoot {
        self.ledger_root
    }

    /// Whether a set may be what the next round decides.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, set: &RoundSet, signatures: &mut Signatures) -> Result<(), Invalid> {
        round_set::check(self, set, signatures)
    }

    /// Verifies the decision of the next round in full, and goes on to the round after it.
    ///
    /// # Errors
    /// The first thing that is wrong; the chain is as it was.
    pub fn extend(
        &mut self,
        decided: &Decided,
        signatures: &mut Signatures,
    ) -> Result<(), Invalid> {
        let Decided { value, certificate } = decided;
        let hash = value.hash();
        if certificate.round != value.round || certificate.value != hash {
            return Err(Invalid::CertificateValue);
        }
        self.check(value, signatures)?;
        certificate::check(certificate, self.ledger.roster(), signatures)?;
        self.advance(value, hash);
        Ok(())
    }

    /// Goes on to the round after a decision that was verified before, such as one on this peer's
    /// own disk.
    ///
    /// # Errors
    /// When it is not of the next round.
    pub fn extend_trusting(&mut self, set: &RoundSet) -> Result<(), Invalid> {
        if set.round != self.round {
            return Err(Invalid::Round {
                found: set.round,
                expected: self.round,
            });
        }
        self.advance(set, set.hash());
        Ok(())
    }

    fn advance(&mut self, set: &RoundSet, hash: RoundSetHash) {
        self.ledger.apply(
            self.round,
            &round_set::outcome(set),
            &self.manifest.membership,
        );
        self.ledger_root = self.ledger.root();
        self.seed = beacon::next(self.seed, hash);
        self.parent = hash;
        self.round = self.round.next();
    }

    /// How a decided set changes the weights.
    pub(crate) fn plan(&self, set: &RoundSet) -> Apply {
        let chosen = set.contributions.iter().filter_map(|envelope| {
            let commitment: Commitment = envelope.open().ok()?;
            Some(Chosen {
                peer: envelope.signer,
                blob: commitment.blob,
                blob_bytes: commitment.blob_bytes,
                samples: commitment.samples,
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

    /// Whether a peer may attest in the next round: voters and all other members.
    pub(crate) fn may_attest(&self, peer: &PeerId) -> bool {
        self.ledger.roster().contains(peer) || self.ledger.is_member(peer)
    }

    /// Whether a contribution's blob has a size that the manifest allows.
    pub(crate) fn allows_size(&self, commitment: &Commitment) -> bool {
        (1..=u64::from(self.manifest.limits.blob_bytes)).contains(&commitment.blob_bytes)
    }
}
