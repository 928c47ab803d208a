//! The inner optimiser's settings: AdamW or Muon, the learning-rate schedule, and how much of it
//! makes one round.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a peer trains between two rounds.
///
/// All fields are integers, so that a manifest can hold them canonically; fractions are in parts
/// per million (ppm) or per thousand million (ppb).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InnerSpec {
    /// H: inner steps of a round.
    pub steps: u32,
    /// Sequences of an inner step.
    pub batch: u32,
    /// Highest learning rate, in ppb (2 000 000 is 2e-3).
    pub learning_rate_ppb: u32,
    /// Inner steps of the whole run over which the rate rises from 0 to its highest.
    pub warmup_steps: u64,
    /// Steps over which the rate rises after a peer begins with empty moments in the middle of a
    /// run; a newcomer's first steps are otherwise too long, because the moments are estimated from
    /// few gradients.
    pub rejoin_warmup_steps: u64,
    /// What the rate does after the warm-up.
    pub schedule: Schedule,
    /// What makes a gradient a step.
    pub optimiser: Optimiser,
    /// AdamW's β₁, the memory of the mean gradient, in ppm.
    pub beta1_ppm: u32,
    /// AdamW's β₂, the memory of the squared gradient, in ppm.
    pub beta2_ppm: u32,
    /// Decoupled weight decay of matrices, in ppm of the learning rate per step; norm gains do not
    /// decay.
    pub weight_decay_ppm: u32,
    /// Largest global norm of a gradient, in ppm; longer ones are scaled down to it. 0 leaves
    /// gradients as they are.
    pub clip_ppm: u32,
}

/// What the learning rate does after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Schedule {
    /// It stays at its highest.
    Constant,
    /// It falls along half a cosine, and stays at the bottom after that.
    Cosine {
        /// Inner step of the run at which the bottom is reached.
        total_steps: u64,
        /// The bottom, in ppm of the highest rate.
        floor_ppm: u32,
    },
    /// It stays at its highest for most of the run, and falls at the end as one minus the root of
    /// the way (Hägele et al., 2024, <https://arxiv.org/abs/2405.18392>): warm-up, stable, decay.
    Wsd {
        /// Inner step of the run at which it begins to fall.
        decay_start: u64,
        /// Inner step of the run at which the bottom is reached.
        total_steps: u64,
        /// The bottom, in ppm of the highest rate.
        floor_ppm: u32,
    },
}

/// What makes a gradient a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Optimiser {
    /// AdamW for everything.
    #[serde(rename = "adamw")]
    AdamW,
    /// Muon for the matrices within the blocks, AdamW for the rest, at one learning rate.
    Muon {
        /// Memory of the mean gradient, in ppm.
        momentum_ppm: u32,
    },
}

impl Default for InnerSpec {
    /// Settings that suit the `nano` preset on a few home machines.
    ///
    /// Measured with `examples/learn.rs` on tinyshakespeare, 4 peers, 64 of 4096 values sent: the
    /// held-out loss is below the bigram floor after 5 rounds and below the trigram floor after 26.
    /// With 10 steps a round it takes 7 and 34 rounds, but two thirds of the computing; larger
    /// batches cost more than they gain this early.
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
        let check = |key, value: u64, fits: bool, accepted| {
            if fits {
                Ok(())
            } else {
                Err(Error::Inner {
                    key,
                    value: value.to_string(),
                    accepted,
                })
            }
        };
        let small = |value: u32| (1..=1_000_000).contains(&value);
        check(
            "steps",
            self.steps.into(),
            small(self.steps),
            "1 to 1000000 is accepted",
        )?;
        check(
            "batch",
            self.batch.into(),
            (1..=65_536).contains(&self.batch),
            "1 to 65536 is accepted",
        )?;
        let rate = self.learning_rate_ppb;
        check(
            "learning_rate_ppb",
            rate.into(),
            (1..=1_000_000_000).contains(&rate),
            "1 to 1000000000 is accepted",
        )?;
        for (key, beta) in [("beta1_ppm", self.beta1_ppm), ("beta2_ppm", self.beta2_ppm)] {
            check(
                key,
                beta.into(),
                beta < 1_000_000,
                "0 to 999999 is accepted",
            )?;
        }
        let decay = self.weight_decay_ppm;
        check(
            "weight_decay_ppm",
            decay.into(),
            decay <= 1_000_000,
            "0 to 1000000 is accepted",
        )?;
        if let Optimiser::Muon { momentum_ppm } = self.optimiser {
            check(
                "momentum_ppm",
                momentum_ppm.into(),
                momentum_ppm < 1_000_000,
                "0 to 999999 is accepted",
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
                let accepted = "it must be at least warmup_steps";
                check(
                    "schedule.decay_start",
                    decay_start,
                    decay_start >= self.warmup_steps,
                    accepted,
                )?;
                (decay_start, total_steps, floor_ppm)
            }
        };
        let accepted = "it must be after the beginning of the fall";
        check(
            "schedule.total_steps",
            total_steps,
            total_steps > start,
            accepted,
        )?;
        check(
            "schedule.floor_ppm",
            floor_ppm.into(),
            floor_ppm <= 1_000_000,
            "0 to 1000000 is accepted",
        )
    }

    /// The learning rate of an inner step.
    ///
    /// `global_step` counts the inner steps of the run (round · H + step); `own_updates` counts the
    /// updates behind the moments that this step uses, so that a peer with fresh moments warms up
    /// again.
    pub fn learning_rate(&self, global_step: u64, own_updates: u64) -> f64 {
        let peak = f64::from(self.learning_rate_ppb) / 1e9;
        peak * self.schedule_factor(global_step) * rise(own_updates, self.rejoin_warmup_steps)
    }

    fn schedule_factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return rise(step, self.warmup_steps);
        }
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine {
                total_steps,
                floor_ppm,
            } => {
                let cosine =
                    (std::f64::consts::PI * way(self.warmup_steps, step, total_steps)).cos();
                between(floor_ppm, 0.5 * (1.0 + cosine))
            }
            Schedule::Wsd {
                decay_start,
                total_steps,
                floor_ppm,
            } => between(floor_ppm, 1.0 - way(decay_start, step, total_steps).sqrt()),
        }
    }

    /// Muon's momentum, where there is one.
    pub(crate) fn muon(&self) -> Option<f64> {
        match self.optimiser {
            Optimiser::AdamW => None,
            Optimiser::Muon { momentum_ppm } => Some(f64::from(momentum_ppm) / 1e6),
        }
    }

    /// The largest global gradient norm, if there is one.
    pub(crate) fn clip(&self) -> Option<f64> {
        (self.clip_ppm > 0).then(|| f64::from(self.clip_ppm) / 1e6)
    }
}

/// How much of the way from `start` to `end` is behind `step`, from 0 to 1.
fn way(start: u64, step: u64, end: u64) -> f64 {
    (step.saturating_sub(start) as f64 / end.saturating_sub(start).max(1) as f64).min(1.0)
}

/// `share` of the way from the floor up to 1.
fn between(floor_ppm: u32, share: f64) -> f64 {
    let floor = f64::from(floor_ppm) / 1e6;
    floor + (1.0 - floor) * share
}

/// The share of the full rate at `step` of a linear rise over `steps`; never 0, so that the first
/// step counts.
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
    fn a_stable_rate_falls_at_the_end() {
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
    fn fresh_moments_in_the_middle_of_a_run_warm_up_again() {
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
