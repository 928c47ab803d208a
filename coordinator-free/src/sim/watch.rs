//! What the audit has seen of the running rounds.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{PeerId, RoundNumber};

use crate::interface::time::Millis;

/// How often the audit looks whether the run makes progress, in milliseconds.
pub(super) const WATCH_MS: u64 = 5_000;

/// What the audit has seen of the running rounds.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when the run has been undisturbed without deciding a round.
    pub(super) quiet_since: Millis,
    /// The newest round that an honest peer has decided, plus one.
    pub(super) decided_rounds: u64,
    /// Honest peers that have signed a commitment, by round.
    pub(super) committed: BTreeMap<RoundNumber, BTreeSet<PeerId>>,
    /// The weight of those that have attested, by round.
    pub(super) attested: BTreeMap<RoundNumber, u128>,
    /// When attestations of more than two thirds of the weight had been sent, by round.
    pub(super) complete: BTreeMap<RoundNumber, Millis>,
    /// The first and the last decision of a round that peers reached by themselves.
    pub(super) deciding: BTreeMap<RoundNumber, (Millis, Millis)>,
    /// Rounds whose chosen contributions are counted.
    pub(super) counted: BTreeSet<RoundNumber>,
}

impl Watch {
    /// The milliseconds from the completing attestation to the first and the last decision.
    pub(super) fn decision_ms(&self) -> Vec<(u64, u64)> {
        let of = |(round, complete): (&RoundNumber, &Millis)| {
            let (first, last) = self.deciding.get(round)?;
            Some((first.since(*complete), last.since(*complete)))
        };
        self.complete.iter().filter_map(of).collect()
    }

    pub(super) const fn decided_rounds(&self) -> u64 {
        self.decided_rounds
    }
}
