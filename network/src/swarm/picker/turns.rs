//! When strangers get a piece while members get some, too: they have a part of the time.

use std::time::{Duration, Instant};

use super::action::GiftId;
use crate::swarm::limits::{LONGEST_TURN, TURN_ONE_IN};

/// The last piece to a stranger.
#[derive(Debug, Default)]
pub(super) struct Turns(Option<Turn>);

#[derive(Debug)]
struct Turn {
    gift: GiftId,
    began: Instant,
    ended: Option<Instant>,
}

impl Turns {
    /// Whether it is time for a piece: the last one took a tenth of the time since it began, or
    /// less.
    pub(super) fn is_one(&self, now: Instant) -> bool {
        self.0.as_ref().is_none_or(|turn| {
            let took = turn.took(now);
            let is_over = turn.ended.is_some() || took >= LONGEST_TURN;
            let since = now.saturating_duration_since(turn.began);
            is_over && since >= took * TURN_ONE_IN
        })
    }

    /// A piece to a stranger is on its way.
    pub(super) fn begun(&mut self, gift: GiftId, now: Instant) {
        self.0 = Some(Turn {
            gift,
            began: now,
            ended: None,
        });
    }

    /// A piece arrived, or did not.
    pub(super) fn ended(&mut self, gift: GiftId, now: Instant) {
        if let Some(turn) = self.0.as_mut().filter(|turn| turn.gift == gift) {
            turn.ended = Some(now);
        }
    }
}

impl Turn {
    fn took(&self, now: Instant) -> Duration {
        let until = self.ended.unwrap_or(now);
        until
            .saturating_duration_since(self.began)
            .min(LONGEST_TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_costs_nine_times_as_much_rest() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert!(turns.is_one(start));
        turns.begun(GiftId(1), start);
        assert!(!turns.is_one(after(50)));
        turns.ended(GiftId(0), after(60));
        turns.ended(GiftId(1), after(100));
        assert!(!turns.is_one(after(999)));
        assert!(turns.is_one(after(1000)));
        // One that never ends.
        turns.begun(GiftId(2), start);
        assert!(!turns.is_one(after(9_999)));
        assert!(turns.is_one(after(10_000)));
    }
}
