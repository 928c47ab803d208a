//! How peers report what they find in others' contributions.

use weal_coordinator_free::{Candidate, Signal};
use weal_proto::Score;

/// How a peer reports what it finds in others' contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scoring {
    /// As it measures it.
    #[default]
    Honest,
    /// Praises those who lie like it, and damns the others.
    Partial,
    /// Praises everybody.
    Flattering,
    /// Damns everybody but itself.
    Damning,
    /// Says that its friends' work does twice as much as it does, and that others' does nothing.
    Tilted,
    /// Reports nothing.
    Silent,
}

/// What a false report says of a signal or a score, in parts per million.
const PRAISE: i32 = 900_000;

impl Scoring {
    /// What it says of signals. `is_friend` tells its friends by their place in `found`.
    pub(crate) fn signals(
        self,
        signals: Vec<Signal>,
        found: &[Candidate],
        is_friend: impl Fn(usize) -> bool,
    ) -> Vec<Signal> {
        if self == Self::Silent {
            return Vec::new();
        }
        let of = |signal: &Signal| {
            let place = found.iter().position(|one| one.fetch.slot == signal.slot);
            self.verdict(place.is_some_and(&is_friend))
        };
        let report = |mut signal: Signal| {
            if let Some(says) = of(&signal) {
                signal.net = Some(says);
                signal.work = Some(says);
                signal.alike.clear();
            }
            signal
        };
        signals.into_iter().map(report).collect()
    }

    /// What it says of a contribution's effect.
    pub(crate) fn score(self, score: Score, is_friend: bool) -> Option<Score> {
        if self == Self::Silent {
            return None;
        }
        Some(match self.verdict(is_friend) {
            None if self == Self::Tilted => Score {
                own_ppm: tilted(score.own_ppm, is_friend),
                held_ppm: tilted(score.held_ppm, is_friend),
                ..score
            },
            None => score,
            Some(says) => Score {
                own_ppm: says,
                held_ppm: says,
                ..score
            },
        })
    }

    /// What it says instead of what it found; `None` if it tells the truth.
    const fn verdict(self, is_friend: bool) -> Option<i32> {
        match (self, is_friend) {
            (Self::Partial | Self::Damning, true) | (Self::Flattering, _) => Some(PRAISE),
            (Self::Partial | Self::Damning, false) => Some(-PRAISE),
            (Self::Honest | Self::Silent | Self::Tilted, _) => None,
        }
    }
}

/// A lie that stays within the noise of honest measurements.
const fn tilted(ppm: i32, is_friend: bool) -> i32 {
    let size = ppm.saturating_abs();
    ppm.saturating_add(if is_friend { size } else { -size })
}
