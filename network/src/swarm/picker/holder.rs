//! A peer from which a blob is wanted.

use std::time::{Duration, Instant};

use crate::error::RequestError;
use crate::reputation::Offence;
use crate::swarm::limits::{
    FIRST_ASK_AGAIN, FIRST_REST, LONGEST_ASK_AGAIN, LONGEST_NOT_YET, LONGEST_REST, NOT_YET,
};

/// What a peer last said about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// It does not have it.
    NotHere,
    /// It may not send it yet.
    NotYet,
    /// It has some of it, or will have.
    Here,
    /// It sent wrong bytes, and is not asked again.
    Lied(Offence),
}

#[derive(Debug)]
pub(super) struct Holder {
    said: Said,
    /// When to ask again, unless the answer comes first.
    ask_at: Instant,
    /// How often it did not have the blob.
    absent: u32,
    /// How often its pieces were late or failed.
    failures: u32,
    rests_until: Option<Instant>,
    /// Whether it was told which pieces are wanted.
    pub told: bool,
}

impl Holder {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            said: Said::Nothing,
            ask_at: now,
            absent: 0,
            failures: 0,
            rests_until: None,
            told: false,
        }
    }

    pub(super) fn said(&self) -> Said {
        self.said
    }

    pub(super) fn has_lied(&self) -> bool {
        matches!(self.said, Said::Lied(_))
    }

    /// Whether it is time to ask. If so, the next time is set.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = !matches!(self.said, Said::Here | Said::Lied(_)) && self.ask_at <= now;
        if due {
            self.ask_at = now + LONGEST_ASK_AGAIN;
        }
        due
    }

    pub(super) fn is_here(&mut self) {
        if !self.has_lied() {
            self.said = Said::Here;
            self.absent = 0;
        }
    }

    pub(super) fn is_not_here(&mut self, now: Instant) {
        if !self.has_lied() {
            self.said = Said::NotHere;
            self.told = false;
            self.ask_at = now + doubled(FIRST_ASK_AGAIN, self.absent, LONGEST_ASK_AGAIN);
            self.absent += 1;
        }
    }

    pub(super) fn is_not_yet(&mut self, milliseconds: u32, now: Instant) {
        if !self.has_lied() {
            self.said = Said::NotYet;
            self.told = false;
            let pause = Duration::from_millis(milliseconds.into());
            self.ask_at = now + pause.clamp(NOT_YET, LONGEST_NOT_YET);
        }
    }

    pub(super) fn lied(&mut self, offence: Offence) {
        self.said = Said::Lied(offence);
        self.told = false;
    }

    /// A piece was late or failed: the peer rests. Several at once count as one.
    pub(super) fn failed(&mut self, now: Instant) {
        if !self.is_resting(now) {
            self.rests_until = Some(now + doubled(FIRST_REST, self.failures, LONGEST_REST));
            self.failures += 1;
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Whether it may be told which pieces are wanted.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.said == Said::Here && !self.is_resting(now)
    }

    /// Why it has not sent the blob.
    pub(super) fn why(&self) -> String {
        match self.said {
            Said::Nothing => "the peer did not answer".into(),
            Said::NotHere => RequestError::NotHere.to_string(),
            Said::NotYet => "the peer may not send it yet".into(),
            Said::Here if self.failures > 0 => "its pieces were late, or did not arrive".into(),
            Said::Here => "it does not have the missing pieces".into(),
            Said::Lied(Offence::BadOutline) => "it sent the outline of another blob".into(),
            Said::Lied(_) => "it sent a chunk that does not match the outline".into(),
        }
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}
