//! The end of decided history: all that the next round depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{
    Attestation, ChainSnapshot, Commitment, Envelope, LedgerRoot, PeerId, RoundNumber, RoundSet,
    RoundSetHash, RunId, SampleSpan, Seed, SlotId, StateRoot, Ticket, limits,
};

use crate::interface::error::Error;
use crate::interface::output::{Apply, Chosen, Judge, Judged};
use crate::interface::share::Share;
use crate::rules::beacon;
use crate::rules::invalid::Invalid;
use crate::rules::ledger::{self, Ledger, Outcome};
use crate::rules::past::Past;
use crate::rules::places::{self, Places};
use crate::rules::shares::Dealer;
use crate::rules::trust::committee::{committee, own_voices_ppm};
use crate::rules::trust::measured::Measured;
use crate::rules::trust::measurements::{Measurements, agrees};
use crate::rules::verified::Verified;

/// The end of decided history: all that the rules of the next round depend on.
///
/// A latecomer starts from [`Chain::genesis`] and extends it round by round. Each step proves
/// itself: it takes a [`Verified`] decision.
#[derive(Debug, Clone)]
pub struct Chain {
    manifest: Arc<Manifest>,
    run: RunId,
    round: RoundNumber,
    parent: RoundSetHash,
    seed: Seed,
    ledger: Ledger,
    ledger_root: LedgerRoot,
    places: Places,
    dealer: Dealer,
    past: Past,
    measurements: Measurements,
}

impl Chain {
    /// The history of a run before its round 0.
    pub fn genesis(manifest: Arc<Manifest>) -> Self {
        let run = manifest.run();
        let ledger = Ledger::genesis(&manifest);
        let ledger_root = ledger.root();
        let (round, seed) = (RoundNumber(0), beacon::genesis(run));
        Self {
            places: Places::of(round, seed, &ledger, &manifest.limits),
            manifest,
            run,
            round,
            parent: (*run.as_bytes()).into(),
            seed,
            ledger,
            ledger_root,
            dealer: Dealer::default(),
            past: Past::default(),
            measurements: Measurements::default(),
        }
    }

    /// The history that led to a snapshot.
    ///
    /// # Errors
    /// [`Error::ForeignSnapshot`] if the snapshot is of another run, or of other rules.
    pub fn restore(manifest: Arc<Manifest>, snapshot: &ChainSnapshot) -> Result<Self, Error> {
        let (run, rules) = (manifest.run(), limits::RULES);
        if (snapshot.run, snapshot.rules) != (run, rules) {
            return Err(Error::ForeignSnapshot {
                run: snapshot.run,
                rules: snapshot.rules,
            });
        }
        let ChainSnapshot { round, seed, .. } = *snapshot;
        let ledger = ledger::ledger_of(snapshot);
        Ok(Self {
            places: Places::of(round, seed, &ledger, &manifest.limits),
            manifest,
            run,
            round,
            parent: snapshot.parent,
            seed,
            ledger_root: ledger.root(),
            ledger,
            dealer: Dealer::of_state(&snapshot.returned, snapshot.next_sample),
            past: Past::of(snapshot),
            measurements: Measurements::of_states(&snapshot.unsettled),
        })
    }

    /// All that [`Self::restore`] needs. Equal histories have equal snapshots.
    pub fn snapshot(&self) -> ChainSnapshot {
        let (returned, next_sample) = self.dealer.state();
        ChainSnapshot {
            rules: limits::RULES,
            run: self.run,
            round: self.round,
            parent: self.parent,
            seed: self.seed,
            accounts: ledger::account_states(&self.ledger),
            tickets: ledger::waiting_tickets(&self.ledger),
            voters: self.ledger.roster().states(),
            returned,
            next_sample,
            decisions: self.past.decisions(),
            attesters: self.past.attesters(),
            blobs: self.past.blobs(),
            unsettled: self.measurements.states(),
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

    /// Who may commit in the next round.
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// What is remembered of the last decided rounds.
    pub(crate) const fn past(&self) -> &Past {
        &self.past
    }

    /// The samples that a peer trains on in the next round. Peers on the round's
    /// [list](Self::listed) have shares that do not overlap.
    pub fn share(&self, peer: &PeerId) -> Share {
        let (listed, quota) = (self.listed(), self.quota());
        self.dealer
            .deal(&listed, quota)
            .remove(peer)
            .unwrap_or_else(|| Share {
                spans: Vec::new(),
                ahead: self.dealer.ahead(listed.len(), quota),
            })
    }

    /// The peers that get a share of the samples in the next round: the members that hold a place.
    /// The round's random order decides which share each gets.
    pub fn listed(&self) -> Vec<PeerId> {
        let mut peers = self.places.members().to_vec();
        peers.sort_by_cached_key(|peer| (beacon::rank(self.seed, *peer), *peer));
        peers
    }

    /// The most samples that a peer trains on in a round.
    fn quota(&self) -> u64 {
        let inner = &self.manifest.inner;
        u64::from(inner.steps).saturating_mul(inner.batch.into())
    }

    /// Takes a decision as history and moves to the next round. Returns how to apply the decision
    /// to the weights.
    ///
    /// # Errors
    /// [`Invalid::Round`] if the decision is not for the next round. The chain is then unchanged.
    pub(crate) fn extend(&mut self, verified: &Verified) -> Result<Apply, Invalid> {
        let set = &verified.decided().value;
        if set.round != self.round {
            return Err(Invalid::Round {
                found: set.round,
                expected: self.round,
            });
        }
        let chosen = self.chosen(set);
        let apply = self.apply_output(set, &chosen);
        let used: BTreeMap<_, _> = chosen
            .values()
            .map(|chosen| (chosen.peer, chosen.commitment.samples().0))
            .collect();
        self.dealer.settle(&self.listed(), self.quota(), &used);
        let trusted = self.trusted(&chosen);
        self.settle(set, &chosen);
        let limits = &self.manifest.limits;
        let outcome = Outcome {
            placed: self.places.newcomers().iter().copied().collect(),
            turns: places::turns(self.round, &self.places, &self.ledger, limits),
            ..Outcome::of(set)
        };
        self.past
            .remember(set, verified.hash(), self.ledger.roster().clone());
        self.ledger
            .apply(self.round, &outcome, &self.manifest.membership);
        self.ledger_root = self.ledger.root();
        self.seed = beacon::next(self.seed, verified.hash());
        self.parent = verified.hash();
        self.round = self.round.next();
        self.places = Places::of(self.round, self.seed, &self.ledger, &self.manifest.limits);
        self.begin_measuring(set, &chosen, &trusted);
        Ok(apply)
    }

    /// The contributions that a set of the next round chooses, by the places of their peers, and
    /// how much each counts.
    fn chosen(&self, set: &RoundSet) -> BTreeMap<SlotId, Chosen> {
        let coefficients = self.ledger.coefficients_ppm(&self.manifest.trust);
        let chosen = |envelope: &Envelope| {
            let slot = self.places.slot_of(&envelope.signer)?;
            let chosen = Chosen {
                peer: envelope.signer,
                commitment: envelope.open().ok()?,
                coefficient_ppm: coefficients.get(&envelope.signer).copied().unwrap_or(0),
            };
            Some((slot, chosen))
        };
        set.contributions.iter().filter_map(chosen).collect()
    }

    /// A set of the next round without contents.
    pub(crate) const fn empty_set(&self, base_root: StateRoot) -> RoundSet {
        RoundSet {
            round: self.round,
            parent: self.parent,
            base_root,
            ledger_root: self.ledger_root,
            contributions: Vec::new(),
            attestations: Vec::new(),
            leaves: Vec::new(),
            evidence: Vec::new(),
            attempt: 0,
            named: Vec::new(),
            differences: Vec::new(),
            late: Vec::new(),
            tickets: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// The output that applies a set to the weights.
    fn apply_output(&self, set: &RoundSet, chosen: &BTreeMap<SlotId, Chosen>) -> Apply {
        let counting = chosen.values().filter(|one| one.coefficient_ppm > 0);
        let outer = &self.manifest.outer;
        Apply {
            round: set.round,
            base_root: set.base_root,
            outer_rate_ppm: outer.rate_ppm(set.round, counting.count()),
            contributions: chosen.values().cloned().collect(),
            rule: outer.rule,
        }
    }

    /// The output that measures what the contributions of a set of the next round do to the loss.
    /// None is marked to be measured yet: who is drawn follows from the decision.
    pub(crate) fn judge_output(&self, set: &RoundSet) -> Judge {
        let chosen = self.chosen(set);
        let Apply {
            round,
            base_root,
            outer_rate_ppm,
            rule,
            ..
        } = self.apply_output(set, &chosen);
        let judged = |(slot, chosen): (&SlotId, &Chosen)| Judged {
            slot: *slot,
            share: self.share(&chosen.peer),
            chosen: chosen.clone(),
            measure: false,
        };
        Judge {
            round,
            seed: self.seed,
            base_root,
            contributions: chosen.iter().map(judged).collect(),
            outer_rate_ppm,
            rule,
        }
    }

    /// Whether a voter is drawn to measure a peer's contribution of the last decided round.
    pub(crate) fn measures(&self, voter: &PeerId, contributor: &PeerId) -> bool {
        self.committee(contributor).contains_key(voter)
    }

    /// The voters that measure a peer's contribution of the last decided round.
    fn committee(&self, contributor: &PeerId) -> BTreeMap<PeerId, u64> {
        let rules = &self.manifest.trust;
        let voters = self.ledger.measurers(rules);
        committee(voters, self.seed, contributor, rules.committee)
    }

    /// The voices that a peer's own weight stands for when its contribution is measured.
    fn own_voices_ppm(&self, contributor: &PeerId) -> u64 {
        let rules = &self.manifest.trust;
        own_voices_ppm(self.ledger.measurers(rules), contributor, rules.committee)
    }

    /// The contributors whose probation is over.
    fn trusted(&self, chosen: &BTreeMap<SlotId, Chosen>) -> BTreeSet<PeerId> {
        let rules = &self.manifest.trust;
        let peers = chosen.values().map(|chosen| chosen.peer);
        peers
            .filter(|peer| {
                let account = self.ledger.account(peer);
                account.is_some_and(|account| account.standing.is_trusted(rules))
            })
            .collect()
    }

    /// Takes in the scores that the set's attestations report, and settles the round whose time has
    /// come. Reports of whoever attests what nobody else has do not count.
    fn settle(&mut self, set: &RoundSet, chosen: &BTreeMap<SlotId, Chosen>) {
        for envelope in set.attestations.iter().chain(&set.late) {
            if let Ok(attestation) = envelope.open::<Attestation>()
                && let Some(round) = attestation.round.previous()
            {
                let counts = if attestation.round == set.round {
                    agrees(&attestation, set.base_root, chosen.keys())
                } else {
                    self.measurements.agrees(&attestation).unwrap_or(false)
                };
                if counts {
                    let scores = &attestation.scores;
                    self.measurements.report(round, envelope.signer, scores);
                }
            }
        }
        let Manifest {
            membership, trust, ..
        } = self.manifest.as_ref();
        if let Some(scores) = self.measurements.settle(self.round, trust) {
            self.ledger.settle(&scores, membership, trust);
        }
    }

    fn begin_measuring(
        &mut self,
        set: &RoundSet,
        chosen: &BTreeMap<SlotId, Chosen>,
        trusted: &BTreeSet<PeerId>,
    ) {
        let measured = |(slot, Chosen { peer, .. }): (&SlotId, &Chosen)| {
            let measured = Measured {
                peer: *peer,
                trusted: trusted.contains(peer),
                committee: self.committee(peer),
                own_ppm: self.own_voices_ppm(peer),
                reports: BTreeMap::new(),
            };
            (*slot, measured)
        };
        let contributions = chosen.iter().map(measured).collect();
        self.measurements
            .begin(set.round, set.base_root, contributions);
    }

    /// Whether a peer may attest in the next round: voters and all other members may.
    pub(crate) fn may_attest(&self, peer: &PeerId) -> bool {
        self.ledger.roster().contains(peer) || self.ledger.is_member(peer)
    }

    /// Whether the rules allow what a commitment says of its blob and its samples: a size within
    /// the manifest's limit, and one span of samples, the first ones of the commitment's own round.
    pub(crate) fn allows(&self, commitment: &Commitment) -> bool {
        let blob_bytes = u64::from(self.manifest.limits.blob_bytes);
        let first = |span: &SampleSpan| span.seed_round == commitment.round && span.first == 0;
        (1..=blob_bytes).contains(&commitment.blob_bytes)
            && matches!(commitment.spans.as_slice(), [span] if first(span))
    }

    /// Whether a ticket of this peer may be decided in the next round. Does not look at the
    /// signature.
    pub(crate) fn allows_ticket(&self, signer: &PeerId, ticket: &Ticket) -> bool {
        let in_time = ticket.round <= self.round
            && ticket.round.0.saturating_add(limits::LATE_ROUNDS) >= self.round.0;
        let needs_one = !self.ledger.is_member(signer)
            && !self.ledger.is_banned(signer)
            && !self.ledger.has_ticket(signer);
        let bits = self.manifest.membership.ticket_bits;
        in_time && needs_one && ticket.work_bits(self.run, *signer) >= bits
    }

    /// Whether an attestation of an earlier round may still be decided.
    pub(crate) fn allows_late(&self, signer: &PeerId, round: RoundNumber) -> bool {
        round < self.round && self.past.lacks(round, signer) && self.may_attest(signer)
    }
}
