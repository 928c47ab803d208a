//! The inner optimiser's settings: AdamW or Muon, the learning-rate schedule, and the steps of a
//! round.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a peer trains between two rounds.
///
/// All fields are integers, so that a manifest encodes them canonically. Fractions are in parts per
/// million (ppm) or per billion (ppb).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InnerSpec {
    /// H, the inner steps of a round.
    pub steps: u32,
    /// Sequences of an inner step.
    pub batch: u32,
    /// Peak learning rate, in ppb (2 000 000 is 2e-3).
    pub learning_rate_ppb: u32,
    /// Inner steps at the start of the run over which the learning rate rises to its peak.
    pub warmup_steps: u64,
    /// Warm-up steps of a peer that starts with empty moments during a run. Its first steps would
    /// otherwise be too large, because few gradients make poor estimates of the moments.
    pub rejoin_warmup_steps: u64,
    /// The learning rate after the warm-up.
    pub schedule: Schedule,
    /// The optimiser that turns gradients into steps.
    pub optimiser: Optimiser,
    /// AdamW's β₁, the decay of the first moment, in ppm.
    pub beta1_ppm: u32,
    /// AdamW's β₂, the decay of the second moment, in ppm.
    pub beta2_ppm: u32,
    /// Decoupled weight decay of matrices, in ppm of the learning rate. Norm gains do not decay.
    pub weight_decay_ppm: u32,
    /// Largest global gradient norm, in ppm; larger gradients are scaled down to it. 0 disables
    /// clipping.
    pub clip_ppm: u32,
}

/// The course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Schedule {
    /// Constant at its peak.
    Constant,
    /// Half a cosine down to a floor, then constant.
    Cosine {
        /// The inner step of the run that reaches the floor.
        total_steps: u64,
        /// The floor, in ppm of the peak.
        floor_ppm: u32,
    },
    /// Warm-up, stable, decay: constant at its peak, then down to a floor as one minus the square
    /// root of the progress (Hägele et al., 2024, <https://arxiv.org/abs/2405.18392>).
    Wsd {
        /// The inner step of the run at which the decay starts.
        decay_start: u64,
        /// The inner step of the run that reaches the floor.
        total_steps: u64,
        /// The floor, in ppm of the peak.
        floor_ppm: u32,
    },
}

/// What turns a gradient into a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Optimiser {
    /// AdamW for everything.
    #[serde(rename = "adamw")]
    AdamW,
    /// Muon for the matrices within the blocks, AdamW for the rest, at one learning rate.
    Muon {
        /// The decay of the momentum, in ppm.
        momentum_ppm: u32,
    },
}

impl Default for InnerSpec {
    /// Settings that suit the `nano` preset on a few home machines.
    ///
    /// Measured with `examples/learn.rs` on tinyshakespeare with 4 peers that send 64 of 4096
    /// values: the held-out loss falls below the bigram floor after 5 rounds and below the trigram
    /// floor after 26. With 10 steps a round it takes 7 and 34 rounds, but two thirds of the
    /// compute. Larger batches cost more than they gain this early.
    fn default() -> Self {
        Self {
            steps: 20,
            batch: 2,
            learning_rate_ppb: 3_000_000,
            warmup_steps: 20,
            rejoin_warmup_steps: 10,
            schedule: Schedule::Constant,
            optimiser: Optimiser::AdamW,
            beta1_ppm: 900_000,
            beta2_ppm: 950_000,
            weight_decay_ppm: 100_000,
            clip_ppm: 1_000_000,
        }
    }
}

impl InnerSpec {
    /// Checks every setting against its range.
    pub fn validate(&self) -> Result<()> {
        let check = |key, value: u64, fits: bool, rule| {
            if fits {
                Ok(())
            } else {
                Err(Error::Inner {
                    key,
                    value: value.to_string(),
                    rule,
                })
            }
        };
        let small = |value: u32| (1..=1_000_000).contains(&value);
        check(
            "steps",
            self.steps.into(),
            small(self.steps),
            "it must be 1 to 1000000",
        )?;
        check(
            "batch",
            self.batch.into(),
            (1..=65_536).contains(&self.batch),
            "it must be 1 to 65536",
        )?;
        let rate = self.learning_rate_ppb;
        check(
            "learning_rate_ppb",
            rate.into(),
            (1..=1_000_000_000).contains(&rate),
            "it must be 1 to 1000000000",
        )?;
        for (key, beta) in [("beta1_ppm", self.beta1_ppm), ("beta2_ppm", self.beta2_ppm)] {
            check(key, beta.into(), beta < 1_000_000, "it must be 0 to 999999")?;
        }
        let decay = self.weight_decay_ppm;
        check(
            "weight_decay_ppm",
            decay.into(),
            decay <= 1_000_000,
            "it must be 0 to 1000000",
        )?;
        if let Optimiser::Muon { momentum_ppm } = self.optimiser {
            check(
                "momentum_ppm",
                momentum_ppm.into(),
                momentum_ppm < 1_000_000,
                "it must be 0 to 999999",
            )?;
        }
        let (start, total_steps, floor_ppm) = match self.schedule {
            Schedule::Constant => return Ok(()),
            Schedule::Cosine {
                total_steps,
                floor_ppm,
            } => (self.warmup_steps, total_steps, floor_ppm),
            Schedule::Wsd {
                decay_start,
                total_steps,
                floor_ppm,
            } => {
                let rule = "it must be at least warmup_steps";
                check(
                    "schedule.decay_start",
                    decay_start,
                    decay_start >= self.warmup_steps,
                    rule,
                )?;
                (decay_start, total_steps, floor_ppm)
            }
        };
        let rule = "it must be after the start of the decay";
        check(
            "schedule.total_steps",
            total_steps,
            total_steps > start,
            rule,
        )?;
        check(
            "schedule.floor_ppm",
            floor_ppm.into(),
            floor_ppm <= 1_000_000,
            "it must be 0 to 1000000",
        )
    }

    /// The learning rate of an inner step.
    ///
    /// `global_step` counts the inner steps of the run (round · H + step). `updates` counts the
    /// updates that this peer's moments have seen, so that a peer with fresh moments warms up
    /// again. At the start of a run both rise at once; the slower one holds.
    pub fn learning_rate(&self, global_step: u64, updates: u64) -> f64 {
        let peak = f64::from(self.learning_rate_ppb) / 1e9;
        let of_run = rise(global_step, self.warmup_steps);
        let of_moments = rise(updates, self.rejoin_warmup_steps);
        peak * self.schedule_factor(global_step) * of_run.min(of_moments)
    }

    /// The factor of the schedule: 1 until the end of the warm-up.
    fn schedule_factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return 1.0;
        }
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine {
                total_steps,
                floor_ppm,
            } => {
                let cosine =
                    (std::f64::consts::PI * progress(self.warmup_steps, step, total_steps)).cos();
                between(floor_ppm, 0.5 * (1.0 + cosine))
            }
            Schedule::Wsd {
                decay_start,
                total_steps,
                floor_ppm,
            } => between(
                floor_ppm,
                1.0 - progress(decay_start, step, total_steps).sqrt(),
            ),
        }
    }

    /// Whether Muon is the optimiser.
    pub fn has_muon(&self) -> bool {
        self.muon().is_some()
    }

    /// Muon's momentum, if Muon is the optimiser.
    pub(crate) fn muon(&self) -> Option<f64> {
        match self.optimiser {
            Optimiser::AdamW => None,
            Optimiser::Muon { momentum_ppm } => Some(f64::from(momentum_ppm) / 1e6),
        }
    }

    /// The largest global gradient norm; `None` if clipping is disabled.
    pub(crate) fn clip(&self) -> Option<f64> {
        (self.clip_ppm > 0).then(|| f64::from(self.clip_ppm) / 1e6)
    }
}

/// The progress of `step` from `start` to `end`, from 0 to 1.
fn progress(start: u64, step: u64, end: u64) -> f64 {
    (step.saturating_sub(start) as f64 / end.saturating_sub(start).max(1) as f64).min(1.0)
}

/// The factor at `share` of the way from the floor up to 1.
fn between(floor_ppm: u32, share: f64) -> f64 {
    let floor = f64::from(floor_ppm) / 1e6;
    floor + (1.0 - floor) * share
}

/// The factor at `step` of a linear rise over `steps`; never 0, so that the first step learns.
fn rise(step: u64, steps: u64) -> f64 {
    if step >= steps {
        1.0
    } else {
        (step + 1) as f64 / steps as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn the_rate_rises_linearly_then_stays() {
        let inner = InnerSpec {
            warmup_steps: 4,
            learning_rate_ppb: 1_000_000,
            ..InnerSpec::default()
        };
        let rates: Vec<f64> = (0..6).map(|step| inner.learning_rate(step, 1000)).collect();
        for (rate, expected) in rates
            .iter()
            .zip([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])
        {
            assert!(near(*rate, expected), "{rates:?}");
        }
    }

    #[test]
    fn a_run_and_its_peers_warm_up_once() {
        let inner = InnerSpec {
            warmup_steps: 20,
            rejoin_warmup_steps: 10,
            learning_rate_ppb: 1_000_000_000,
            ..InnerSpec::default()
        };
        // At the start of a run, when all moments are fresh, the rise is linear over the run's.
        for step in 0..20 {
            assert!(near(
                inner.learning_rate(step, step),
                (step + 1) as f64 / 20.0
            ));
        }
        // Who joins later warms up alone, and who joins during the rise does not jump ahead of it.
        assert!(near(inner.learning_rate(500, 3), 0.4));
        assert!(near(inner.learning_rate(15, 0), 0.1));
        assert!(near(inner.learning_rate(15, 9), 0.8));
    }

    #[test]
    fn the_cosine_ends_at_its_floor() {
        let schedule = Schedule::Cosine {
            total_steps: 110,
            floor_ppm: 100_000,
        };
        let inner = InnerSpec {
            warmup_steps: 10,
            learning_rate_ppb: 1_000_000_000,
            schedule,
            ..InnerSpec::default()
        };
        assert!(near(inner.learning_rate(10, 1000), 1.0));
        assert!(near(inner.learning_rate(60, 1000), 0.55));
        assert!(near(inner.learning_rate(110, 1000), 0.1));
        assert!(near(inner.learning_rate(u64::MAX, 1000), 0.1));
    }

    #[test]
    fn a_stable_rate_decays_at_the_end() {
        let schedule = Schedule::Wsd {
            decay_start: 100,
            total_steps: 200,
            floor_ppm: 100_000,
        };
        let inner = InnerSpec {
            warmup_steps: 10,
            learning_rate_ppb: 1_000_000_000,
            schedule,
            ..InnerSpec::default()
        };
        assert!(near(inner.learning_rate(4, 1000), 0.5));
        assert!(near(inner.learning_rate(100, 1000), 1.0));
        assert!(near(inner.learning_rate(125, 1000), 0.1 + 0.9 * 0.5));
        assert!(near(inner.learning_rate(200, 1000), 0.1));
        assert!(near(inner.learning_rate(u64::MAX, 1000), 0.1));
    }

    #[test]
    fn fresh_moments_during_a_run_warm_up_again() {
        let inner = InnerSpec {
            learning_rate_ppb: 2_000_000,
            warmup_steps: 0,
            rejoin_warmup_steps: 10,
            ..InnerSpec::default()
        };
        assert!(near(inner.learning_rate(5000, 0), 2e-4));
        assert!(near(inner.learning_rate(5010, 10), 2e-3));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let cosine = Schedule::Cosine {
            total_steps: 5,
            floor_ppm: 0,
        };
        let early = Schedule::Wsd {
            decay_start: 5,
            total_steps: 50,
            floor_ppm: 0,
        };
        let muon = Optimiser::Muon {
            momentum_ppm: 1_000_000,
        };
        let cases = [
            (
                "steps",
                InnerSpec {
                    steps: 0,
                    ..InnerSpec::default()
                },
            ),
            (
                "batch",
                InnerSpec {
                    batch: 0,
                    ..InnerSpec::default()
                },
            ),
            (
                "learning_rate_ppb",
                InnerSpec {
                    learning_rate_ppb: 0,
                    ..InnerSpec::default()
                },
            ),
            (
                "beta2_ppm",
                InnerSpec {
                    beta2_ppm: 1_000_000,
                    ..InnerSpec::default()
                },
            ),
            (
                "schedule.total_steps",
                InnerSpec {
                    schedule: cosine,
                    ..InnerSpec::default()
                },
            ),
            (
                "schedule.decay_start",
                InnerSpec {
                    schedule: early,
                    ..InnerSpec::default()
                },
            ),
            (
                "momentum_ppm",
                InnerSpec {
                    optimiser: muon,
                    ..InnerSpec::default()
                },
            ),
        ];
        for (key, inner) in cases {
            let message = inner.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("inner.{key} = ")), "{message}");
        }
        InnerSpec::default().validate().unwrap();
    }
}
