//! Checks decisions by code of its own: slowly, plainly, and without the rules under test.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::manifest::Manifest;
use weal_proto::{
    CommitSignature, Decided, Envelope, LedgerRoot, PeerId, RoundNumber, RoundSetHash, RunId, View,
    Vote, VoteStep,
};

use crate::rules::chain::Chain;

/// The voters of a round, as honest peers see them.
#[derive(Debug)]
struct Voters {
    ledger_root: LedgerRoot,
    weights: BTreeMap<PeerId, u64>,
}

/// Re-checks every decision that honest peers take for proven.
#[derive(Debug)]
pub(super) struct Oracle {
    run: RunId,
    /// The voters of each round.
    voters: BTreeMap<RoundNumber, Voters>,
    /// The hash that each round must name as its parent.
    parents: BTreeMap<RoundNumber, RoundSetHash>,
    /// Signatures that are known to be good.
    good: BTreeSet<(PeerId, RoundSetHash, View)>,
}

impl Oracle {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let run = manifest.run();
        let genesis = Chain::genesis(manifest.clone().into());
        let mut oracle = Self {
            run,
            voters: BTreeMap::new(),
            parents: BTreeMap::from([(RoundNumber(0), (*run.as_bytes()).into())]),
            good: BTreeSet::new(),
        };
        let founders = manifest.founders.iter().map(|f| (f.peer, f.weight.0));
        let voters = Voters {
            ledger_root: genesis.ledger_root(),
            weights: founders.collect(),
        };
        oracle.voters.insert(RoundNumber(0), voters);
        oracle
    }

    /// An honest peer holds this history. All honest peers must agree on who votes next.
    pub(super) fn holds(&mut self, chain: &Chain) -> Result<(), String> {
        let seen = self.voters.entry(chain.round()).or_insert_with(|| Voters {
            ledger_root: chain.ledger_root(),
            weights: chain.ledger().roster().iter().collect(),
        });
        if seen.ledger_root != chain.ledger_root() {
            return Err("honest peers hold different ledgers after it".into());
        }
        let roster = chain.ledger().roster();
        if roster.total().0 != seen.weights.values().sum::<u64>() {
            return Err("the roster's total is not the sum of its weights".into());
        }
        Ok(())
    }

    /// Checks that a decision follows the decided history and that enough voters signed it.
    pub(super) fn check(&mut self, decided: &Decided) -> Result<(), String> {
        let (set, certificate) = (&decided.value, &decided.certificate);
        let (round, hash) = (set.round, set.hash());
        if certificate.round != round || certificate.value != hash {
            return Err("its certificate is for another decision".into());
        }
        if *self.parents.entry(round.next()).or_insert(hash) != hash {
            return Err("another set was decided".into());
        }
        if self.parents.get(&round) != Some(&set.parent) {
            return Err("it does not follow the decided history".into());
        }
        let voters = self.voters.get(&round).ok_or("nobody knows its voters")?;
        if voters.ledger_root != set.ledger_root {
            return Err("it names another ledger".into());
        }
        let signers: BTreeSet<_> = certificate.signatures.iter().map(|s| s.peer).collect();
        if signers.len() != certificate.signatures.len() {
            return Err("a voter signed twice".into());
        }
        let weight = |peer: &PeerId| voters.weights.get(peer).copied().map(u128::from);
        let signed: Option<u128> = signers.iter().map(weight).sum();
        let signed = signed.ok_or("a peer without a vote signed")?;
        let total: u128 = voters.weights.values().copied().map(u128::from).sum();
        if signed * 3 <= total * 2 {
            return Err(format!("only {signed} of {total} signed"));
        }
        let view = certificate.view;
        for commit in &certificate.signatures {
            self.check_signature(commit, (round, view, hash))?;
        }
        Ok(())
    }

    fn check_signature(
        &mut self,
        commit: &CommitSignature,
        (round, view, value): (RoundNumber, View, RoundSetHash),
    ) -> Result<(), String> {
        let known = (commit.peer, value, view);
        if self.good.contains(&known) {
            return Ok(());
        }
        let vote = Vote {
            round,
            view,
            step: VoteStep::Precommit,
            value: Some(value),
        };
        let envelope = Envelope::from_parts(commit.peer, self.run, &vote, commit.signature);
        envelope
            .verify(self.run)
            .map_err(|_| format!("the signature of {} is bad", commit.peer))?;
        self.good.insert(known);
        Ok(())
    }
}
