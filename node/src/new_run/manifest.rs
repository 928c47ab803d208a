//! Values of `run.toml` in the integer units of the manifest.

use weal_proto::limits::{self, CODEC, RULES};
use weal_proto::manifest::{
    AggregationRule, Ancestor, Compression, CountFactor, Data, Founder, Initial, Inner, Limits,
    Manifest, Membership, Optimiser, Outer, OuterRate, PPM, Schedule, Timing, Tokeniser, Trust,
};
use weal_proto::{PeerId, Weight};
use weal_trainer::ModelSpec;

use super::file::{self, RunFile};
use crate::plan::{manifest_model, max_contribution_bytes};
use crate::settings::ByteCount;

/// A fraction in parts per million.
fn ppm(key: &str, value: f64) -> Result<u32, String> {
    scaled(key, value, f64::from(PPM))
}

/// A value in units of 1/`unit`. The error names the key, its value and the accepted range.
fn scaled(key: &str, value: f64, unit: f64) -> Result<u32, String> {
    let scaled = (value * unit).round();
    if (0.0..=f64::from(u32::MAX)).contains(&scaled) {
        Ok(scaled as u32)
    } else {
        Err(format!(
            "{key} is {value}; accepted: 0 to {}",
            f64::from(u32::MAX) / unit
        ))
    }
}

/// The least that a manifest may say of `limits.blob_bytes`.
const LEAST_BLOB_BYTES: u32 = 1024;

/// Up to this many contributions per round the outer learning rate is not lowered.
const FULL_RATE_CONTRIBUTIONS: u32 = 8;

/// What the outer learning rate is multiplied by in rounds that apply more than
/// [`FULL_RATE_CONTRIBUTIONS`] contributions, so that they do not overshoot: (8 / n)^0.7 for n.
///
/// Peers that see the same direction each send it in a round of their own, at its full size, so the
/// sum of what is applied rises with their number, and the rate has to fall. The exponent follows
/// the best rates measured with 8, 16 and 32 peers (docs/benchmarks.md, "Outer rate").
fn stable_factors(most: u32) -> Vec<CountFactor> {
    let factor = |contributions: u32| {
        let growth = f64::from(contributions) / f64::from(FULL_RATE_CONTRIBUTIONS);
        let thousandths = (1e3 * growth.powf(-0.7)).round();
        CountFactor {
            contributions,
            factor_ppm: thousandths as u32 * (PPM / 1_000),
        }
    };
    (FULL_RATE_CONTRIBUTIONS + 1..=most).map(factor).collect()
}

impl RunFile {
    pub(super) fn manifest(
        &self,
        spec: &ModelSpec,
        (initial, ancestor): (Initial, Option<Ancestor>),
        tokeniser: Tokeniser,
        data: Data,
        founder: PeerId,
    ) -> Result<Manifest, String> {
        let mut founders = match self.founders.as_slice() {
            [] => vec![Founder {
                peer: founder,
                weight: Weight(file::FOUNDER_WEIGHT),
            }],
            founders => founders
                .iter()
                .map(|f| Founder {
                    peer: f.peer,
                    weight: Weight(f.weight),
                })
                .collect(),
        };
        founders.sort_by_key(|founder| founder.peer);
        Ok(Manifest {
            name: self.name.clone(),
            model: manifest_model(spec)?,
            tokeniser,
            data,
            initial,
            inner: self.inner()?,
            compression: Compression {
                codec: CODEC,
                chunk: self.compression.chunk,
                keep: self.compression.keep,
                decay_ppm: ppm("compression.decay", self.compression.decay)?,
            },
            outer: self.outer()?,
            timing: self.timing()?,
            limits: Limits {
                contributions: self.limits.contributions,
                blob_bytes: self
                    .limits
                    .blob_bytes
                    .map(|ByteCount(bytes)| u32::try_from(bytes).unwrap_or(u32::MAX))
                    .unwrap_or_else(|| self.blob_bytes(spec)),
                peers: self.limits.peers,
            },
            membership: Membership {
                weight_decay_ppm: ppm("membership.weight_decay", self.membership.weight_decay)?,
                credit: self.membership.credit,
                probation_rounds: self.membership.probation_rounds,
                vesting_rounds: self.membership.vesting_rounds,
                absence_rounds: self.membership.absence_rounds,
                quorum_shrink_ppm: ppm("membership.quorum_shrink", self.membership.quorum_shrink)?,
                ticket_bits: self.membership.ticket_bits,
            },
            founders,
            rules: RULES,
            trust: self.trust()?,
            ancestor,
        })
    }

    fn inner(&self) -> Result<Inner, String> {
        let inner = &self.inner;
        let (optimiser, momentum_ppm) = match inner.optimiser {
            file::Optimiser::AdamW => (Optimiser::AdamW, 0),
            file::Optimiser::Muon => (Optimiser::Muon, ppm("inner.momentum", inner.momentum)?),
        };
        let (schedule, decay_start) = match inner.schedule {
            file::Schedule::Cosine => (Schedule::Cosine, 0),
            file::Schedule::Wsd => (Schedule::Wsd, inner.decay_start),
        };
        Ok(Inner {
            steps: inner.steps,
            batch: inner.batch,
            peak_learning_rate_ppb: scaled("inner.learning_rate", inner.learning_rate, 1e9)?,
            warmup_steps: inner.warmup_steps,
            decay_steps: inner.decay_steps,
            final_rate_ppm: ppm("inner.final_rate", inner.final_rate)?,
            beta1_ppm: ppm("inner.beta1", inner.beta1)?,
            beta2_ppm: ppm("inner.beta2", inner.beta2)?,
            weight_decay_ppm: ppm("inner.weight_decay", inner.weight_decay)?,
            gradient_clip_ppm: ppm("inner.gradient_clip", inner.gradient_clip)?,
            optimiser,
            momentum_ppm,
            schedule,
            decay_start,
        })
    }

    fn outer(&self) -> Result<Outer, String> {
        let rate = |(i, rate): (usize, &file::RateStep)| {
            let rate_ppm = ppm(&format!("outer.rates[{i}].rate"), rate.rate)?;
            Ok(OuterRate {
                from_round: rate.from_round,
                rate_ppm,
            })
        };
        let rates = self.outer.rates.iter().enumerate().map(rate);
        let rates = rates.collect::<Result<_, String>>()?;
        let factors = if self.outer.slower_with_more {
            let most = self.limits.contributions.min(limits::CONTRIBUTIONS as u32);
            stable_factors(most)
        } else {
            Vec::new()
        };
        let rule = match self.outer.rule {
            file::Rule::MeanOfSenders => AggregationRule::MeanOfSenders,
            file::Rule::MeanOfAll => AggregationRule::MeanOfAll,
            file::Rule::RootOfSenders => AggregationRule::RootOfSenders,
        };
        Ok(Outer {
            rule,
            rates,
            factors,
        })
    }

    fn trust(&self) -> Result<Trust, String> {
        let trust = &self.trust;
        Ok(Trust {
            least_signal_ppm: ppm("trust.least_signal", trust.least_signal)?,
            copy_ppm: ppm("trust.copy", trust.copy)?,
            least_compared: trust.least_compared,
            committee: trust.committee,
            probation: trust.probation,
            settle_rounds: trust.settle_rounds,
            memory_rounds: trust.memory_rounds,
            full_standing_ppm: ppm("trust.full_standing", trust.full_standing)?,
            pot: trust.pot,
            ..Trust::default()
        })
    }

    fn timing(&self) -> Result<Timing, String> {
        let ms = |key: &str, seconds: f64| scaled(key, seconds, 1e3);
        let timing = &self.timing;
        Ok(Timing {
            train_ms: ms("timing.train_seconds", timing.train_seconds)?,
            fetch_ms: ms("timing.fetch_seconds", timing.fetch_seconds)?,
            attest_ms: ms("timing.attest_seconds", timing.attest_seconds)?,
            propose_ms: ms("timing.propose_seconds", timing.propose_seconds)?,
            vote_ms: ms("timing.vote_seconds", timing.vote_seconds)?,
        })
    }

    /// The most bytes that a contribution of this model can have, but no less than a manifest may
    /// say. Settings that make no sense are refused elsewhere.
    fn blob_bytes(&self, spec: &ModelSpec) -> u32 {
        let compression = weal_kernels::Compression {
            chunk: self.compression.chunk as usize,
            keep: self.compression.keep as usize,
            decay_ppm: 0,
        };
        let max_bytes = spec
            .layout()
            .ok()
            .and_then(|layout| max_contribution_bytes(&layout, &compression).ok());
        max_bytes
            .and_then(|bytes| u32::try_from(bytes).ok())
            .map_or(u32::MAX, |bytes| bytes.max(LEAST_BLOB_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use weal_proto::RoundNumber;

    use super::*;

    #[test]
    fn a_round_with_more_contributions_has_a_lower_outer_rate() {
        let mut file = RunFile::default();
        file.limits.contributions = 64;
        let rates = |file: &RunFile| {
            let outer = file.outer().unwrap();
            [0, 1, 8, 9, 16, 20, 32, 64].map(|count| outer.rate_ppm(RoundNumber(0), count) / 1_000)
        };
        assert_eq!(rates(&file), [1300, 1300, 1300, 1197, 800, 685, 492, 302]);
        file.outer.slower_with_more = false;
        assert_eq!(rates(&file), [1300; 8]);
    }
}
