//! How to choose a token from the model's scores.

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// How to choose tokens from the model's scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Divisor of the scores: below 1 makes likely tokens likelier, above 1 the opposite. 0 always
    /// takes the likeliest token.
    pub temperature: f32,
    /// Keep only the likeliest tokens that together have at least this probability; 1 keeps all
    /// (Holtzman et al., 2020).
    pub top_p: f32,
    /// Keep only this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// The same seed gives the same text on the same device.
    pub seed: u64,
    /// Stop strings: the text ends before the first of them.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 0.8,
            top_p: 0.95,
            top_k: 0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

impl Sampling {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`Error::Generation`] names the setting that is not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, value: f32, rule| {
            Err(Error::Generation {
                key,
                value: value.to_string(),
                rule,
            })
        };
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse("temperature", self.temperature, "it must be 0 to 100");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "it must be more than 0 and at most 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Generation {
                key: "stop",
                value: "\"\"".into(),
                rule: "a stop string must not be empty",
            });
        }
        Ok(())
    }
}

/// Random numbers from a seed, the same on every machine.
pub(super) struct Random(blake3::OutputReader);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal text generation v1");
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    /// A uniform number in 0..1.
    pub(super) fn uniform(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Chooses a token by its score. Never chooses a NaN score, unless all are NaN.
pub(super) fn choose(logits: &[f32], sampling: &Sampling, random: &mut Random) -> u32 {
    let scores = || {
        (0u32..)
            .zip(logits.iter().copied())
            .filter(|(_, score)| !score.is_nan())
    };
    let Some(likeliest) = scores().min_by(by_rank) else {
        return 0;
    };
    if sampling.temperature == 0.0 {
        return likeliest.0;
    }
    let mut kept: Vec<(u32, f32)> = scores().collect();
    if sampling.top_k > 0 && sampling.top_k < kept.len() {
        kept.select_nth_unstable_by(sampling.top_k - 1, by_rank);
        kept.truncate(sampling.top_k);
    }
    let weight = |score: f32| f64::from((score - likeliest.1) / sampling.temperature).exp();
    let total: f64 = kept.iter().map(|(_, score)| weight(*score)).sum();
    let mass = if sampling.top_p < 1.0 {
        keep_top_p(&mut kept, f64::from(sampling.top_p) * total, weight)
    } else {
        total
    };
    let mut rest = random.uniform() * mass;
    for (token, score) in kept {
        rest -= weight(score);
        if rest < 0.0 {
            return token;
        }
    }
    likeliest.0
}

/// The higher score first; of equal ones, the lower token.
fn by_rank(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the likeliest tokens that together weigh `wanted`, and returns what they weigh. Few do, so
/// only some are sorted at first.
fn keep_top_p(kept: &mut Vec<(u32, f32)>, wanted: f64, weight: impl Fn(f32) -> f64) -> f64 {
    let mut sorted = 64;
    loop {
        if sorted < kept.len() {
            kept.select_nth_unstable_by(sorted - 1, by_rank);
        }
        let top = sorted.min(kept.len());
        if let Some(top) = kept.get_mut(..top) {
            top.sort_unstable_by(by_rank);
        }
        let mut mass = 0.0;
        for (index, (_, score)) in kept.iter().take(top).enumerate() {
            mass += weight(*score);
            if mass >= wanted {
                kept.truncate(index + 1);
                return mass;
            }
        }
        if top == kept.len() {
            return mass;
        }
        sorted *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: &Sampling) -> [u32; 4] {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln(), f32::NAN];
        let mut random = Random::new(sampling.seed);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[choose(&logits, sampling, &mut random) as usize] += 1;
        }
        counts
    }

    fn sampling(temperature: f32, top_p: f32, top_k: usize) -> Sampling {
        Sampling {
            temperature,
            top_p,
            top_k,
            ..Sampling::default()
        }
    }

    #[test]
    fn tokens_are_drawn_with_model_probabilities() {
        let [a, b, c, nan] = counts(&sampling(1.0, 1.0, 0));
        assert!(
            a.abs_diff(6000) < 200 && b.abs_diff(3000) < 200 && c.abs_diff(1000) < 200,
            "{a} {b} {c}"
        );
        assert_eq!(nan, 0);
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_token() {
        assert_eq!(counts(&sampling(0.0, 1.0, 0)), [10_000, 0, 0, 0]);
    }

    #[test]
    fn top_p_and_top_k_cut_the_tail_off() {
        let [a, b, c, _] = counts(&sampling(1.0, 0.7, 0));
        assert!(a > 0 && b > 0 && c == 0);
        assert_eq!(counts(&sampling(1.0, 0.5, 0))[1..], [0, 0, 0]);
        assert_eq!(counts(&sampling(1.0, 1.0, 2))[2], 0);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (key, wrong) in [
            ("temperature", sampling(-1.0, 1.0, 0)),
            ("temperature", sampling(f32::NAN, 1.0, 0)),
            ("top_p", sampling(1.0, 0.0, 0)),
            ("top_p", sampling(1.0, f32::NAN, 0)),
            (
                "stop",
                Sampling {
                    stop: vec![String::new()],
                    ..Sampling::default()
                },
            ),
        ] {
            assert!(wrong.validate().unwrap_err().to_string().starts_with(key));
        }
    }

    /// What a full sort would choose.
    fn by_sorting(logits: &[f32], sampling: &Sampling, random: &mut Random) -> u32 {
        let mut ranked: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
        ranked.sort_by(by_rank);
        if sampling.top_k > 0 {
            ranked.truncate(sampling.top_k);
        }
        let weight = |score: f32| f64::from((score - ranked[0].1) / sampling.temperature).exp();
        let total: f64 = ranked.iter().map(|(_, score)| weight(*score)).sum();
        let mut mass = 0.0;
        let mut count = 0;
        while count < ranked.len() && (count == 0 || mass < f64::from(sampling.top_p) * total) {
            mass += weight(ranked[count].1);
            count += 1;
        }
        let mut rest = random.uniform() * mass;
        let chosen = ranked[..count].iter().find(|(_, score)| {
            rest -= weight(*score);
            rest < 0.0
        });
        chosen.map_or(ranked[0].0, |(token, _)| *token)
    }

    #[test]
    fn a_large_vocabulary_needs_no_full_sort() {
        let logits: Vec<f32> = (0..5_000_u32)
            .map(|token| (token.wrapping_mul(2_654_435_761) >> 20) as f32 / 600.0)
            .collect();
        for sampling in [
            sampling(1.0, 0.3, 0),
            sampling(2.0, 0.9, 0),
            sampling(0.7, 0.95, 40),
            sampling(50.0, 0.999, 0),
        ] {
            for seed in 0..8 {
                let theirs = by_sorting(&logits, &sampling, &mut Random::new(seed));
                assert_eq!(choose(&logits, &sampling, &mut Random::new(seed)), theirs);
            }
        }
    }
}
