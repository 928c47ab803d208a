//! The outer step of a decided round, as the kernels take it.

use weal_coordinator_free::Apply;
use weal_kernels::{Contribution, OuterStep, Rule};

use super::mapping::{outer_rate, outer_rule};

/// How a decided round changes the weights, apart from its contributions.
pub(crate) struct DecidedStep {
    coefficients_ppm: Vec<u32>,
    alpha: f32,
    rule: Rule,
}

impl DecidedStep {
    /// The step of this round.
    pub(crate) fn of(apply: &Apply) -> Self {
        let coefficients = apply.contributions.iter().map(|one| one.coefficient_ppm);
        Self {
            coefficients_ppm: coefficients.collect(),
            alpha: outer_rate(apply.outer_rate_ppm),
            rule: outer_rule(apply.rule),
        }
    }

    /// The step with the round's contributions, in the decided order.
    pub(crate) fn with<'a>(&'a self, contributions: &'a [Contribution]) -> OuterStep<'a> {
        OuterStep {
            contributions,
            coefficients_ppm: &self.coefficients_ppm,
            alpha: self.alpha,
            rule: self.rule,
        }
    }
}
