//! The engine against first principles and against a plain forward pass in f64, and a GPU against
//! the CPU.

use weal_kernels::Compression;

use super::gradient::TradeOff;
use super::{Batch, Engine, MomentVectors, TensorMoments, Update, plain};
use crate::compute_plan::{ComputePlan, ErrorFormat, MomentFormat, Precision, StatePlacement};
use crate::device::{DeviceChoice, OpenDevice};
use crate::error::{Error, Result, with_causes};
use crate::features::{
    Activation, Biases, Features, LayerKind, NormPlacement, QueryKeyNorm, RopeScaling,
};
use crate::gpus::{GpuKind, gpus};
use crate::initial::initial_weights;
use crate::spec::ModelSpec;
use weal_testing::require;

/// Small models that cover every branch: several blocks of queries, shared key heads, tied and
/// untied output projections, a head width of its own, norms of queries and keys.
pub(super) fn small_models() -> Vec<ModelSpec> {
    let tied = ModelSpec {
        vocabulary: 13,
        width: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        feed_forward: 20,
        context: 70,
        tied: true,
        rope_theta: 10_000,
        norm_epsilon_ppb: 10_000,
        head_width: None,
        query_key_norm: QueryKeyNorm::None,
        rope_scaling: None,
        features: Features::default(),
    };
    let untied = ModelSpec {
        heads: 2,
        kv_heads: 2,
        tied: false,
        context: 5,
        ..tied.clone()
    };
    let normed = ModelSpec {
        head_width: Some(6),
        query_key_norm: QueryKeyNorm::Head,
        context: 5,
        ..tied.clone()
    };
    let mut models = vec![tied, untied, normed];
    models.extend(models_with_features());
    models
}

/// Models that have every feature at least once: the first like Gemma's, the second like OLMo's and
/// Phi's, the third like SmolLM's and Qwen's.
fn models_with_features() -> [ModelSpec; 3] {
    let plain = ModelSpec {
        vocabulary: 13,
        width: 16,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        feed_forward: 20,
        context: 9,
        tied: true,
        rope_theta: 10_000,
        norm_epsilon_ppb: 10_000,
        head_width: None,
        query_key_norm: QueryKeyNorm::None,
        rope_scaling: None,
        features: Features::default(),
    };
    let kinds = |windowed: [bool; 3], unrotated: [bool; 3]| {
        let kinds = windowed.into_iter().zip(unrotated);
        kinds
            .map(|(windowed, unrotated)| LayerKind {
                windowed,
                unrotated,
            })
            .collect()
    };
    let gemma = ModelSpec {
        query_key_norm: QueryKeyNorm::Head,
        rope_scaling: Some(RopeScaling::linear(3_000_000)),
        features: Features {
            biases: Biases {
                query_key_value: true,
                ..Biases::default()
            },
            norm_placement: NormPlacement::Both,
            activation: Activation::GeluTanh,
            scaled_embedding: true,
            score_divisor: Some(7),
            score_cap_ppm: Some(1_500_000),
            logit_cap_ppm: Some(2_500_000),
            window: Some(4),
            layer_kinds: kinds([true, true, false], [false; 3]),
            window_rope_theta: Some(100),
            ..Features::default()
        },
        ..plain.clone()
    };
    let olmo = ModelSpec {
        query_key_norm: QueryKeyNorm::Whole,
        tied: false,
        features: Features {
            norm_placement: NormPlacement::After,
            rotary_width: Some(2),
            fused_projections: true,
            ..Features::default()
        },
        ..plain.clone()
    };
    let smol = ModelSpec {
        features: Features {
            // Not of keys: without rotation, the same addend to all keys changes nothing.
            biases: Biases {
                query_key_value: false,
                output: true,
                feed_forward: true,
            },
            window: Some(3),
            layer_kinds: kinds([false, true, true], [true, true, false]),
            ..Features::default()
        },
        ..plain
    };
    [gemma, olmo, smol]
}

pub(super) fn batch(spec: &ModelSpec, sequences: usize) -> Batch {
    let token = |index: usize| ((index * 7 + index * index * 3) % spec.vocabulary) as u32;
    let rows = (0..sequences).map(|row| {
        (0..=spec.context)
            .map(|column| token(row * 31 + column))
            .collect()
    });
    Batch::new(rows, spec.context)
}

/// The batch, of which every third token does not count in the loss.
fn partly_learnt(batch: &Batch) -> Batch {
    let rows = batch.rows().chunks(batch.length() + 1);
    let learnt = |row: &[u32]| (0..row.len()).map(|place| place % 3 != 0).collect();
    Batch::partly_learnt(rows.map(|row| (row.to_vec(), learnt(row))), batch.length())
}

/// Weights whose gains are not one, so that a gain in the wrong place shows.
pub(super) fn weights(spec: &ModelSpec) -> Vec<f32> {
    let mut weights = initial_weights(spec, &[5; 32]).unwrap();
    for (index, weight) in weights.iter_mut().enumerate() {
        // Gains, and biases.
        if *weight == 1.0 {
            *weight = 0.7 + (index % 11) as f32 * 0.06;
        } else if *weight == 0.0 {
            *weight = (index % 7) as f32 * 0.05 - 0.1;
        }
    }
    weights
}

fn update() -> Update {
    Update {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        decay: 0.1,
        clip: Some(0.5),
        updates_before: 0,
        muon: None,
    }
}

pub(super) fn on_cpu(spec: &ModelSpec) -> Engine {
    Engine::on(&OpenDevice::cpu(), spec).unwrap()
}

/// The largest difference, over the largest magnitude.
fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let most = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0.0, |most: f32, value| most.max(value.abs()))
    };
    most(&mut left.iter().zip(right).map(|(l, r)| l - r))
        / most(&mut right.iter().copied()).max(f32::MIN_POSITIVE)
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for spec in small_models() {
        let (mut engine, batch, weights) = (on_cpu(&spec), batch(&spec, 3), weights(&spec));
        engine.load(&weights).unwrap();
        let (gradient, _) = engine.gradient(&batch).unwrap();
        let layout = spec.layout().unwrap();
        for (index, tensor) in layout.tensors().iter().enumerate() {
            // Along the gradient of one tensor, the loss changes by the gradient's squared length.
            let range = layout.range(index);
            let length = gradient[range.clone()]
                .iter()
                .map(|g| f64::from(*g).powi(2))
                .sum::<f64>();
            assert!(length > 0.0, "{} gets no gradient", tensor.name);
            let step = 2e-3 / length.sqrt();
            let mut loss_at = |direction: f64| {
                let mut moved = weights.clone();
                for (weight, slope) in moved[range.clone()]
                    .iter_mut()
                    .zip(&gradient[range.clone()])
                {
                    *weight += (direction * step * f64::from(*slope)) as f32;
                }
                engine.load(&moved).unwrap();
                engine.loss(&batch).unwrap() / batch.predictions() as f64
            };
            let slope = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * step);
            assert!(
                (slope / length - 1.0).abs() < 0.02,
                "{}: {slope} instead of {length}",
                tensor.name
            );
        }
    }
}

#[test]
fn the_next_token_and_the_loss_match_a_plain_forward_pass() {
    for spec in small_models() {
        let (mut engine, batch, weights) = (on_cpu(&spec), batch(&spec, 1), weights(&spec));
        engine.load(&weights).unwrap();
        let tokens = &batch.rows()[..spec.context];
        let plain = plain::Plain::new(&spec, &weights);
        let expected = plain.logits(tokens);
        let last = |length: usize| {
            expected[length - 1]
                .iter()
                .map(|logit| *logit as f32)
                .collect::<Vec<_>>()
        };
        for length in [1, spec.context] {
            engine.begin_text();
            assert!(
                difference(&engine.read_text(&tokens[..length]).unwrap(), &last(length)) < 1e-4
            );
        }
        // Reading the text piece by piece gives the same scores.
        engine.begin_text();
        let mut read = 0;
        while read < spec.context {
            let count = [1, 3, 1, 41][read % 4].min(spec.context - read);
            let next = engine.read_text(&tokens[read..read + count]).unwrap();
            read += count;
            assert_eq!(engine.tokens_read(), read);
            assert!(difference(&next, &last(read)) < 1e-4, "after {read} tokens");
        }
        let loss: f64 = expected
            .iter()
            .zip(&batch.rows()[1..])
            .map(|(logits, target)| plain::loss(logits, *target))
            .sum();
        assert!((engine.loss(&batch).unwrap() / loss - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_gradient_in_little_memory_is_the_same() {
    for spec in small_models() {
        let (mut engine, batch) = (on_cpu(&spec), batch(&spec, 5));
        engine.load(&weights(&spec)).unwrap();
        let (plain, loss) = engine.gradient(&batch).unwrap();
        for (sequences, recompute, scores) in [
            (2, false, usize::MAX),
            (usize::MAX, true, usize::MAX),
            (usize::MAX, false, 40),
            (3, true, 1),
        ] {
            engine.trade_off = TradeOff {
                sequences,
                recompute,
                scores,
                ..TradeOff::default()
            };
            let (frugal, same_loss) = engine.gradient(&batch).unwrap();
            assert!(
                (same_loss / loss - 1.0).abs() < 1e-5,
                "{:?}: {same_loss} instead of {loss}",
                engine.trade_off
            );
            let difference = difference(&frugal, &plain);
            assert!(
                difference < 1e-5,
                "{:?}: off by {difference}",
                engine.trade_off
            );
        }
    }
}

/// Weights and moments after four steps under the engine's plan, and the loss of each step.
fn learn(
    engine: &mut Engine,
    spec: &ModelSpec,
    muon: Option<f64>,
) -> (Vec<f32>, MomentVectors, Vec<f64>) {
    engine.load(&weights(spec)).unwrap();
    let losses = (0..4).map(|updates_before| {
        let update = Update {
            updates_before,
            muon,
            ..update()
        };
        engine.step(&batch(spec, 5), &update).unwrap().loss
    });
    let losses = losses.collect();
    (engine.weights().unwrap(), engine.moments().unwrap(), losses)
}

#[test]
fn states_in_host_memory_learn_the_same() {
    for spec in small_models() {
        for muon in [None, Some(0.95)] {
            let engine = || match muon {
                Some(_) => on_cpu(&spec).with_muon(),
                None => on_cpu(&spec),
            };
            let (expected, moments, _) = learn(&mut engine(), &spec, muon);
            for (micro_batch, recompute, by_block) in [
                (None, false, false),
                (Some(2), true, false),
                (Some(2), true, true),
            ] {
                let mut engine = engine();
                let plan = ComputePlan {
                    micro_batch,
                    recompute,
                    by_block,
                    states: StatePlacement::Host,
                    ..ComputePlan::default()
                };
                engine.set_plan(&plan).unwrap();
                let (found, found_moments, _) = learn(&mut engine, &spec, muon);
                let off = difference(&found, &expected);
                assert!(off < 1e-4, "{plan}, {muon:?}: off by {off}");
                assert!(difference(&found_moments.first, &moments.first) < 1e-4);
                assert!(difference(&found_moments.second, &moments.second) < 1e-4);
            }
        }
    }
}

#[test]
fn muon_keeps_no_second_moment_of_the_matrices_it_updates() {
    let spec = small_models()[0].clone();
    let (mut engine, mut plain) = (on_cpu(&spec).with_muon(), on_cpu(&spec));
    let (weights, moments, _) = learn(&mut engine, &spec, Some(0.95));
    let (same, all, _) = learn(&mut plain, &spec, Some(0.95));
    assert!(weights == same && moments.first == all.first);
    let layout = spec.layout().unwrap();
    let mut kept = Vec::new();
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let second = &all.second[layout.range(index)];
        if tensor.shape.len() == 2 && tensor.name.contains("layers") {
            assert!(second.iter().all(|value| *value == 0.0), "{}", tensor.name);
        } else {
            kept.extend_from_slice(second);
        }
    }
    assert!(moments.second == kept && kept.len() < all.second.len() / 2);
    // They move between plans, and training goes on from them.
    for states in [StatePlacement::Host, StatePlacement::Device] {
        engine
            .set_plan(&ComputePlan {
                states,
                ..ComputePlan::default()
            })
            .unwrap();
        assert!(engine.moments().unwrap() == moments);
    }
    engine.set_moments(&moments).unwrap();
    let update = Update {
        muon: Some(0.95),
        ..update()
    };
    assert!(engine.step(&batch(&spec, 2), &update).unwrap().is_finite());
}

#[test]
fn weights_and_moments_move_between_plans() {
    let spec = small_models()[0].clone();
    let mut engine = on_cpu(&spec);
    let (weights, moments, _) = learn(&mut engine, &spec, None);
    let host = ComputePlan {
        states: StatePlacement::Host,
        ..ComputePlan::default()
    };
    let short = ComputePlan {
        precision: Precision::Bf16,
        ..ComputePlan::default()
    };
    for plan in [
        host,
        ComputePlan {
            states: StatePlacement::Host,
            ..short
        },
        short,
        ComputePlan::default(),
    ] {
        engine.set_plan(&plan).unwrap();
        assert!(engine.weights().unwrap() == weights, "{plan}");
        assert!(engine.moments().unwrap() == moments, "{plan}");
    }
}

/// The plan that keeps moments and error feedback in as few bits as possible.
fn short_states(states: StatePlacement) -> ComputePlan {
    ComputePlan {
        states,
        moments: MomentFormat::Bits8,
        error_feedback: ErrorFormat::Bf16,
        ..ComputePlan::default()
    }
}

#[test]
fn moments_in_eight_bits_learn_almost_the_same_and_move_between_plans() {
    for (spec, muon) in [(0, None), (0, Some(0.95)), (1, None)] {
        let spec = small_models()[spec].clone();
        let engine = || match muon {
            Some(_) => on_cpu(&spec).with_muon(),
            None => on_cpu(&spec),
        };
        let (_, moments, expected) = learn(&mut engine(), &spec, muon);
        let learnt = [StatePlacement::Device, StatePlacement::Host].map(|states| {
            let mut engine = engine();
            engine.set_plan(&short_states(states)).unwrap();
            let (weights, found, losses) = learn(&mut engine, &spec, muon);
            assert_eq!(engine.moment_format(), Some(MomentFormat::Bits8));
            for (found, wanted) in losses.iter().zip(&expected) {
                assert!(
                    (found / wanted - 1.0).abs() < 0.02,
                    "{losses:?} {expected:?}"
                );
            }
            assert!(found != moments && losses[1..] != expected[1..]);
            assert!(difference(&found.first, &moments.first) < 0.2);
            // To f32 they move as they are.
            engine.set_plan(&ComputePlan::default()).unwrap();
            assert!(engine.moments().unwrap() == found);
            (weights, found)
        });
        assert!(difference(&learnt[0].0, &learnt[1].0) < 0.1, "{muon:?}");
    }
}

#[test]
fn an_error_feedback_in_sixteen_bits_is_the_rounded_one() {
    let spec = small_models()[1].clone();
    let compression = Compression {
        chunk: 256,
        keep: 8,
        ..Compression::default()
    };
    let base = weights(&spec);
    let local = initial_weights(&spec, &[7; 32]).unwrap();
    let compressed = |plan: &ComputePlan| {
        let mut engine = on_cpu(&spec);
        engine.set_plan(plan).unwrap();
        engine.load(&local).unwrap();
        let body = engine.compress(&compression, &base).unwrap();
        (body, engine.error_feedback().unwrap(), engine)
    };
    let (body, error, _) = compressed(&ComputePlan::default());
    for states in [StatePlacement::Device, StatePlacement::Host] {
        let (short_body, short_error, mut engine) = compressed(&short_states(states));
        // The first error feedback was zero, so the first body is the same.
        assert!(short_body == body && short_error != error);
        assert!(difference(&short_error, &error) < 1.0 / 256.0);
        engine.set_plan(&ComputePlan::default()).unwrap();
        assert!(engine.error_feedback().unwrap() == short_error);
    }
}

#[test]
fn training_in_16_bits_stays_close_to_training_in_f32() {
    for spec in small_models() {
        let (_, _, expected) = learn(&mut on_cpu(&spec), &spec, None);
        for (precision, states, recompute) in [
            (Precision::Bf16, StatePlacement::Device, false),
            (Precision::Bf16, StatePlacement::Host, false),
            (Precision::Bf16, StatePlacement::Host, true),
            (Precision::F16, StatePlacement::Device, false),
            (Precision::F16, StatePlacement::Host, true),
        ] {
            let plan = ComputePlan {
                precision,
                states,
                recompute,
                ..ComputePlan::default()
            };
            let mut engine = on_cpu(&spec);
            engine.set_plan(&plan).unwrap();
            let (weights, _, losses) = learn(&mut engine, &spec, None);
            assert!(losses.last() < losses.first(), "{plan}: {losses:?}");
            // At this learning rate, rounding grows fast in models with caps and norms after a
            // layer.
            let compared = match spec.features == Features::default() {
                true => losses.len(),
                false => 2,
            };
            for (found, wanted) in losses.iter().zip(&expected).take(compared) {
                assert!(
                    (found / wanted - 1.0).abs() < 0.01,
                    "{plan}: {losses:?} instead of {expected:?}"
                );
            }
            // The weights that are updated have all their bits.
            assert!(
                weights.iter().any(|weight| weight.to_bits() & 0xffff != 0),
                "{plan}"
            );
            let tokens = &batch(&spec, 1).rows()[..3].to_vec();
            assert!(
                engine
                    .read_text(tokens)
                    .unwrap()
                    .iter()
                    .all(|score| score.is_finite())
            );
        }
    }
}

#[test]
fn states_in_host_memory_compress_to_the_same_bytes() {
    let spec = small_models()[1].clone();
    let compression = Compression {
        chunk: 256,
        keep: 8,
        ..Compression::default()
    };
    let (mut device, mut host) = (on_cpu(&spec), on_cpu(&spec));
    host.set_plan(&ComputePlan {
        states: StatePlacement::Host,
        ..ComputePlan::default()
    })
    .unwrap();
    for round in 0..3 {
        let base = initial_weights(&spec, &[round; 32]).unwrap();
        let local = initial_weights(&spec, &[round + 100; 32]).unwrap();
        let [one, other] = [&mut device, &mut host].map(|engine| {
            engine.load(&local).unwrap();
            engine.step(&batch(&spec, 2), &update()).unwrap();
            engine.load(&local).unwrap();
            (
                engine.compress(&compression, &base).unwrap(),
                engine.error_feedback().unwrap(),
            )
        });
        assert!(one == other, "round {round}");
    }
}

#[test]
fn a_step_that_runs_out_of_memory_is_retried_with_less() {
    let spec = small_models()[1].clone();
    let batch = batch(&spec, 5);
    let mut rich = on_cpu(&spec);
    rich.load(&weights(&spec)).unwrap();
    let with_all = rich.step(&batch, &update()).unwrap();
    let mut poor = on_cpu(&spec);
    for states in [StatePlacement::Host, StatePlacement::Device] {
        poor = on_cpu(&spec);
        poor.set_plan(&ComputePlan {
            states,
            ..ComputePlan::default()
        })
        .unwrap();
        poor.load(&weights(&spec)).unwrap();
        poor.most_sequences = 1;
        let with_less = poor.step(&batch, &update()).unwrap();
        assert!((with_all.loss - with_less.loss).abs() < 1e-5);
        assert!(difference(&poor.weights().unwrap(), &rich.weights().unwrap()) < 1e-4);
        assert_eq!(
            (poor.trade_off.sequences, poor.trade_off.recompute),
            (1, false)
        );
    }

    // When no memory is left to save, the device has failed.
    poor.most_sequences = 0;
    let message = poor.step(&batch, &update()).unwrap_err().to_string();
    assert!(
        message.contains("out of memory") && poor.trade_off.recompute,
        "{message}"
    );
}

#[test]
fn losses_are_measured_within_the_plan_and_with_less_if_memory_runs_out() {
    let spec = small_models()[1].clone();
    let batch = batch(&spec, 5);
    let (mut rich, mut poor) = (on_cpu(&spec), on_cpu(&spec));
    rich.load(&weights(&spec)).unwrap();
    let (loss, losses) = (
        rich.loss(&batch).unwrap(),
        rich.token_losses(&batch).unwrap(),
    );

    // The plan's micro-batches serve losses as well.
    poor.load(&weights(&spec)).unwrap();
    let plan = ComputePlan {
        micro_batch: Some(2),
        ..ComputePlan::default()
    };
    poor.set_plan(&plan).unwrap();
    poor.most_sequences = 2;
    let planned = poor.evaluation_trade_off;
    assert!((poor.loss(&batch).unwrap() / loss - 1.0).abs() < 1e-6);
    assert_eq!(poor.evaluation_trade_off, planned, "nothing ran out");

    // Too little memory for the plan: smaller micro-batches, for losses only.
    poor.most_sequences = 1;
    assert!(difference(&poor.token_losses(&batch).unwrap(), &losses) < 1e-5);
    assert_eq!(
        (
            poor.evaluation_trade_off.sequences,
            poor.trade_off.sequences
        ),
        (1, 2)
    );

    // No memory at all: an error, and the device stays in use.
    poor.most_sequences = 0;
    let error = poor.loss(&batch).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    poor.most_sequences = 1;
    assert!((poor.loss(&batch).unwrap() / loss - 1.0).abs() < 1e-6);
    assert!(poor.step(&batch, &update()).unwrap().is_finite());
}

#[test]
fn a_step_is_an_adamw_step() {
    let spec = small_models()[0].clone();
    let (mut engine, batch, weights) = (on_cpu(&spec), batch(&spec, 3), weights(&spec));
    engine.load(&weights).unwrap();
    let (gradient, _) = engine.gradient(&batch).unwrap();
    let norm = gradient
        .iter()
        .map(|g| f64::from(*g).powi(2))
        .sum::<f64>()
        .sqrt();
    let report = engine.step(&batch, &update()).unwrap();
    assert!((report.gradient_norm / norm - 1.0).abs() < 1e-4);
    // AdamW's first step by hand: the bias corrections leave only the clipped gradient's sign.
    let clip = 0.5 / norm;
    let layout = spec.layout().unwrap();
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let decay = if tensor.shape.len() == 2 {
            1e-2 * 0.1
        } else {
            0.0
        };
        let after = &engine.weights().unwrap()[layout.range(index)];
        for ((after, before), slope) in after
            .iter()
            .zip(&weights[layout.range(index)])
            .zip(&gradient[layout.range(index)])
        {
            let slope = f64::from(*slope) * clip;
            let expected = f64::from(*before) * (1.0 - decay) - 1e-2 * slope / (slope.abs() + 1e-8);
            assert!(
                (f64::from(*after) - expected).abs() < 1e-4,
                "{}: {after} instead of {expected}",
                tensor.name
            );
        }
    }
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    let spec = small_models()[1].clone();
    let mut weights = weights(&spec);
    weights[3] = f32::INFINITY;
    let mut engine = on_cpu(&spec);
    engine.load(&weights).unwrap();
    let moments = engine.moments().unwrap();
    assert!(
        !engine
            .step(&batch(&spec, 2), &update())
            .unwrap()
            .is_finite()
    );
    assert_eq!(engine.weights().unwrap(), weights);
    assert_eq!(engine.moments().unwrap(), moments);
}

/// Trains on the best GPU. A software GPU takes minutes to compile its kernels, so the test uses
/// one only under `WEAL_REQUIRE_ALL=1`, which also makes it fail without any GPU.
#[test]
fn a_gpu_learns_what_the_cpu_learns() {
    if !require::all_required() && !gpus().iter().any(|gpu| gpu.kind != GpuKind::Software) {
        return require::skip(
            "training on a GPU",
            "it has no hardware GPU, and a software GPU takes minutes",
        );
    }
    let gpu = OpenDevice::open(DeviceChoice::Gpu).unwrap();
    println!("on {}", gpu.name());
    let spec = small_models()[1].clone();
    let (batch, weights) = (batch(&spec, 3), weights(&spec));
    let (mut cpu, mut gpu) = (on_cpu(&spec), Engine::on(&gpu, &spec).unwrap());
    cpu.load(&weights).unwrap();
    gpu.load(&weights).unwrap();
    for updates_before in 0..4 {
        if updates_before == 2 {
            // From here on the states are in host memory.
            let plan = ComputePlan {
                states: StatePlacement::Host,
                recompute: true,
                ..ComputePlan::default()
            };
            gpu.set_plan(&plan).unwrap();
        }
        let update = Update {
            updates_before,
            ..update()
        };
        let (left, right) = (
            cpu.step(&batch, &update).unwrap(),
            gpu.step(&batch, &update).unwrap(),
        );
        assert!((left.loss - right.loss).abs() < 1e-3, "{left:?} {right:?}");
        assert!(
            (left.gradient_norm / right.gradient_norm - 1.0).abs() < 1e-2,
            "{left:?} {right:?}"
        );
    }
    assert!(difference(&gpu.moments().unwrap().first, &cpu.moments().unwrap().first) < 1e-2);
    let tokens = &batch.rows()[..2];
    assert!(
        difference(
            &gpu.read_text(tokens).unwrap(),
            &cpu.read_text(tokens).unwrap()
        ) < 1e-1
    );

    for (precision, tolerance) in [(Precision::F16, 1e-2), (Precision::Bf16, 1e-1)] {
        let short = ComputePlan {
            precision,
            ..ComputePlan::default()
        };
        if let Err(error) = gpu.set_plan(&short) {
            let (message, hint) = (error.to_string(), error.hint().unwrap());
            let said = format!("does not compute in {precision}");
            assert!(
                message.contains(&said) && hint.contains("compute.precision"),
                "{message}: {hint}"
            );
            continue;
        }
        for updates_before in 4..6 {
            let update = Update {
                updates_before,
                ..update()
            };
            let (left, right) = (
                cpu.step(&batch, &update).unwrap(),
                gpu.step(&batch, &update).unwrap(),
            );
            assert!(
                (left.loss - right.loss).abs() < tolerance
                    && (left.gradient_norm / right.gradient_norm - 1.0).abs() < 10.0 * tolerance,
                "{precision}: {left:?} {right:?}"
            );
        }
    }
}

#[test]
fn gradients_too_large_for_f16_are_taken_with_a_smaller_scale() {
    let spec = small_models()[1].clone();
    let (weights, batch) = (weights(&spec), batch(&spec, 2));
    let plan = ComputePlan {
        precision: Precision::F16,
        ..ComputePlan::default()
    };
    let (mut engine, mut expected) = (on_cpu(&spec), on_cpu(&spec));
    engine.set_plan(&plan).unwrap();
    for engine in [&mut engine, &mut expected] {
        engine.load(&weights).unwrap();
    }
    // So large that the first gradients are infinite.
    while engine.loss_scale.double() {}
    let before = engine.loss_scale;
    let (report, wanted) = (
        engine.step(&batch, &update()).unwrap(),
        expected.step(&batch, &update()).unwrap(),
    );
    assert!(report.is_finite() && engine.loss_scale != before);
    assert!((report.loss / wanted.loss - 1.0).abs() < 1e-2);
    assert!((report.gradient_norm / wanted.gradient_norm - 1.0).abs() < 1e-2);
    assert!(difference(&engine.weights().unwrap(), &expected.weights().unwrap()) < 0.1);
}

/// A GPU to compress on, software GPUs included: compression has few kernels.
fn any_gpu(test: &str) -> Option<OpenDevice> {
    if gpus().is_empty() {
        require::skip(test, "it has no GPU, not even a software one");
        return None;
    }
    Some(OpenDevice::open(DeviceChoice::Gpu).unwrap())
}

#[test]
fn a_gpu_compresses_to_the_same_bytes_as_the_cpu() {
    let Some(gpu) = any_gpu("compressing on a GPU") else {
        return;
    };
    let spec = small_models()[1].clone();
    let compression = Compression {
        chunk: 256,
        keep: 8,
        ..Compression::default()
    };
    let (mut cpu, mut gpu) = (on_cpu(&spec), Engine::on(&gpu, &spec).unwrap());
    for round in 0..3 {
        let base = initial_weights(&spec, &[round; 32]).unwrap();
        let local = initial_weights(&spec, &[round + 100; 32]).unwrap();
        let [on_cpu, on_gpu] = [&mut cpu, &mut gpu].map(|engine| {
            engine.load(&local).unwrap();
            let body = engine.compress(&compression, &base).unwrap();
            let left: Vec<u32> = engine
                .error_feedback()
                .unwrap()
                .iter()
                .map(|value| value.to_bits())
                .collect();
            (body, left)
        });
        assert!(on_cpu == on_gpu, "round {round}");
    }
    assert!(gpu.compresses_on_device() && !cpu.compresses_on_device());
}

#[test]
fn a_pseudo_gradient_that_is_not_finite_is_named_and_leaves_the_error_feedback() {
    let spec = small_models()[1].clone();
    let gpu = any_gpu("refusing on a GPU").map(|gpu| Engine::on(&gpu, &spec).unwrap());
    for mut engine in gpu.into_iter().chain([on_cpu(&spec)]) {
        let base = weights(&spec);
        engine.load(&vec![0.0; base.len()]).unwrap();
        engine.compress(&Compression::default(), &base).unwrap();
        let before = engine.error_feedback().unwrap();
        assert!(before.iter().any(|value| *value != 0.0));
        let mut spoilt = base.clone();
        spoilt[0] = f32::NAN;
        engine.load(&spoilt).unwrap();
        let error = engine.compress(&Compression::default(), &base).unwrap_err();
        let message = with_causes(&error);
        let name = spec.layout().unwrap().tensors()[0].name.clone();
        assert!(
            message.contains(&format!("the pseudo-gradient of tensor `{name}`")),
            "{message}"
        );
        assert_eq!(engine.error_feedback().unwrap(), before);
    }
}

/// The loss is the mean over the tokens that count, whatever memory the plan saves, and the others
/// have no part in the gradient.
#[test]
fn tokens_that_are_not_learnt_have_no_part_in_loss_and_gradient() {
    for spec in small_models() {
        let (mut engine, all) = (on_cpu(&spec), batch(&spec, 3));
        engine.load(&weights(&spec)).unwrap();
        let some = partly_learnt(&all);
        let losses = engine.token_losses(&all).unwrap();
        let counted = some.target_weights().unwrap();
        let sum: f32 = losses
            .iter()
            .zip(&counted)
            .map(|(loss, weight)| loss * weight)
            .sum();
        let mean = f64::from(sum) / some.learnt() as f64;
        assert!((engine.loss(&some).unwrap() - f64::from(sum)).abs() < 1e-2);
        let (whole, loss) = engine.gradient(&some).unwrap();
        assert!((loss - mean).abs() < 1e-4, "{loss} {mean}");
        assert!(difference(&engine.gradient(&all).unwrap().0, &whole) > 1e-2);

        for plan in [
            ComputePlan {
                micro_batch: Some(1),
                ..ComputePlan::default()
            },
            ComputePlan {
                micro_batch: Some(2),
                recompute: true,
                ..ComputePlan::default()
            },
        ] {
            engine.set_plan(&plan).unwrap();
            let (saved, loss) = engine.gradient(&some).unwrap();
            assert!((loss - mean).abs() < 1e-4, "{loss} {mean}");
            assert!(difference(&saved, &whole) < 1e-4);
        }

        // Another token in a place that does not count as a target changes nothing as a target.
        let nothing = Batch::partly_learnt(
            all.rows()
                .chunks(all.length() + 1)
                .map(|row| (row.to_vec(), vec![false; row.len()])),
            all.length(),
        );
        let (gradient, loss) = engine.gradient(&nothing).unwrap();
        assert_eq!(loss, 0.0);
        assert!(gradient.iter().all(|slope| *slope == 0.0));
    }
}

impl Engine {
    /// A copy of all moments: zeros before the first update.
    pub(crate) fn moments(&mut self) -> Result<MomentVectors> {
        let mut moments = MomentVectors {
            first: Vec::new(),
            second: Vec::new(),
        };
        self.visit_moments(&mut |tensor| {
            let [first, second] = tensor.values();
            moments.first.extend_from_slice(&first);
            moments.second.extend_from_slice(&second);
            Ok(())
        })?;
        if moments.first.is_empty() {
            moments.first = vec![0.0; self.transfer.layout().parameters()];
            moments.second = vec![0.0; self.parameters.seconds().len()];
        }
        Ok(moments)
    }

    /// Replaces all moments.
    pub(crate) fn set_moments(&mut self, moments: &MomentVectors) -> Result<()> {
        let (layout, seconds) = (self.transfer.layout(), self.parameters.seconds());
        let (ranges, seconds): (Vec<_>, Vec<_>) = layout
            .ranges()
            .enumerate()
            .map(|(tensor, range)| (range, seconds.range(tensor)))
            .unzip();
        self.restore_moments(&mut |tensor| {
            Ok(TensorMoments::Full {
                first: moments.first[ranges[tensor].clone()].to_vec(),
                second: moments.second[seconds[tensor].clone()].to_vec(),
            })
        })
    }
}
