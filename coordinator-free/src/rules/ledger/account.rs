//! What one peer has earned.

use weal_proto::manifest::Membership;
use weal_proto::{RoundNumber, limits};

use crate::rules::trust::standing::Standing;

/// What one peer has earned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The weight that it has earned, less decay.
    pub weight: u64,
    /// The number of its contributions that earned weight.
    pub contributions: u64,
    /// What its contributions and its measurements of others' have proved.
    pub standing: Standing,
    /// The round after the last decided one that holds a contribution or an attestation from it.
    pub seen_until: RoundNumber,
    /// The round after the last decided one that holds a contribution from it.
    pub contributed_until: RoundNumber,
    /// Whether it may attest. A member with a voting weight above 0 also votes.
    pub member: bool,
    /// Whether it has contradicted itself. A ban is for ever.
    pub banned: bool,
    /// Whether the manifest names it. A founder's weight counts from the start.
    pub founder: bool,
    /// Whose turn it is to propose: see `Roster::proposer`.
    pub priority: i64,
    /// Whose turn it is to have a place: see [`Places`](crate::Places).
    pub turn: i64,
    /// The weight with which a voter that has left still counts.
    pub departing: u64,
}

impl Account {
    /// How much its vote counts: nothing during probation, then a part of its weight that grows
    /// with each contribution until all of it counts.
    pub fn voting_weight(&self, rules: &Membership) -> u64 {
        if self.banned || !self.member {
            return 0;
        }
        if self.founder {
            return self.weight;
        }
        let Some(past_probation) = self
            .contributions
            .checked_sub(u64::from(rules.probation_rounds))
        else {
            return 0;
        };
        let whole = u64::from(rules.vesting_rounds).saturating_add(1);
        let part = past_probation.saturating_add(1).min(whole);
        scale(self.weight, part, whole)
    }

    /// Whether decided rounds up to this one lack its signature for too long.
    pub(super) fn is_silent(&self, round: RoundNumber, rules: &Membership) -> bool {
        let silence = round.next().0.saturating_sub(self.seen_until.0);
        silence >= u64::from(rules.absence_rounds).saturating_add(limits::LATE_ROUNDS)
    }

    /// Whether the peer was heard after it signed a leave for `round`: in a later round than the
    /// one in which it said so. A peer that goes on has not left.
    pub(crate) fn outlived_leave(&self, round: RoundNumber) -> bool {
        self.seen_until > round.next()
    }
}

/// ⌊value · part / whole⌋; `part` is at most `whole`.
pub(super) fn scale(value: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(value)
        .saturating_mul(part.into())
        .checked_div(whole.into())
        .unwrap_or(0);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leave_is_outlived_by_a_word_of_a_later_round() {
        let seen = |round| Account {
            seen_until: RoundNumber(round),
            ..Account::default()
        };
        assert!(!seen(4).outlived_leave(RoundNumber(3)));
        assert!(seen(5).outlived_leave(RoundNumber(3)));
    }
}
