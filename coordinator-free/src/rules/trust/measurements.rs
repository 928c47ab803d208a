//! The rounds that are not settled yet: who contributed, who measures it, and what was reported.
//!
//! A voter measures a round's contributions while it trains the next, and reports them in its
//! attestation of the next round. Such an attestation may be decided some rounds late. So a round
//! is settled a fixed number of rounds after it was decided, from all reports that were decided by
//! then: no proposer can leave out a report by leaving out one attestation.

use std::collections::{BTreeMap, VecDeque};

use weal_proto::manifest::Trust;
use weal_proto::snapshot::UnsettledRound;
use weal_proto::{Attestation, PeerId, RoundNumber, Score, SlotId, StateRoot};

use super::measured::Measured;
use super::score::{Scores, scores};

/// The rounds that are not settled yet, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Measurements {
    rounds: VecDeque<Round>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    number: RoundNumber,
    base_root: StateRoot,
    contributions: BTreeMap<SlotId, Measured>,
}

/// Whether an attestation agrees with what its round decided: it starts from the same weights, and
/// finds at least half of the chosen contributions valid. The reports of one that does not are left
/// out, so whoever attests what nobody else has misses its reports.
pub(crate) fn agrees<'a>(
    attestation: &Attestation,
    base_root: StateRoot,
    chosen: impl Iterator<Item = &'a SlotId>,
) -> bool {
    let found: Vec<bool> = chosen
        .map(|slot| attestation.valid.contains(*slot))
        .collect();
    let valid = found.iter().filter(|valid| **valid).count();
    attestation.base_root == base_root && valid.saturating_mul(2) >= found.len()
}

impl Measurements {
    /// Begins to collect reports on the contributions of a round that was just decided.
    pub(crate) fn begin(
        &mut self,
        number: RoundNumber,
        base_root: StateRoot,
        contributions: BTreeMap<SlotId, Measured>,
    ) {
        self.rounds.push_back(Round {
            number,
            base_root,
            contributions,
        });
    }

    /// Whether a late attestation agrees with what its round decided. `None` if the round is
    /// settled.
    pub(crate) fn agrees(&self, late: &Attestation) -> Option<bool> {
        let mut rounds = self.rounds.iter();
        let round = rounds.find(|round| round.number == late.round)?;
        Some(agrees(late, round.base_root, round.contributions.keys()))
    }

    /// Takes in what a voter reported on a round. Reports on other rounds, on places without a
    /// contribution and by voters that were not drawn do not count; of two, the first does.
    pub(crate) fn report(&mut self, number: RoundNumber, voter: PeerId, reported: &[Score]) {
        let Some(round) = self.rounds.iter_mut().find(|round| round.number == number) else {
            return;
        };
        for score in reported {
            if let Some(measured) = round.contributions.get_mut(&score.slot)
                && measured.committee.contains_key(&voter)
            {
                measured.reports.entry(voter).or_insert(score.into());
            }
        }
    }

    /// The rounds as a snapshot holds them.
    pub(crate) fn states(&self) -> Vec<UnsettledRound> {
        let state = |round: &Round| UnsettledRound {
            round: round.number,
            base_root: round.base_root,
            contributions: round
                .contributions
                .iter()
                .map(|(slot, measured)| measured.state(*slot))
                .collect(),
        };
        self.rounds.iter().map(state).collect()
    }

    /// The rounds that a snapshot holds.
    pub(crate) fn of_states(states: &[UnsettledRound]) -> Self {
        let round = |state: &UnsettledRound| Round {
            number: state.round,
            base_root: state.base_root,
            contributions: state
                .contributions
                .iter()
                .map(|one| (one.slot, Measured::of_state(one)))
                .collect(),
        };
        Self {
            rounds: states.iter().map(round).collect(),
        }
    }

    /// Settles the round whose time has come once `decided` is the last decided round.
    pub(crate) fn settle(&mut self, decided: RoundNumber, rules: &Trust) -> Option<Scores> {
        let due =
            |round: &Round| round.number.0.saturating_add(rules.settle_rounds.into()) <= decided.0;
        let round = self.rounds.pop_front_if(|round| due(round))?;
        let measured: Vec<_> = round.contributions.into_values().collect();
        Some(scores(&measured, rules))
    }
}

#[cfg(test)]
mod tests {
    use weal_proto::ListHash;

    use super::*;

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
    }

    fn score(slot: u8, ppm: i32) -> Score {
        Score {
            slot: SlotId(slot),
            own_ppm: ppm,
            held_ppm: ppm,
        }
    }

    /// A contribution of peer `n` that voters 101 to 103 measure.
    fn measured(n: u8) -> Measured {
        Measured {
            peer: peer(n),
            trusted: true,
            committee: (101..=103).map(|voter| (peer(voter), 1)).collect(),
            own_ppm: 0,
            reports: BTreeMap::new(),
        }
    }

    fn begun(round: u64) -> Measurements {
        let mut all = Measurements::default();
        let contributions = [(SlotId(0), measured(1)), (SlotId(4), measured(2))];
        all.begin(RoundNumber(round), [7; 32].into(), contributions.into());
        all
    }

    #[test]
    fn a_round_is_settled_from_all_reports_that_were_decided_by_then() {
        let mut all = begun(7);
        for (decided, voter) in [(8, 101), (9, 102), (10, 103)] {
            all.report(
                RoundNumber(7),
                peer(voter),
                &[score(0, 500), score(4, 1_000)],
            );
            let settled = all.settle(RoundNumber(decided), &Trust::default());
            assert_eq!(settled.is_some(), decided == 10, "round {decided}");
            if let Some(scores) = settled {
                let expected = [(peer(1), Some(1_000_000)), (peer(2), Some(2_000_000))];
                assert_eq!(scores.contributors, expected.into());
            }
        }
        assert_eq!(all, Measurements::default());
    }

    #[test]
    fn only_the_first_report_of_a_drawn_voter_on_a_contribution_counts() {
        let mut all = begun(7);
        for voter in [101, 102] {
            all.report(RoundNumber(7), peer(voter), &[score(0, 500), score(9, 500)]);
            all.report(RoundNumber(7), peer(voter), &[score(0, -9_000)]);
            all.report(RoundNumber(6), peer(voter), &[score(4, 500)]);
        }
        all.report(RoundNumber(7), peer(110), &[score(4, 500)]);
        let scores = all.settle(RoundNumber(10), &Trust::default()).unwrap();
        let expected = [(peer(1), Some(1_000_000)), (peer(2), None)];
        assert_eq!(scores.contributors, expected.into());
        let missed: Vec<_> = scores.voters.values().map(|duty| duty.missed).collect();
        assert_eq!(missed, [500_000, 500_000, 1_000_000]);
    }

    #[test]
    fn an_attestation_agrees_from_the_decided_weights_and_with_half_of_what_was_chosen() {
        let all = begun(7);
        let of = |round: u64, root: u8, valid: &[u8]| {
            all.agrees(&Attestation {
                round: RoundNumber(round),
                base_root: [root; 32].into(),
                valid: valid.iter().map(|slot| SlotId(*slot)).collect(),
                list: ListHash::of([]),
                refused: Vec::new(),
                attempt: 0,
                scores: Vec::new(),
            })
        };
        let found = [of(7, 7, &[0, 4]), of(7, 7, &[4, 9]), of(7, 7, &[9])];
        assert_eq!(found, [Some(true), Some(true), Some(false)]);
        assert_eq!(of(7, 8, &[0, 4]), Some(false));
        assert_eq!(of(6, 7, &[0, 4]), None);
    }
}
