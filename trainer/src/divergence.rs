//! The course of a round's inner steps: what counts as learnt, and when training goes back to the
//! agreed weights.
//!
//! A step whose loss or gradient is not finite changes nothing. Where the weights are still sound,
//! a bad batch was to blame, and training goes on from them. Where they are not, or where the next
//! step is not finite either, earlier steps led there: what they learnt is dropped.

use crate::engine::StepReport;
use crate::error::{Error, Result};

/// What a round's steps came to so far.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub steps: u64,
    pub skipped: u64,
    pub restorations: u64,
    /// Steps behind the weights, since they were last the agreed ones.
    learnt: u64,
    /// Sum of their losses.
    losses: f64,
    was_skipped: bool,
    loss: f64,
    learning_rate: f64,
}

/// Whether what was learnt is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing speaks against it.
    None,
    /// The weights have to be looked at.
    Weights,
    /// It is not.
    Certain,
}

impl Course {
    /// A step was taken.
    pub fn took(&mut self, report: &StepReport, learning_rate: f64) -> Doubt {
        self.steps += 1;
        (self.loss, self.learning_rate) = (report.loss, learning_rate);
        let was_skipped = std::mem::replace(&mut self.was_skipped, !report.is_finite());
        if report.is_finite() {
            self.learnt += 1;
            self.losses += report.loss;
            return Doubt::None;
        }
        self.skipped += 1;
        let (step, loss, gradient_norm) = (self.steps, report.loss, report.gradient_norm);
        tracing::warn!(
            step,
            loss,
            gradient_norm,
            learning_rate,
            "an inner step was not finite and is skipped"
        );
        match (self.learnt, was_skipped) {
            // The weights are the agreed ones.
            (0, _) => Doubt::None,
            (_, false) => Doubt::Weights,
            (_, true) => Doubt::Certain,
        }
    }

    /// The agreed weights are in use again.
    pub fn restored(&mut self) {
        let Self {
            steps,
            loss,
            learning_rate,
            learnt,
            ..
        } = *self;
        tracing::warn!(
            step = steps,
            loss,
            learning_rate,
            dropped = learnt,
            "training led to values that are not finite; it goes back to the agreed weights, with fresh moments"
        );
        self.restorations += 1;
        (self.learnt, self.losses) = (0, 0.0);
    }

    /// Whether anything is learnt.
    pub fn has_learnt(&self) -> bool {
        self.learnt > 0
    }

    /// The mean loss of the steps behind the weights.
    ///
    /// # Errors
    /// [`Error::Diverged`] where there are none.
    pub fn mean_loss(&self) -> Result<f32> {
        let Self {
            steps,
            skipped,
            loss,
            learning_rate,
            ..
        } = *self;
        if !self.has_learnt() {
            return Err(Error::Diverged {
                steps,
                skipped,
                loss,
                learning_rate,
            });
        }
        Ok((self.losses / self.learnt as f64) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: StepReport = StepReport {
        loss: 2.0,
        gradient_norm: 1.0,
    };
    const BAD_LOSS: StepReport = StepReport {
        loss: f64::NAN,
        gradient_norm: 1.0,
    };
    const BAD_GRADIENT: StepReport = StepReport {
        loss: 2.0,
        gradient_norm: f64::INFINITY,
    };

    fn doubts(reports: &[StepReport]) -> (Course, Vec<Doubt>) {
        let mut course = Course::default();
        let doubts = reports
            .iter()
            .map(|report| course.took(report, 1e-3))
            .collect();
        (course, doubts)
    }

    #[test]
    fn one_bad_step_asks_about_the_weights_and_a_second_settles_it() {
        for bad in [BAD_LOSS, BAD_GRADIENT] {
            let (course, doubts) = doubts(&[GOOD, bad, bad, GOOD, bad]);
            assert_eq!(
                doubts,
                [
                    Doubt::None,
                    Doubt::Weights,
                    Doubt::Certain,
                    Doubt::None,
                    Doubt::Weights
                ]
            );
            assert_eq!(
                (course.steps, course.skipped, course.mean_loss().unwrap()),
                (5, 3, 2.0)
            );
        }
    }

    #[test]
    fn agreed_weights_are_not_gone_back_to_twice() {
        let (mut course, _) = doubts(&[GOOD, BAD_LOSS]);
        course.restored();
        assert_eq!(course.took(&BAD_LOSS, 1e-3), Doubt::None);
        assert_eq!(course.restorations, 1);
        let message = course.mean_loss().unwrap_err().to_string();
        assert!(
            message.contains("in 3 inner steps, of which 2")
                && message.contains("learning rate 0.001"),
            "{message}"
        );
    }

    #[test]
    fn losses_of_what_was_dropped_do_not_count() {
        let (mut course, _) = doubts(&[StepReport { loss: 1e9, ..GOOD }, BAD_LOSS]);
        course.restored();
        course.took(&GOOD, 1e-3);
        assert_eq!(course.mean_loss().unwrap(), 2.0);
    }
}
