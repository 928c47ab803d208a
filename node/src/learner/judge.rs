//! Measuring what others' contributions do to the loss.
//!
//! Measuring has a share of the learner's time. A small part of it goes ahead of the next round's
//! training, because nodes that are equally fast have no time to spare after it. What is left is
//! measured while there is nothing better to do. What is not measured when the next round is
//! decided is dropped: its score is then missing from this node's attestation.

use std::ops::ControlFlow;
use std::time::Instant;

use weal_proto::{Score, SlotId};
use weal_trainer::{Assignment, Candidate, Judgement, judging_windows};

use super::event::LearnerEvent;
use super::job::{JudgeJob, JudgedContribution, PrepareJudging};
use super::judging::{AHEAD_PPM, Judging};
use super::thread::{LearnerThread, no_learner};
use crate::error::{Error, ErrorKind, Result};

/// How the measuring of one contribution ended.
enum Measured {
    Score(Score),
    /// Training waits.
    Postponed,
    /// The round after is over, or the time is used up.
    Over,
}

impl LearnerThread {
    /// Takes a decided round's contributions, if they are here.
    pub(super) fn prepare_judging(&mut self, prepare: PrepareJudging) {
        match prepare() {
            Ok(job) => self.begin_judging(job),
            Err(error) => tracing::warn!("the last round cannot be measured: {error:#}"),
        }
    }

    /// Takes a decided round's contributions, in place of those of an earlier round.
    pub(super) fn begin_judging(&mut self, job: JudgeJob) {
        let inner = &self.setup.plan.inner;
        let windows = judging_windows(inner, job.contributions.len(), AHEAD_PPM);
        self.judging = Some(Judging::new(job, windows, self.last_round));
    }

    /// Measures the next contribution.
    pub(super) fn judge_next(&mut self) -> Option<LearnerEvent> {
        let mut judging = self.judging.take()?;
        let contribution = judging.job.contributions.pop_front()?;
        let begun = Instant::now();
        let measured = self.attempt(|thread| thread.judge(&mut judging, &contribution));
        let took = begun.elapsed();
        judging.spent += took;
        let is_measured = matches!(measured, Ok(Measured::Score(_)));
        self.shared.change_health(|health| {
            health.judged += u64::from(is_measured);
            health.judging += took;
        });
        match measured {
            Ok(Measured::Score(score)) => {
                judging.scores.push(score);
                judging.scores.sort_unstable_by_key(|score| score.slot);
                let event = LearnerEvent::Judged {
                    round: judging.job.round,
                    scores: judging.scores.clone(),
                };
                self.judging = Some(judging);
                Some(event)
            }
            Ok(Measured::Postponed) => {
                judging.job.contributions.push_front(contribution);
                self.judging = Some(judging);
                None
            }
            Ok(Measured::Over) => None,
            Err(error) if error.kind() == ErrorKind::Device => Some(self.lose_device(error)),
            Err(error) => {
                let peer = contribution.peer.short();
                tracing::warn!("the contribution of {peer} cannot be measured: {error:#}");
                self.judging = Some(judging);
                None
            }
        }
    }

    fn judge(&mut self, judging: &mut Judging, one: &JudgedContribution) -> Result<Measured> {
        let round = judging.job.round;
        let begun = Instant::now();
        let (wishes, goes_first) = (self.wishes.clone(), judging.goes_first());
        let left = judging.budget.saturating_sub(judging.spent);
        let mut ended = Measured::Over;
        let mut control = || {
            let is_over = wishes.is_stopped(round.next());
            if !goes_first && wishes.wants_training() {
                ended = Measured::Postponed;
                ControlFlow::Break(())
            } else if is_over || (!goes_first && begun.elapsed() >= left) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let assignment = Assignment {
            run: self.setup.run.into(),
            seed: judging.job.seed.into(),
            peer: one.peer.into(),
            spans: one.share.spans.clone(),
            ahead: one.share.ahead,
        };
        let candidate = Candidate {
            contribution: &one.contribution,
            scale: one.scale,
            clip: &one.clip,
            assignment: &assignment,
            samples: one.samples.0,
        };
        let learner = self.learner.as_mut().ok_or_else(no_learner)?;
        let judged = learner.judge(&mut judging.judge, &candidate, &mut control);
        let judged = judged.map_err(Error::from)?;
        Ok(judged.map_or(ended, |judgement| {
            Measured::Score(score(one.slot, judgement))
        }))
    }
}

fn score(slot: SlotId, judgement: Judgement) -> Score {
    let score = Score {
        slot,
        own_ppm: judgement.own_ppm,
        held_ppm: judgement.heldout_ppm,
    };
    #[cfg(feature = "dishonest")]
    let score = crate::dishonest::score(score);
    score
}
