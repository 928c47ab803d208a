//! The rules a manifest must keep, each with the key, the value and what would be accepted.

use std::fmt::Display;

use thiserror::Error;

use super::{Compression, Data, Inner, Limits, Manifest, Membership, Model, Outer, PPM, Timing};
use crate::limits;

/// A manifest that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("manifest: {key} is {value}; accepted: {accepted}")]
pub struct ManifestError {
    /// Where in the manifest.
    pub key: &'static str,
    /// What stands there.
    pub value: String,
    /// What would be accepted.
    pub accepted: String,
}

/// Total founders' weight stays far below 2^60, which the agreement engine needs.
const MOST_WEIGHT: u64 = 1 << 48;
/// Parameters of the largest model: 2^40 f32 values are 4 TiB.
const MOST_PARAMETERS: u64 = 1 << 40;
const DAY_MS: u32 = 24 * 60 * 60 * 1000;

fn unless(ok: bool, key: &'static str, value: impl Display, accepted: impl Display) -> Result<(), ManifestError> {
    if ok { Ok(()) } else { Err(ManifestError { key, value: value.to_string(), accepted: accepted.to_string() }) }
}

fn within<T: PartialOrd + Display>(key: &'static str, value: T, from: T, to: T) -> Result<(), ManifestError> {
    let ok = value >= from && value <= to;
    unless(ok, key, value, format_args!("{from} to {to}"))
}

pub(super) fn manifest(m: &Manifest) -> Result<(), ManifestError> {
    name("name", &m.name, 64)?;
    model(&m.model)?;
    data(&m.data)?;
    inner(&m.inner)?;
    compression(&m.compression)?;
    outer(&m.outer)?;
    timing(&m.timing)?;
    bounds(&m.limits)?;
    membership(&m.membership)?;
    founders(m)
}

fn name(key: &'static str, text: &str, most: usize) -> Result<(), ManifestError> {
    let ok = !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control);
    unless(ok, key, format_args!("{text:?}"), format_args!("1 to {most} bytes without control characters"))
}

fn model(m: &Model) -> Result<(), ManifestError> {
    within("model.vocabulary", m.vocabulary, 2, 1 << 22)?;
    within("model.width", m.width, 2, 1 << 16)?;
    within("model.layers", m.layers, 1, 1 << 10)?;
    within("model.heads", m.heads, 1, 1 << 10)?;
    within("model.kv_heads", m.kv_heads, 1, m.heads)?;
    within("model.feed_forward", m.feed_forward, 1, 1 << 18)?;
    within("model.context", m.context, 2, 1 << 20)?;
    within("model.rope_theta", m.rope_theta, 1, u32::MAX)?;
    within("model.norm_epsilon_ppb", m.norm_epsilon_ppb, 1, PPM)?;
    let head = m.width / m.heads;
    let even = m.width.is_multiple_of(m.heads) && head.is_multiple_of(2);
    unless(even, "model.heads", m.heads, format_args!("a number that divides the width {} into even parts", m.width))?;
    let shared = m.heads.is_multiple_of(m.kv_heads);
    unless(shared, "model.kv_heads", m.kv_heads, format_args!("a number that divides the {} heads", m.heads))?;
    within("model (parameters)", m.parameters(), 1, MOST_PARAMETERS)
}

fn data(data: &Data) -> Result<(), ManifestError> {
    match data {
        Data::Generator { bytes, .. } => within("data.generator.bytes", *bytes, 10_000, 1 << 30),
        Data::Sources(sources) => {
            within("data.sources (number)", sources.len(), 1, limits::SOURCES)?;
            for source in sources {
                name("data.sources.name", &source.name, limits::NAME_BYTES)?;
                within("data.sources.bytes", source.bytes, 1, 1 << 42)?;
            }
            Ok(())
        }
    }
}

fn inner(i: &Inner) -> Result<(), ManifestError> {
    within("inner.steps", i.steps, 1, 10_000)?;
    within("inner.batch", i.batch, 1, 65_536)?;
    within("inner.peak_learning_rate_ppb", i.peak_learning_rate_ppb, 1, 1_000_000_000)?;
    within("inner.final_rate_ppm", i.final_rate_ppm, 0, PPM)?;
    within("inner.beta1_ppm", i.beta1_ppm, 0, PPM - 1)?;
    within("inner.beta2_ppm", i.beta2_ppm, 0, PPM - 1)?;
    within("inner.weight_decay_ppm", i.weight_decay_ppm, 0, PPM)?;
    within("inner.gradient_clip_ppm", i.gradient_clip_ppm, 1, 1_000 * PPM)?;
    let falls = i.decay_steps == 0 || i.decay_steps > i.warmup_steps;
    let accepted = format_args!("0, or more than the {} steps of warm-up", i.warmup_steps).to_string();
    unless(falls, "inner.decay_steps", i.decay_steps, accepted)
}

fn compression(c: &Compression) -> Result<(), ManifestError> {
    within("compression.codec", c.codec, 1, 1)?;
    within("compression.chunk", c.chunk, 64, 1 << 16)?;
    unless(c.chunk.is_power_of_two(), "compression.chunk", c.chunk, "a power of two")?;
    within("compression.keep", c.keep, 1, c.chunk)?;
    within("compression.decay_ppm", c.decay_ppm, 0, PPM)
}

fn outer(o: &Outer) -> Result<(), ManifestError> {
    within("outer.rates (number)", o.rates.len(), 1, limits::OUTER_RATES)?;
    let first = o.rates.first().map_or(1, |rate| rate.from_round);
    unless(first == 0, "outer.rates (first round)", first, "0")?;
    let rising = o.rates.iter().zip(o.rates.iter().skip(1)).all(|(a, b)| a.from_round < b.from_round);
    unless(rising, "outer.rates", "not in order", "strictly rising rounds")?;
    o.rates.iter().try_for_each(|rate| within("outer.rates.rate_ppm", rate.rate_ppm, 0, 10 * PPM))
}

fn timing(t: &Timing) -> Result<(), ManifestError> {
    within("timing.train_ms", t.train_ms, 100, DAY_MS)?;
    within("timing.fetch_ms", t.fetch_ms, 100, DAY_MS)?;
    within("timing.attest_ms", t.attest_ms, 100, DAY_MS)?;
    within("timing.propose_ms", t.propose_ms, 100, DAY_MS)?;
    within("timing.vote_ms", t.vote_ms, 100, DAY_MS)
}

fn bounds(l: &Limits) -> Result<(), ManifestError> {
    within("limits.contributions", l.contributions, 1, limits::CONTRIBUTIONS as u32)?;
    within("limits.blob_bytes", l.blob_bytes, 1_024, u32::MAX)?;
    within("limits.peers", l.peers, l.contributions, limits::FINDINGS as u32)
}

fn membership(m: &Membership) -> Result<(), ManifestError> {
    within("membership.weight_decay_ppm", m.weight_decay_ppm, 1, PPM)?;
    within("membership.credit", m.credit, 1, 1 << 40)?;
    within("membership.absence_rounds", m.absence_rounds, 1, 1 << 20)
}

fn founders(m: &Manifest) -> Result<(), ManifestError> {
    within("founders (number)", m.founders.len(), 1, limits::FOUNDERS)?;
    for founder in &m.founders {
        within("founders.weight", founder.weight.0, 1, MOST_WEIGHT / limits::FOUNDERS as u64)?;
    }
    let rising = m.founders.iter().zip(m.founders.iter().skip(1)).all(|(a, b)| a.peer < b.peer);
    unless(rising, "founders", "not in order, or one twice", "strictly rising by key")
}
