//! The rules that a manifest must keep. An error names the key, its value and the values accepted.

use std::fmt::Display;

use super::{
    Compression, Data, Initial, Inner, Limits, Manifest, Optimiser, Outer, PPM, Schedule,
    SpecialTokens, Timing, TokenPart, Tokeniser, check_model, check_trust,
};
use crate::error::ManifestError;
use crate::limits;

/// Vocabulary of the built-in tokeniser, one token per byte.
const BYTES_VOCABULARY: u32 = 256;
pub(super) const MOST_VOCABULARY: u32 = 1 << 22;
const MOST_TOKENISER_BYTES: u64 = 256 << 20;
const MOST_STEPS: u32 = 1_000_000_000;
const DAY_MS: u32 = 24 * 60 * 60 * 1000;

pub(super) fn unless(
    ok: bool,
    key: &'static str,
    value: impl Display,
    accepted: impl Display,
) -> Result<(), ManifestError> {
    if ok {
        Ok(())
    } else {
        Err(ManifestError {
            key,
            value: value.to_string(),
            accepted: accepted.to_string(),
        })
    }
}

pub(super) fn within<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    from: T,
    to: T,
) -> Result<(), ManifestError> {
    let ok = value >= from && value <= to;
    unless(ok, key, value, format_args!("{from} to {to}"))
}

pub(super) fn manifest(m: &Manifest) -> Result<(), ManifestError> {
    within("rules", m.rules, limits::RULES, limits::RULES)?;
    name("name", &m.name, 64)?;
    // Weights drawn from a seed have no ancestor.
    let has_weights = m.ancestor.is_none() || matches!(m.initial, Initial::Weights(_));
    unless(
        has_weights,
        "ancestor",
        "set",
        "none, unless initial_weights is set",
    )?;
    check_model::model(&m.model)?;
    tokeniser(m)?;
    data(&m.data)?;
    inner(&m.inner)?;
    compression(&m.compression)?;
    outer(&m.outer)?;
    timing(&m.timing)?;
    bounds(m)?;
    check_trust::membership(&m.membership)?;
    check_trust::trust(&m.trust)?;
    check_trust::founders(m)
}

fn name(key: &'static str, text: &str, most: usize) -> Result<(), ManifestError> {
    let ok = !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control);
    unless(
        ok,
        key,
        format_args!("{text:?}"),
        format_args!("1 to {most} bytes without control characters"),
    )
}

fn tokeniser(m: &Manifest) -> Result<(), ManifestError> {
    match &m.tokeniser {
        Tokeniser::Bytes => within(
            "model.vocabulary",
            m.model.vocabulary,
            BYTES_VOCABULARY,
            MOST_VOCABULARY,
        ),
        Tokeniser::File {
            bytes,
            special,
            settings,
            ..
        } => {
            within("tokeniser.bytes", *bytes, 1, MOST_TOKENISER_BYTES)?;
            settings.iter().try_for_each(|settings| {
                let most = limits::TOKENISER_SETTINGS_BYTES;
                within("tokeniser.settings.bytes", settings.bytes, 1, most)
            })?;
            special_tokens(special, m.model.vocabulary.saturating_sub(1))
        }
    }
}

fn special_tokens(special: &SpecialTokens, last: u32) -> Result<(), ManifestError> {
    let SpecialTokens {
        bos,
        eos,
        pad,
        unk,
        adds_bos,
        adds_eos,
    } = special;
    for (key, token) in [
        ("tokeniser.special.bos", bos),
        ("tokeniser.special.pad", pad),
        ("tokeniser.special.unk", unk),
    ] {
        token
            .iter()
            .try_for_each(|token| within(key, *token, 0, last))?;
    }
    let number = "tokeniser.special.eos (number)";
    within(number, eos.len(), 0, limits::EOS_TOKENS)?;
    for (index, token) in eos.iter().enumerate() {
        within("tokeniser.special.eos", *token, 0, last)?;
        let is_new = !eos.iter().take(index).any(|before| before == token);
        unless(is_new, "tokeniser.special.eos", token, "each token once")?;
    }
    for (key, adds, is_there) in [
        ("tokeniser.special.adds_bos", adds_bos, bos.is_some()),
        ("tokeniser.special.adds_eos", adds_eos, !eos.is_empty()),
    ] {
        unless(!adds || is_there, key, adds, "true only with such a token")?;
    }
    Ok(())
}

fn data(data: &Data) -> Result<(), ManifestError> {
    match data {
        Data::Generator { bytes, .. } => within("data.generator.bytes", *bytes, 10_000, 1 << 30),
        Data::Prepared(tokens) => {
            let width = tokens.token_bytes;
            unless(
                matches!(width, 2 | 4),
                "data.prepared.token_bytes",
                format_args!("{width}"),
                "2 or 4",
            )?;
            let shards = tokens
                .training
                .shards
                .len()
                .saturating_add(tokens.heldout.shards.len());
            within("data.prepared (shards)", shards, 2, limits::SHARDS)?;
            token_part("data.prepared.training (shards)", &tokens.training, width)?;
            token_part("data.prepared.heldout (shards)", &tokens.heldout, width)
        }
        Data::Sources(sources) => {
            within("data.sources (number)", sources.len(), 1, limits::SOURCES)?;
            for source in sources {
                name("data.sources.name", &source.name, limits::NAME_BYTES)?;
                stays_in_folder(&source.name)?;
                within("data.sources.bytes", source.bytes, 1, 1 << 42)?;
            }
            Ok(())
        }
    }
}

fn token_part(key: &'static str, part: &TokenPart, width: u32) -> Result<(), ManifestError> {
    within(key, part.shards.len(), 1, limits::SHARDS)?;
    within("data.prepared.text_bytes", part.text_bytes, 1, 1 << 50)?;
    for shard in &part.shards {
        within("data.prepared.shards.bytes", shard.bytes, 1, 1 << 35)?;
        within(
            "data.prepared.shards.tokens",
            shard.tokens,
            1,
            shard.bytes / u64::from(width),
        )?;
    }
    Ok(())
}

/// A node may store a source under its name, so the name must not lead out of a folder.
fn stays_in_folder(name: &str) -> Result<(), ManifestError> {
    let inside = name
        .split(['/', '\\'])
        .all(|part| !matches!(part, "" | "." | ".."));
    unless(
        inside,
        "data.sources.name",
        format_args!("{name:?}"),
        "a relative path without \"..\"",
    )
}

fn inner(i: &Inner) -> Result<(), ManifestError> {
    within("inner.steps", i.steps, 1, 10_000)?;
    within("inner.batch", i.batch, 1, 65_536)?;
    within(
        "inner.peak_learning_rate_ppb",
        i.peak_learning_rate_ppb,
        1,
        1_000_000_000,
    )?;
    within("inner.warmup_steps", i.warmup_steps, 0, MOST_STEPS)?;
    within("inner.decay_steps", i.decay_steps, 0, MOST_STEPS)?;
    within("inner.final_rate_ppm", i.final_rate_ppm, 0, PPM)?;
    within("inner.beta1_ppm", i.beta1_ppm, 0, PPM - 1)?;
    within("inner.beta2_ppm", i.beta2_ppm, 0, PPM - 1)?;
    within("inner.weight_decay_ppm", i.weight_decay_ppm, 0, PPM)?;
    within(
        "inner.gradient_clip_ppm",
        i.gradient_clip_ppm,
        1,
        1_000 * PPM,
    )?;
    match i.optimiser {
        Optimiser::AdamW => within("inner.momentum_ppm", i.momentum_ppm, 0, 0)?,
        Optimiser::Muon => within("inner.momentum_ppm", i.momentum_ppm, 1, PPM - 1)?,
    }
    let start = match i.schedule {
        Schedule::Cosine => {
            within("inner.decay_start", i.decay_start, 0, 0)?;
            i.warmup_steps
        }
        Schedule::Wsd => {
            within(
                "inner.decay_start",
                i.decay_start,
                i.warmup_steps,
                MOST_STEPS,
            )?;
            i.decay_start
        }
    };
    let falls = i.decay_steps == 0 || i.decay_steps > start;
    let accepted = format!("0, or more than {start}, where the decay begins");
    unless(falls, "inner.decay_steps", i.decay_steps, accepted)
}

fn compression(c: &Compression) -> Result<(), ManifestError> {
    within("compression.codec", c.codec, limits::CODEC, limits::CODEC)?;
    within("compression.chunk", c.chunk, 64, 1 << 15)?;
    unless(
        c.chunk.is_power_of_two(),
        "compression.chunk",
        c.chunk,
        "a power of two",
    )?;
    within("compression.keep", c.keep, 1, c.chunk)?;
    within("compression.decay_ppm", c.decay_ppm, 0, PPM)
}

fn outer(o: &Outer) -> Result<(), ManifestError> {
    within(
        "outer.rates (number)",
        o.rates.len(),
        1,
        limits::OUTER_RATES,
    )?;
    let first = o.rates.first().map_or(1, |rate| rate.from_round);
    unless(first == 0, "outer.rates (first round)", first, "0")?;
    let rising = o
        .rates
        .iter()
        .zip(o.rates.iter().skip(1))
        .all(|(a, b)| a.from_round < b.from_round);
    unless(
        rising,
        "outer.rates",
        "not in order",
        "strictly rising rounds",
    )?;
    o.rates
        .iter()
        .try_for_each(|rate| within("outer.rates.rate_ppm", rate.rate_ppm, 0, 10 * PPM))?;
    let most = limits::CONTRIBUTIONS as u32;
    for factor in &o.factors {
        within("outer.factors.contributions", factor.contributions, 1, most)?;
        within("outer.factors.factor_ppm", factor.factor_ppm, 0, PPM)?;
    }
    let mut pairs = o.factors.iter().zip(o.factors.iter().skip(1));
    let rising = pairs.all(|(a, b)| a.contributions < b.contributions);
    unless(
        rising,
        "outer.factors",
        "not in order",
        "strictly rising numbers of contributions",
    )
}

fn timing(t: &Timing) -> Result<(), ManifestError> {
    within("timing.train_ms", t.train_ms, 100, DAY_MS)?;
    within("timing.fetch_ms", t.fetch_ms, 100, DAY_MS)?;
    within("timing.attest_ms", t.attest_ms, 100, DAY_MS)?;
    within("timing.propose_ms", t.propose_ms, 100, DAY_MS)?;
    within("timing.vote_ms", t.vote_ms, 100, DAY_MS)
}

fn bounds(m: &Manifest) -> Result<(), ManifestError> {
    let Limits {
        contributions,
        blob_bytes,
        peers,
    } = m.limits;
    within(
        "limits.contributions",
        contributions,
        1,
        limits::CONTRIBUTIONS as u32,
    )?;
    within("limits.blob_bytes", blob_bytes, 1_024, u32::MAX)?;
    let least = least_contribution_bytes(m);
    let holds = u64::from(blob_bytes) >= least;
    unless(
        holds,
        "limits.blob_bytes",
        blob_bytes,
        format_args!("at least the {least} bytes of this model's contributions"),
    )?;
    let founders = u32::try_from(m.founders.len()).unwrap_or(u32::MAX);
    within(
        "limits.peers",
        peers,
        contributions.max(founders),
        limits::SLOTS as u32,
    )
}

/// A lower bound on the bytes of a contribution: ⌊log₂ (chunk / keep)⌋ bits for the position of
/// each value kept of a full chunk, and one for its sign. No code needs fewer, because there are at
/// least (chunk / keep)^keep ways to choose the values.
fn least_contribution_bytes(m: &Manifest) -> u64 {
    let (chunk, keep) = (m.compression.chunk.max(1), m.compression.keep.max(1));
    let bits = u64::from(
        chunk
            .checked_div(keep)
            .and_then(u32::checked_ilog2)
            .unwrap_or(0),
    )
    .saturating_add(1);
    let kept = (m.model.parameters() / u64::from(chunk)).saturating_mul(keep.into());
    kept.saturating_mul(bits) / 8
}
