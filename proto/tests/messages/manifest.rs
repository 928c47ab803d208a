//! A manifest that breaks a rule is refused, with the key, its value and the values accepted.

use weal_proto::manifest::{
    Ancestor, CountFactor, Data, DataSource, Founder, Initial, Inner, Model, NormPlacement,
    Optimiser, OuterRate, PPM, PreparedTokens, QueryKeyNorm, RopeScaling, RopeScalingKind,
    Schedule, SpecialTokens, TokenPart, TokenShard, Tokeniser, TokeniserSettings, Trust,
};
use weal_proto::{DecodeError, Manifest, Message, PeerId, RoundNumber, Weight, limits};
use weal_proto_seeded::Seeded;

/// A small, valid manifest.
fn valid() -> Manifest {
    let mut manifest = (0..)
        .map(Manifest::of_seed)
        .find(|m| m.founders.len() > 2)
        .unwrap();
    manifest.model.vocabulary = 256;
    manifest.model.heads = 4;
    manifest.model.kv_heads = 2;
    manifest.model.width = 128;
    manifest.model.head_width = 0;
    manifest.model.rope_scaling = None;
    manifest.model.rotary_width = 0;
    manifest.model.window = 0;
    manifest.model.window_rope_theta = 0;
    manifest.model.layer_kinds = Vec::new();
    manifest.model.fused_projections = false;
    manifest.initial = Initial::Seed([7; 32]);
    manifest.ancestor = None;
    manifest.inner = Inner {
        optimiser: Optimiser::AdamW,
        momentum_ppm: 0,
        schedule: Schedule::Cosine,
        decay_start: 0,
        ..manifest.inner
    };
    manifest.tokeniser = Tokeniser::Bytes;
    manifest.data = Data::Sources(vec![source("a.txt"), source("b/c.txt")]);
    manifest
}

fn source(name: &str) -> DataSource {
    DataSource {
        name: name.into(),
        hash: [1; 32].into(),
        bytes: 1_000,
    }
}

fn sources(names: &[&str]) -> Data {
    Data::Sources(names.iter().map(|name| source(name)).collect())
}

/// Breaks one rule, and checks the error of both `validate` and `decode`.
#[track_caller]
fn refused(break_it: impl FnOnce(&mut Manifest), key: &str, value: &str, accepted: &str) {
    let mut manifest = valid();
    break_it(&mut manifest);
    let error = manifest.validate().unwrap_err();
    assert_eq!((error.key, error.value.as_str()), (key, value), "{error}");
    assert!(error.accepted.contains(accepted), "{error}");
    assert_eq!(
        error.to_string(),
        format!("manifest: {key} is {value}; accepted: {}", error.accepted)
    );
    assert_eq!(
        Manifest::decode(&manifest.encode()),
        Err(DecodeError::Manifest(error))
    );
}

/// Checks that values outside the bounds are refused.
macro_rules! bounds {
    ($key:literal, $($field:ident).+, $from:expr, $to:expr) => {{
        let (from, to) = (u64::from($from), u64::from($to));
        let accepted = format!("{from} to {to}");
        if from > 0 {
            let below = (from - 1).to_string();
            refused(|m| m.$($field).+ = (from - 1) as _, $key, &below, &accepted);
        }
        if to < u64::from(u32::MAX) {
            let above = (to + 1).to_string();
            refused(|m| m.$($field).+ = (to + 1) as _, $key, &above, &accepted);
        }
    }};
}

#[test]
fn a_valid_manifest_is_accepted_and_its_bytes_identify_the_run() {
    let manifest = valid();
    assert_eq!(manifest.validate(), Ok(()));
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Ok(manifest.clone()));
    assert_eq!(Manifest::run_of(&bytes), manifest.run());
    let mut other = manifest.clone();
    other.inner.steps += 1;
    assert_ne!(other.run(), manifest.run());
}

#[test]
fn model_sizes_have_bounds() {
    bounds!("model.width", model.width, 2_u32, 65_536_u32);
    bounds!("model.layers", model.layers, 1_u32, 1_024_u32);
    bounds!("model.heads", model.heads, 1_u32, 1_024_u32);
    bounds!("model.kv_heads", model.kv_heads, 1_u32, 4_u32);
    bounds!("model.feed_forward", model.feed_forward, 1_u32, 262_144_u32);
    bounds!("model.context", model.context, 2_u32, 1_048_576_u32);
    bounds!("model.norm_epsilon_ppb", model.norm_epsilon_ppb, 1_u32, PPM);
    refused(|m| m.model.rope_theta = 0, "model.rope_theta", "0", "1 to");
    refused(|m| m.model.vocabulary = 1, "model.vocabulary", "1", "2 to");
}

#[test]
fn heads_divide_the_width_evenly() {
    refused(
        |m| m.model.heads = 3,
        "model.heads",
        "3",
        "a divisor of the width 128 with an even quotient",
    );
    refused(
        |m| m.model.kv_heads = 3,
        "model.kv_heads",
        "3",
        "a divisor of the 4 heads",
    );
    let odd_head = |m: &mut Manifest| (m.model.width, m.model.heads) = (12, 4);
    refused(odd_head, "model.heads", "4", "even quotient");
}

#[test]
fn heads_may_have_a_width_that_does_not_divide_the_models() {
    let mut own = valid();
    (own.model.heads, own.model.kv_heads, own.model.head_width) = (6, 3, 64);
    assert_eq!(own.validate(), Ok(()));
    refused(
        |m| m.model.head_width = 63,
        "model.head_width",
        "63",
        "even",
    );
    refused(
        |m| m.model.head_width = 4098,
        "model.head_width",
        "4098",
        "2 to 4096",
    );
}

#[test]
fn rotary_frequencies_may_only_be_scaled_down() {
    let scaling = RopeScaling {
        factor_ppm: 8 * PPM,
        low_frequency_ppm: PPM,
        high_frequency_ppm: 4 * PPM,
        original_context: 8192,
        kind: RopeScalingKind::Llama3,
        attention_factor_ppb: 0,
        whole_components: false,
    };
    let mut stretched = valid();
    stretched.model.rope_scaling = Some(scaling);
    assert_eq!(stretched.validate(), Ok(()));
    let with = |change: fn(&mut RopeScaling)| {
        move |m: &mut Manifest| {
            let mut scaling = scaling;
            change(&mut scaling);
            m.model.rope_scaling = Some(scaling);
        }
    };
    refused(
        with(|s| s.factor_ppm = PPM - 1),
        "model.rope_scaling.factor_ppm",
        "999999",
        "1000000 to",
    );
    refused(
        with(|s| s.low_frequency_ppm = 0),
        "model.rope_scaling.low_frequency_ppm",
        "0",
        "1 to",
    );
    refused(
        with(|s| s.high_frequency_ppm = PPM),
        "model.rope_scaling.high_frequency_ppm",
        "1000000",
        "1000001 to",
    );
    refused(
        with(|s| s.original_context = 0),
        "model.rope_scaling.original_context",
        "0",
        "1 to",
    );
    // Numbers that a kind does not use are 0, so that every scaling has one encoding.
    refused(
        with(|s| s.kind = RopeScalingKind::Linear),
        "model.rope_scaling.low_frequency_ppm",
        "1000000",
        "0 to 0",
    );
    refused(
        with(|s| s.attention_factor_ppb = 1),
        "model.rope_scaling.attention_factor_ppb",
        "1",
        "0 to 0",
    );
    refused(
        with(|s| s.kind = RopeScalingKind::Yarn),
        "model.rope_scaling.attention_factor_ppb",
        "0",
        "1 to",
    );
    refused(
        with(|s| s.whole_components = true),
        "model.rope_scaling.whole_components",
        "true",
        "false, but for YaRN",
    );
}

#[test]
fn features_of_a_model_have_one_encoding() {
    let layered = |kind: u8| {
        move |m: &mut Manifest| {
            m.model.layer_kinds = vec![kind; m.model.layers as usize];
            m.model.window = 16;
        }
    };
    let mut windowed = valid();
    layered(Model::WINDOWED | Model::UNROTATED)(&mut windowed);
    assert_eq!(windowed.validate(), Ok(()));
    assert_eq!(Manifest::decode(&windowed.encode()), Ok(windowed));
    refused(layered(4), "model.layer_kinds", "4", "0 to 3");
    refused(
        layered(0),
        "model.layer_kinds",
        "all 0",
        "none if all are 0",
    );
    refused(layered(Model::UNROTATED), "model.window", "16", "0 to 0");
    refused(|m| m.model.window = 9, "model.window", "9", "0 to 0");
    refused(
        |m| m.model.window_rope_theta = 9,
        "model.window_rope_theta",
        "9",
        "0 to 0",
    );
    let endless = |m: &mut Manifest| {
        m.model.layer_kinds = vec![Model::WINDOWED; m.model.layers as usize];
    };
    refused(endless, "model.window", "0", "1 to");
    let more = |m: &mut Manifest| {
        m.model.layers = 2;
        m.model.layer_kinds = vec![Model::UNROTATED; 3];
    };
    refused(more, "model.layer_kinds (bytes)", "3", "2 to 2");
    refused(
        |m| m.model.rotary_width = 3,
        "model.rotary_width",
        "3",
        "even",
    );
    refused(
        |m| m.model.rotary_width = 34,
        "model.rotary_width",
        "34",
        "at most 32",
    );
    let fused = |m: &mut Manifest| {
        m.model.fused_projections = true;
        m.model.output_bias = true;
    };
    refused(fused, "model.fused_projections", "true", "without");
}

#[test]
fn parameters_of_features_are_counted() {
    let mut model = valid().model;
    (model.layers, model.feed_forward) = (3, 10);
    model.query_key_norm = QueryKeyNorm::None;
    model.norm_placement = NormPlacement::Before;
    (
        model.query_key_value_bias,
        model.output_bias,
        model.feed_forward_bias,
    ) = (false, false, false);
    let plain = model.parameters();
    let more = |change: fn(&mut Model)| {
        let mut model = model.clone();
        change(&mut model);
        (model.parameters() - plain) / 3
    };
    // 4 query heads and 2 key heads, 32 wide.
    assert_eq!(more(|m| m.query_key_norm = QueryKeyNorm::Head), 64);
    assert_eq!(more(|m| m.query_key_norm = QueryKeyNorm::Whole), 128 + 64);
    assert_eq!(more(|m| m.norm_placement = NormPlacement::After), 0);
    assert_eq!(more(|m| m.norm_placement = NormPlacement::Both), 256);
    assert_eq!(more(|m| m.query_key_value_bias = true), 128 + 64 + 64);
    assert_eq!(more(|m| m.output_bias = true), 128);
    assert_eq!(more(|m| m.feed_forward_bias = true), 10 + 10 + 128);
}

#[test]
fn initial_weights_come_from_a_seed_or_a_blob() {
    let mut going_on = valid();
    going_on.initial = Initial::Weights([5; 32].into());
    assert_eq!(Manifest::decode(&going_on.encode()), Ok(going_on.clone()));
    assert_ne!(going_on.run(), valid().run());
}

#[test]
fn weights_drawn_from_a_seed_have_no_ancestor() {
    let ancestor = Some(Ancestor::of_seed(1));
    refused(
        |m| m.ancestor = ancestor,
        "ancestor",
        "set",
        "initial_weights",
    );
    let continued = Manifest {
        initial: Initial::Weights([3; 32].into()),
        ancestor,
        ..valid()
    };
    assert_eq!(Manifest::decode(&continued.encode()), Ok(continued));
}

#[test]
fn a_model_with_too_many_parameters_is_refused() {
    let vast = |m: &mut Manifest| {
        (m.model.width, m.model.layers, m.model.feed_forward) = (65_536, 1_024, 262_144);
    };
    refused(
        vast,
        "model (parameters)",
        "65970899058688",
        "1 to 1099511627776",
    );
}

#[test]
fn the_built_in_tokeniser_needs_a_token_for_every_byte() {
    refused(
        |m| m.model.vocabulary = 255,
        "model.vocabulary",
        "255",
        "256 to",
    );
    refused(
        |m| m.tokeniser = file(0, SpecialTokens::default()),
        "tokeniser.bytes",
        "0",
        "1 to",
    );
}

fn file(bytes: u64, special: SpecialTokens) -> Tokeniser {
    Tokeniser::File {
        hash: [1; 32].into(),
        bytes,
        special,
        settings: None,
    }
}

#[test]
fn special_tokens_lie_within_the_vocabulary_and_are_told_apart() {
    let with = |change: fn(&mut SpecialTokens)| {
        move |m: &mut Manifest| {
            let mut special = SpecialTokens {
                bos: Some(1),
                eos: vec![3, 2],
                pad: Some(3),
                unk: Some(0),
                adds_bos: true,
                adds_eos: false,
            };
            change(&mut special);
            m.tokeniser = file(1, special);
        }
    };
    let mut plain = valid();
    with(|_| {})(&mut plain);
    assert_eq!(Manifest::decode(&plain.encode()), Ok(plain));
    let key = "tokeniser.special.bos";
    refused(with(|s| s.bos = Some(256)), key, "256", "0 to 255");
    let key = "tokeniser.special.eos";
    refused(with(|s| s.eos.push(256)), key, "256", "0 to 255");
    refused(with(|s| s.eos.push(3)), key, "3", "each token once");
    let key = "tokeniser.special.pad";
    refused(with(|s| s.pad = Some(256)), key, "256", "0 to 255");
    let key = "tokeniser.special.unk";
    refused(with(|s| s.unk = Some(256)), key, "256", "0 to 255");
    let key = "tokeniser.special.adds_bos";
    refused(
        with(|s| s.bos = None),
        key,
        "true",
        "only with such a token",
    );
    let many = with(|s| s.eos = (0..33).collect());
    refused(many, "tokeniser.special.eos (number)", "33", "0 to 32");
    let settings = |m: &mut Manifest| {
        m.tokeniser = Tokeniser::File {
            hash: [1; 32].into(),
            bytes: 1,
            special: SpecialTokens::default(),
            settings: Some(TokeniserSettings {
                hash: [2; 32].into(),
                bytes: 1 << 30,
            }),
        }
    };
    refused(
        settings,
        "tokeniser.settings.bytes",
        "1073741824",
        "1 to 4194304",
    );
}

#[test]
fn data_is_not_empty_and_its_names_stay_in_the_folder() {
    refused(
        |m| m.data = sources(&[]),
        "data.sources (number)",
        "0",
        "1 to 1024",
    );
    refused(
        |m| m.data = sources(&[""]),
        "data.sources.name",
        "\"\"",
        "1 to 256 bytes",
    );
    refused(
        |m| m.data = sources(&["a\nb"]),
        "data.sources.name",
        "\"a\\nb\"",
        "without control characters",
    );
    for name in ["/etc/passwd", "../key", "a/../b", "a//b", "a\\..\\b", "."] {
        refused(
            |m| m.data = sources(&[name]),
            "data.sources.name",
            &format!("{name:?}"),
            "a relative path without",
        );
    }
    let long = "n".repeat(257);
    refused(
        |m| m.data = sources(&[&long]),
        "data.sources.name",
        &format!("{long:?}"),
        "1 to 256 bytes",
    );
    let empty = |m: &mut Manifest| {
        m.data = Data::Sources(vec![DataSource {
            bytes: 0,
            ..source("a.txt")
        }]);
    };
    refused(empty, "data.sources.bytes", "0", "1 to");
    let tiny = |m: &mut Manifest| {
        m.data = Data::Generator {
            seed: 1,
            bytes: 9_999,
        }
    };
    refused(tiny, "data.generator.bytes", "9999", "10000 to");
}

fn prepared(change: impl Fn(&mut PreparedTokens)) -> impl Fn(&mut Manifest) {
    move |m| {
        let shard = TokenShard {
            hash: [3; 32].into(),
            bytes: 1_000,
            tokens: 400,
        };
        let part = TokenPart {
            text_bytes: 1_600,
            shards: vec![shard],
        };
        let mut tokens = PreparedTokens {
            token_bytes: 2,
            training: part.clone(),
            heldout: part,
        };
        change(&mut tokens);
        m.data = Data::Prepared(tokens);
    }
}

#[test]
fn shards_are_long_enough_for_their_tokens() {
    let mut manifest = valid();
    prepared(|_| {})(&mut manifest);
    manifest.validate().unwrap();
    refused(
        prepared(|t| t.token_bytes = 3),
        "data.prepared.token_bytes",
        "3",
        "2 or 4",
    );
    refused(
        prepared(|t| t.heldout.shards.clear()),
        "data.prepared (shards)",
        "1",
        "2 to 4096",
    );
    refused(
        prepared(|t| t.training.text_bytes = 0),
        "data.prepared.text_bytes",
        "0",
        "1 to",
    );
    refused(
        prepared(|t| t.training.shards[0].tokens = 501),
        "data.prepared.shards.tokens",
        "501",
        "1 to 500",
    );
    refused(
        prepared(|t| t.training.shards[0].tokens = 0),
        "data.prepared.shards.tokens",
        "0",
        "1 to",
    );
    refused(
        prepared(|t| t.heldout.shards[0].bytes = 1 << 36),
        "data.prepared.shards.bytes",
        "68719476736",
        "1 to",
    );
    let many = |t: &mut PreparedTokens| {
        let first = t.training.shards[0].clone();
        t.training.shards = vec![first; 4096];
    };
    refused(
        prepared(many),
        "data.prepared (shards)",
        "4097",
        "2 to 4096",
    );
}

#[test]
fn a_name_is_short_and_printable() {
    refused(|m| m.name.clear(), "name", "\"\"", "1 to 64 bytes");
    refused(
        |m| m.name = "a\u{7}".into(),
        "name",
        "\"a\\u{7}\"",
        "without control characters",
    );
    let long = "é".repeat(33);
    refused(
        |m| m.name = long.clone(),
        "name",
        &format!("{long:?}"),
        "1 to 64 bytes",
    );
}

#[test]
fn inner_steps_have_bounds() {
    bounds!("inner.steps", inner.steps, 1_u32, 10_000_u32);
    bounds!("inner.batch", inner.batch, 1_u32, 65_536_u32);
    bounds!(
        "inner.peak_learning_rate_ppb",
        inner.peak_learning_rate_ppb,
        1_u32,
        1_000_000_000_u32
    );
    bounds!(
        "inner.warmup_steps",
        inner.warmup_steps,
        0_u32,
        1_000_000_000_u32
    );
    bounds!(
        "inner.decay_steps",
        inner.decay_steps,
        0_u32,
        1_000_000_000_u32
    );
    bounds!("inner.final_rate_ppm", inner.final_rate_ppm, 0_u32, PPM);
    bounds!("inner.beta1_ppm", inner.beta1_ppm, 0_u32, PPM - 1);
    bounds!("inner.beta2_ppm", inner.beta2_ppm, 0_u32, PPM - 1);
    bounds!("inner.weight_decay_ppm", inner.weight_decay_ppm, 0_u32, PPM);
    bounds!(
        "inner.gradient_clip_ppm",
        inner.gradient_clip_ppm,
        1_u32,
        1_000 * PPM
    );
    let early = |m: &mut Manifest| (m.inner.warmup_steps, m.inner.decay_steps) = (100, 100);
    refused(
        early,
        "inner.decay_steps",
        "100",
        "0, or more than 100, where the decay begins",
    );
    let stable = |start, end| {
        move |m: &mut Manifest| {
            m.inner = Inner {
                warmup_steps: 10,
                decay_steps: end,
                schedule: Schedule::Wsd,
                decay_start: start,
                ..m.inner
            };
        }
    };
    let mut manifest = valid();
    stable(100, 200)(&mut manifest);
    assert_eq!(manifest.validate(), Ok(()));
    refused(stable(9, 200), "inner.decay_start", "9", "10 to");
    refused(
        stable(100, 100),
        "inner.decay_steps",
        "100",
        "0, or more than 100, where the decay begins",
    );
    refused(
        |m| m.inner.decay_start = 1,
        "inner.decay_start",
        "1",
        "0 to 0",
    );
}

#[test]
fn each_optimiser_has_its_own_settings() {
    refused(
        |m| m.inner.momentum_ppm = 1,
        "inner.momentum_ppm",
        "1",
        "0 to 0",
    );
    refused(
        |m| m.inner.optimiser = Optimiser::Muon,
        "inner.momentum_ppm",
        "0",
        "1 to 999999",
    );
}

#[test]
fn compression_has_bounds() {
    bounds!(
        "compression.codec",
        compression.codec,
        weal_proto::limits::CODEC,
        weal_proto::limits::CODEC
    );
    bounds!("compression.chunk", compression.chunk, 64_u32, 32_768_u32);
    bounds!("compression.keep", compression.keep, 1_u32, 4_096_u32);
    bounds!("compression.decay_ppm", compression.decay_ppm, 0_u32, PPM);
    refused(
        |m| m.compression.chunk = 4_095,
        "compression.chunk",
        "4095",
        "a power of two",
    );
}

#[test]
fn outer_rates_begin_at_round_0_and_rise() {
    let rate = |from_round, rate_ppm| OuterRate {
        from_round,
        rate_ppm,
    };
    refused(
        |m| m.outer.rates.clear(),
        "outer.rates (number)",
        "0",
        "1 to 256",
    );
    refused(
        |m| m.outer.rates = vec![rate(1, PPM)],
        "outer.rates (first round)",
        "1",
        "0",
    );
    let twice = |m: &mut Manifest| m.outer.rates = vec![rate(0, PPM), rate(9, PPM), rate(9, PPM)];
    refused(
        twice,
        "outer.rates",
        "not in order",
        "strictly rising rounds",
    );
    let high = |m: &mut Manifest| m.outer.rates = vec![rate(0, 10 * PPM + 1)];
    refused(high, "outer.rates.rate_ppm", "10000001", "0 to 10000000");
}

#[test]
fn phases_take_between_100_ms_and_a_day() {
    bounds!("timing.train_ms", timing.train_ms, 100_u32, 86_400_000_u32);
    bounds!("timing.fetch_ms", timing.fetch_ms, 100_u32, 86_400_000_u32);
    bounds!(
        "timing.attest_ms",
        timing.attest_ms,
        100_u32,
        86_400_000_u32
    );
    bounds!(
        "timing.propose_ms",
        timing.propose_ms,
        100_u32,
        86_400_000_u32
    );
    bounds!("timing.vote_ms", timing.vote_ms, 100_u32, 86_400_000_u32);
}

#[test]
fn limits_are_large_enough_for_the_model_and_the_founders() {
    bounds!("limits.contributions", limits.contributions, 1_u32, 256_u32);
    refused(
        |m| m.limits.blob_bytes = 1_023,
        "limits.blob_bytes",
        "1023",
        "1024 to",
    );
    let tight = |m: &mut Manifest| {
        (m.model.layers, m.model.feed_forward) = (4, 344);
        (m.compression.keep, m.limits.blob_bytes) = (64, 10_000);
    };
    refused(
        tight,
        "limits.blob_bytes",
        "10000",
        "of this model's contributions",
    );
    let few = |m: &mut Manifest| (m.limits.contributions, m.limits.peers) = (20, 19);
    refused(few, "limits.peers", "19", "20 to 256");
    let founders = valid().founders.len();
    let fewer_than_founders = |m: &mut Manifest| (m.limits.contributions, m.limits.peers) = (1, 1);
    refused(
        fewer_than_founders,
        "limits.peers",
        "1",
        &format!("{founders} to 256"),
    );
}

#[test]
fn weights_decay_and_stay_below_the_engines_limit() {
    bounds!(
        "membership.weight_decay_ppm",
        membership.weight_decay_ppm,
        1_u32,
        PPM - 1
    );
    bounds!(
        "membership.probation_rounds",
        membership.probation_rounds,
        0_u32,
        1_048_576_u32
    );
    bounds!(
        "membership.vesting_rounds",
        membership.vesting_rounds,
        0_u32,
        1_048_576_u32
    );
    bounds!(
        "membership.absence_rounds",
        membership.absence_rounds,
        1_u32,
        1_048_576_u32
    );
    refused(
        |m| m.membership.credit = 0,
        "membership.credit",
        "0",
        "1 to",
    );
    let slow = |m: &mut Manifest| {
        (m.membership.weight_decay_ppm, m.membership.credit) = (PPM - 1, 1 << 31)
    };
    refused(slow, "membership.credit", "2147483648", "1 to 281474976");
}

#[test]
fn rules_of_trust_stay_within_their_bounds() {
    bounds!("trust.least_signal_ppm", trust.least_signal_ppm, 0_u32, PPM);
    bounds!("trust.copy_ppm", trust.copy_ppm, 1_u32, PPM);
    bounds!("trust.least_compared", trust.least_compared, 2_u32, 256_u32);
    bounds!("trust.committee", trust.committee, 1_u32, 256_u32);
    bounds!("trust.probation", trust.probation, 0_u32, 1_048_576_u32);
    bounds!("trust.settle_rounds", trust.settle_rounds, 1_u32, 8_u32);
    bounds!(
        "trust.least_typical_ppm",
        trust.least_typical_ppm,
        1_u32,
        PPM
    );
    bounds!("trust.most_score_ppm", trust.most_score_ppm, PPM, 4 * PPM);
    bounds!("trust.memory_rounds", trust.memory_rounds, 1_u32, 1_000_u32);
    bounds!(
        "trust.full_standing_ppm",
        trust.full_standing_ppm,
        1_u32,
        PPM
    );
    bounds!(
        "trust.most_distance_ppm",
        trust.most_distance_ppm,
        PPM,
        1_000 * PPM
    );
    refused(|m| m.trust.pot = 0, "trust.pot", "0", "1 to");
    let more_than_scores = |m: &mut Manifest| {
        (m.trust.most_score_ppm, m.trust.harm_ppm) = (PPM, PPM + 1);
    };
    refused(
        more_than_scores,
        "trust.harm_ppm",
        "1000001",
        "1 to 1000000",
    );
    let mut usual = valid();
    usual.trust = Trust::default();
    assert_eq!(usual.validate(), Ok(()));
}

#[test]
fn the_outer_rate_falls_with_the_number_of_contributions() {
    let factor = |contributions, factor_ppm| CountFactor {
        contributions,
        factor_ppm,
    };
    let mut outer = valid().outer;
    outer.rates = vec![OuterRate {
        from_round: 0,
        rate_ppm: 1_300_000,
    }];
    outer.factors = vec![factor(9, 900_000), factor(16, 615_572)];
    let rates = [0, 8, 9, 15, 16, 99].map(|count| outer.rate_ppm(RoundNumber(3), count));
    assert_eq!(
        rates,
        [1_300_000, 1_300_000, 1_170_000, 1_170_000, 800_243, 800_243]
    );

    let twice = |m: &mut Manifest| m.outer.factors = vec![factor(9, PPM), factor(9, PPM)];
    let accepted = "strictly rising numbers of contributions";
    refused(twice, "outer.factors", "not in order", accepted);
    let high = |m: &mut Manifest| m.outer.factors = vec![factor(9, PPM + 1)];
    refused(high, "outer.factors.factor_ppm", "1000001", "0 to 1000000");
    let none = |m: &mut Manifest| m.outer.factors = vec![factor(0, PPM)];
    refused(none, "outer.factors.contributions", "0", "1 to 256");
}

#[test]
fn founders_are_sorted_unique_and_have_a_weight() {
    refused(|m| m.founders.clear(), "founders (number)", "0", "1 to 128");
    refused(
        |m| m.founders.reverse(),
        "founders",
        "not in order, or one twice",
        "strictly rising by key",
    );
    let twice = |m: &mut Manifest| m.founders[1] = m.founders[0].clone();
    refused(
        twice,
        "founders",
        "not in order, or one twice",
        "strictly rising by key",
    );
    refused(
        |m| m.founders[0].weight = Weight(0),
        "founders.weight",
        "0",
        "1 to",
    );
    refused(
        |m| m.founders[0].weight = Weight(u64::MAX),
        "founders.weight",
        "18446744073709551615",
        "1 to",
    );
}

#[test]
fn too_many_founders_are_refused_by_validation() {
    let mut manifest = valid();
    let founder = |n: u8| Founder {
        peer: PeerId::from([n; 32]),
        weight: Weight(1),
    };
    manifest.limits.peers = 256;
    manifest.founders = (0..129).map(founder).collect();
    let error = manifest.validate().unwrap_err();
    assert_eq!(
        (error.key, error.value.as_str()),
        ("founders (number)", "129")
    );
    manifest.founders.pop();
    assert_eq!(manifest.validate(), Ok(()));
}

#[test]
fn a_run_with_other_rules_is_refused_by_the_version_it_names() {
    let mut other = valid();
    other.rules = limits::RULES + 1;
    let error = Manifest::decode(&other.encode()).unwrap_err();
    let expected = DecodeError::OtherRules {
        found: limits::RULES + 1,
        expected: limits::RULES,
    };
    assert_eq!(error, expected);
    assert!(
        error.to_string().contains("version 3 of the rules"),
        "{error}"
    );
    let mut first = valid();
    first.rules = 0;
    let error = Manifest::decode(&first.encode()).unwrap_err().to_string();
    assert!(error.contains("follows version 1"), "{error}");
}
