//! Comparing the contributions of a round before this node attests.
//!
//! Once all contributions are examined, or the time for it is up, the caller compares those that
//! are well formed with one another and with what this node learnt. What points elsewhere becomes a
//! refusal in the attestation. A peer that withholds its contribution until the time is up does not
//! spare others the comparison: it begins at the end of the time, and has some of its own.

use std::collections::BTreeMap;

use weal_proto::{RoundNumber, SlotId, Verdict};

use super::Core;
use crate::interface::input::Signal;
use crate::interface::names::TimerId;
use crate::interface::output::{Candidate, Fetch, Output};
use crate::interface::view::Phase;
use crate::rules::trust::admission::{self, Compared};

/// The part of the time for fetching that comparing may take beyond it.
const EXTRA_TIME: u64 = 4;

/// How far the comparison of the running round is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The caller was not asked yet.
    #[default]
    Due,
    /// The caller compares these.
    Running {
        candidates: Vec<Candidate>,
        /// The time for fetching is up.
        overtime: bool,
    },
    /// It is done, or was given up.
    Over,
}

impl Core {
    /// Asks the caller to compare what is well formed. Returns whether there is nothing to wait
    /// for: fewer than two contributions, or the comparison is over.
    pub(super) fn compare(&mut self) -> bool {
        if self.round.comparison == Comparison::Due {
            let candidates = self.candidates();
            if candidates.len() < 2 {
                self.round.comparison = Comparison::Over;
            } else {
                self.round.comparison = Comparison::Running {
                    candidates: candidates.clone(),
                    overtime: false,
                };
                self.outputs.push(Output::Compare {
                    round: self.chain.round(),
                    contributions: candidates,
                    earlier: self.chain.past().chosen().collect(),
                });
            }
        }
        self.round.comparison == Comparison::Over
    }

    /// The time for fetching is up: what is not examined yet counts as missing. Compares the rest,
    /// and attests when that takes too long as well.
    pub(super) fn compare_or_give_up(&mut self) {
        self.compare();
        if let Comparison::Running { overtime, .. } = &mut self.round.comparison
            && !*overtime
        {
            *overtime = true;
            let fetch_ms = u64::from(self.chain.manifest().timing.fetch_ms);
            let id = TimerId::FetchClose(self.chain.round());
            self.set_timer(id, fetch_ms.div_ceil(EXTRA_TIME));
        } else {
            self.round.comparison = Comparison::Over;
            self.attest();
        }
    }

    /// The caller compared the contributions of a round.
    pub(super) fn compared(&mut self, round: RoundNumber, signals: &[Signal]) {
        if round != self.chain.round() || self.round.phase != Phase::Fetching {
            return;
        }
        let Comparison::Running { candidates, .. } = &self.round.comparison else {
            return;
        };
        let refused = self.refused(candidates, signals);
        self.round.comparison = Comparison::Over;
        for (candidate, verdict) in refused {
            self.round.examined.insert(candidate.fetch.slot, verdict);
        }
        self.attest();
    }

    /// The contributions that were found valid, this node's own included.
    fn candidates(&self) -> Vec<Candidate> {
        let ledger = self.chain.ledger();
        let rules = &self.chain.manifest().trust;
        let valid = self.round.examined.iter();
        let valid = valid.filter(|(_, verdict)| **verdict == Verdict::Valid);
        let candidate = |(slot, _): (&SlotId, &Verdict)| {
            let peer = self.chain.places().holder(*slot)?;
            let signed = self.round.commitments.get(&peer)?;
            let account = ledger.account(&peer);
            Some(Candidate {
                fetch: Fetch {
                    slot: *slot,
                    hash: signed.hash,
                    peer,
                    commitment: signed.commitment.clone(),
                },
                trusted: account.is_some_and(|account| account.standing.is_trusted(rules)),
            })
        };
        valid.filter_map(candidate).collect()
    }

    /// Which candidates this node refuses, by their signals.
    fn refused(&self, candidates: &[Candidate], signals: &[Signal]) -> Vec<(Candidate, Verdict)> {
        let places: BTreeMap<SlotId, usize> = candidates
            .iter()
            .enumerate()
            .map(|(place, candidate)| (candidate.fetch.slot, place))
            .collect();
        let signals: BTreeMap<SlotId, &Signal> =
            signals.iter().map(|signal| (signal.slot, signal)).collect();
        let compared = candidates.iter().map(|candidate| {
            let account = self.chain.ledger().account(&candidate.fetch.peer);
            let signal = signals.get(&candidate.fetch.slot);
            let alike = signal.map_or(&[][..], |signal| &signal.alike).iter();
            Compared {
                net: signal.and_then(|signal| signal.net),
                net_noise: signal.map_or(0, |signal| signal.net_noise),
                work: signal.and_then(|signal| signal.work),
                samples: candidate.fetch.commitment.samples().0,
                trusted: candidate.trusted,
                standing: account.map_or(0, |account| account.standing.level),
                alike: alike.filter_map(|slot| places.get(slot).copied()).collect(),
                repeats: signal.is_some_and(|signal| signal.repeats),
            }
        });
        let compared: Vec<_> = compared.collect();
        let refusals = admission::refusals(&compared, &self.chain.manifest().trust);
        let refused = candidates.iter().zip(refusals);
        refused
            .filter_map(|(candidate, verdict)| Some((candidate.clone(), verdict?)))
            .collect()
    }
}
