//! Divergence: what a round does when a step is not finite, and when it returns to the agreed
//! weights.
//!
//! A step whose loss or gradient is not finite is skipped. If the weights are still finite, the
//! batch was bad, and training continues. If they are not, or if the next step is not finite
//! either, earlier steps diverged: what they learnt is dropped, and training continues from the
//! agreed weights.

use crate::engine::StepReport;
use crate::error::{Error, Result};

/// Counts a round's steps and detects divergence.
#[derive(Debug, Default)]
pub(crate) struct DivergenceMonitor {
    pub steps: u64,
    pub skipped: u64,
    pub restorations: u64,
    /// Good steps since training last started from the agreed weights.
    learnt: u64,
    /// Sum of the losses of these steps.
    losses: f64,
    was_skipped: bool,
    loss: f64,
    learning_rate: f64,
}

/// What a step says about the steps before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Divergence {
    /// No sign of divergence.
    None,
    /// Diverged if the weights are not finite, which has to be checked.
    IfWeightsAreNotFinite,
    /// Diverged.
    Certain,
}

impl DivergenceMonitor {
    /// Records a step.
    pub(crate) fn record(&mut self, report: &StepReport, learning_rate: f64) -> Divergence {
        self.steps += 1;
        (self.loss, self.learning_rate) = (report.loss, learning_rate);
        let was_skipped = std::mem::replace(&mut self.was_skipped, !report.is_finite());
        if report.is_finite() {
            self.learnt += 1;
            self.losses += report.loss;
            return Divergence::None;
        }
        self.skipped += 1;
        let (step, loss, gradient_norm) = (self.steps, report.loss, report.gradient_norm);
        tracing::warn!(
            step,
            loss,
            gradient_norm,
            learning_rate,
            "skipped an inner step: its loss or gradient is not finite"
        );
        match (self.learnt, was_skipped) {
            // Training has not left the agreed weights yet.
            (0, _) => Divergence::None,
            (_, false) => Divergence::IfWeightsAreNotFinite,
            (_, true) => Divergence::Certain,
        }
    }

    /// Records that training returned to the agreed weights.
    pub(crate) fn restored(&mut self) {
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
            "training diverged; restarting from the agreed weights with fresh moments"
        );
        self.restorations += 1;
        (self.learnt, self.losses) = (0, 0.0);
    }

    /// Whether any step was learnt from.
    pub(crate) fn has_learnt(&self) -> bool {
        self.learnt > 0
    }

    /// The mean loss of the steps that were learnt from.
    ///
    /// # Errors
    /// [`Error::Diverged`] if no step was.
    pub(crate) fn mean_loss(&self) -> Result<f32> {
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

    fn divergences(reports: &[StepReport]) -> (DivergenceMonitor, Vec<Divergence>) {
        let mut monitor = DivergenceMonitor::default();
        let divergences = reports
            .iter()
            .map(|report| monitor.record(report, 1e-3))
            .collect();
        (monitor, divergences)
    }

    #[test]
    fn one_bad_step_checks_the_weights_and_a_second_one_means_divergence() {
        for bad in [BAD_LOSS, BAD_GRADIENT] {
            let (monitor, found) = divergences(&[GOOD, bad, bad, GOOD, bad]);
            assert_eq!(
                found,
                [
                    Divergence::None,
                    Divergence::IfWeightsAreNotFinite,
                    Divergence::Certain,
                    Divergence::None,
                    Divergence::IfWeightsAreNotFinite
                ]
            );
            assert_eq!(
                (monitor.steps, monitor.skipped, monitor.mean_loss().unwrap()),
                (5, 3, 2.0)
            );
        }
    }

    #[test]
    fn training_does_not_return_twice_to_the_agreed_weights() {
        let (mut monitor, _) = divergences(&[GOOD, BAD_LOSS]);
        monitor.restored();
        assert_eq!(monitor.record(&BAD_LOSS, 1e-3), Divergence::None);
        assert_eq!(monitor.restorations, 1);
        let message = monitor.mean_loss().unwrap_err().to_string();
        assert!(
            message.contains("in 3 inner steps, of which 2")
                && message.contains("learning rate 0.001"),
            "{message}"
        );
    }

    #[test]
    fn losses_of_dropped_steps_do_not_count() {
        let (mut monitor, _) = divergences(&[StepReport { loss: 1e9, ..GOOD }, BAD_LOSS]);
        monitor.restored();
        monitor.record(&GOOD, 1e-3);
        assert_eq!(monitor.mean_loss().unwrap(), 2.0);
    }
}
