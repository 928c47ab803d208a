//! The learner as a node uses it: rounds of training, evaluation, restarts, failures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_kernels::Compression;
use weal_trainer::{
    Assignment, Corpus, Error, Features, InjectedFault, InnerSpec, Learner, ModelSpec, OpenDevice,
    Optimiser, Progress, QueryKeyNorm, Samples, Sampling, StopReason, TextGenerator, TextSource,
    Tokeniser, initial_weights,
};

const ASSIGNMENT: Assignment = Assignment::newcomer([1; 32], [2; 32]);

/// A model small enough to learn something in a second.
fn model() -> ModelSpec {
    ModelSpec {
        vocabulary: 256,
        width: 32,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        feed_forward: 64,
        context: 32,
        tied: true,
        rope_theta: 10_000,
        norm_epsilon_ppb: 10_000,
        head_width: None,
        query_key_norm: QueryKeyNorm::None,
        rope_scaling: None,
        features: Features::default(),
    }
}

fn inner() -> InnerSpec {
    InnerSpec {
        steps: 40,
        batch: 4,
        learning_rate_ppb: 5_000_000,
        warmup_steps: 5,
        ..InnerSpec::default()
    }
}

fn corpus() -> Arc<Corpus> {
    let text = b"the cat sat on the mat. the dog sat on the log. ".repeat(100);
    Arc::new(Corpus::new(&[TextSource::Text(text)], Tokeniser::Bytes).unwrap())
}

fn learner(inner: InnerSpec) -> Learner {
    Learner::new(model(), inner, corpus(), &OpenDevice::cpu()).unwrap()
}

fn theta() -> Vec<f32> {
    initial_weights(&model(), &[0; 32]).unwrap()
}

fn keep_training(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_tiny_text_is_learnt_in_few_steps() {
    let mut learner = learner(inner());
    let before = learner.heldout_loss(&theta(), 0).unwrap();
    let trained = learner
        .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
        .unwrap();
    let local = learner.weights().unwrap();
    let after = learner.heldout_loss(&local, 0).unwrap();
    assert!(
        (before.nats_per_byte - 256f64.ln()).abs() < 1.0,
        "an untrained model should predict nothing: {before:?}"
    );
    assert!(after.nats_per_byte < 2.5, "{after:?}");
    assert_eq!(
        (trained.steps, trained.samples, trained.tokens),
        (40, 160, 160 * 32)
    );
    assert_eq!(trained.skipped_steps, 0);
    assert!(trained.mean_loss < 5.0 && trained.seconds > 0.0);
}

fn keep_generating(_: &str) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_learnt_text_can_be_generated() {
    let mut learner = learner(InnerSpec {
        steps: 150,
        ..inner()
    });
    learner
        .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
        .unwrap();
    let local = learner.weights().unwrap();
    let mut generator =
        TextGenerator::new(model(), Tokeniser::Bytes, &local, &OpenDevice::cpu()).unwrap();
    let sampling = Sampling {
        max_tokens: 60,
        temperature: 0.0,
        ..Sampling::default()
    };
    let mut heard = String::new();
    let written = generator
        .generate("the cat ", &sampling, &mut |piece| {
            heard.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(
        written.text.starts_with("sat on the "),
        "{:?}",
        written.text
    );
    assert_eq!((written.tokens.len(), &heard), (60, &written.text));

    assert_eq!(
        (written.ending, written.prompt_tokens),
        (StopReason::Length, 8)
    );

    let stopped = generator
        .generate("the ", &sampling, &mut |_| ControlFlow::Break(()))
        .unwrap();
    assert_eq!(
        (stopped.tokens.len(), stopped.ending),
        (1, StopReason::Cancelled)
    );

    // The text ends before the stop string, in the middle of a token if need be.
    let sampling = Sampling {
        stop: vec!["the".into()],
        ..sampling
    };
    let stopped = generator
        .generate("the cat ", &sampling, &mut keep_generating)
        .unwrap();
    assert_eq!(
        (stopped.text.as_str(), stopped.ending),
        ("sat on ", StopReason::Stop)
    );
    // It continues from there as one text.
    let sampling = Sampling {
        stop: Vec::new(),
        max_tokens: 8,
        ..sampling
    };
    let more = generator
        .resume("", &sampling, &mut keep_generating)
        .unwrap();
    assert_eq!(format!("sat on the{}", more.text), written.text[..18]);

    // The end-of-text token ends it as well.
    let mut generator = generator.ending_at(vec![u32::from(b'n')]);
    let ended = generator
        .generate(
            "the cat ",
            &Sampling {
                max_tokens: 60,
                ..sampling
            },
            &mut keep_generating,
        )
        .unwrap();
    assert_eq!(
        (ended.text.as_str(), ended.ending),
        ("sat o", StopReason::EndOfText)
    );
}

#[test]
fn the_node_can_stop_training_after_any_step() {
    let mut seen = Vec::new();
    let trained = learner(inner())
        .train(&theta(), &ASSIGNMENT, 0, &mut |progress| {
            seen.push(progress.samples);
            if progress.steps == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(seen, [4, 8, 12]);
    assert_eq!((trained.steps, trained.samples), (3, 12));
}

#[test]
fn a_restarted_node_continues_as_if_nothing_had_happened() {
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    for optimiser in [
        Optimiser::AdamW,
        Optimiser::Muon {
            momentum_ppm: 950_000,
        },
    ] {
        one_thread.install(|| {
            restarts(InnerSpec {
                optimiser,
                ..inner()
            })
        });
    }
}

fn restarts(inner: InnerSpec) {
    let mut steady = learner(inner.clone());
    let compression = Compression {
        chunk: 256,
        keep: 8,
        ..Compression::default()
    };
    steady
        .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
        .unwrap();
    steady.compress(&theta(), &compression).unwrap();
    let (first, moments, error) = (
        steady.weights().unwrap(),
        steady.moments().unwrap(),
        steady.error_feedback().unwrap(),
    );
    let second_round = |learner: &mut Learner| {
        learner
            .train(&first, &ASSIGNMENT, 40, &mut keep_training)
            .unwrap();
        let body = learner.compress(&first, &compression).unwrap();
        (
            learner.weights().unwrap(),
            body,
            learner.error_feedback().unwrap(),
        )
    };
    let expected = second_round(&mut steady);

    let mut restarted = learner(inner.clone());
    restarted.restore_moments(&moments).unwrap();
    restarted.restore_error_feedback(error).unwrap();
    assert!(second_round(&mut restarted) == expected);

    let fresh = second_round(&mut learner(inner));
    assert_ne!(fresh.0, expected.0, "the moments matter");
    assert_ne!(fresh.1, expected.1, "the error feedback matters");
}

#[test]
fn muon_learns_too() {
    let text_learnt = |optimiser| {
        let mut learner = learner(InnerSpec {
            optimiser,
            ..inner()
        });
        learner
            .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
            .unwrap();
        let local = learner.weights().unwrap();
        learner.heldout_loss(&local, 0).unwrap().nats_per_byte
    };
    let (adamw, muon) = (
        text_learnt(Optimiser::AdamW),
        text_learnt(Optimiser::Muon {
            momentum_ppm: 950_000,
        }),
    );
    assert!(adamw < 2.5 && muon < 2.5, "AdamW {adamw}, Muon {muon}");
    assert_ne!(adamw, muon);
}

#[test]
fn moments_of_another_model_are_refused_and_the_current_ones_stay() {
    let mut learner = learner(inner());
    learner
        .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
        .unwrap();
    let before = learner.moments().unwrap();
    assert!(matches!(
        learner.restore_moments(&before[..before.len() - 8]),
        Err(Error::Moments(_))
    ));
    assert_eq!(learner.moments().unwrap(), before);
}

#[test]
fn another_peer_or_round_trains_on_other_samples() {
    let local = |assignment: &Assignment| {
        let mut learner = learner(inner());
        learner
            .train(&theta(), assignment, 0, &mut keep_training)
            .unwrap();
        learner.weights().unwrap()
    };
    let first = local(&ASSIGNMENT);
    assert_ne!(
        first,
        local(&Assignment {
            peer: [3; 32],
            ..ASSIGNMENT
        })
    );
    assert_ne!(
        first,
        local(&Assignment {
            seed: [3; 32],
            ..ASSIGNMENT
        })
    );
}

#[test]
fn the_samples_trained_on_can_be_measured() {
    let mut learner = learner(InnerSpec {
        steps: 1,
        ..inner()
    });
    let trained = learner
        .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
        .unwrap();
    let samples = Samples::Assigned {
        assignment: &ASSIGNMENT,
        indices: &[0, 1, 2, 3],
    };
    let measured = learner.loss(&theta(), samples).unwrap();
    assert!((measured.nats_per_token - f64::from(trained.mean_loss)).abs() < 1e-4);
    assert_eq!((measured.tokens, measured.bytes), (4 * 32, 4 * 32));
}

#[test]
fn the_heldout_part_can_be_measured_in_full_in_part_or_at_random() {
    let mut learner = learner(inner());
    let whole = learner.heldout_loss(&theta(), 0).unwrap();
    assert_eq!(whole.tokens, 480 / 32 * 32);
    assert_eq!(learner.heldout_loss(&theta(), 1_000_000).unwrap(), whole);
    assert_eq!(learner.heldout_loss(&theta(), 3).unwrap().tokens, 3 * 32);
    let random = |learner: &mut Learner, seed| {
        let samples = Samples::RandomHeldout {
            seed: [seed; 32],
            sequences: 5,
        };
        learner.loss(&theta(), samples).unwrap().nats_per_byte
    };
    assert_eq!(random(&mut learner, 1), random(&mut learner, 1));
    assert_ne!(random(&mut learner, 1), random(&mut learner, 2));
}

#[test]
fn damaged_or_foreign_weights_are_refused_by_name() {
    let mut learner = learner(inner());
    let mut damaged = theta();
    damaged[300] = f32::NAN;
    let message = learner
        .train(&damaged, &ASSIGNMENT, 0, &mut keep_training)
        .unwrap_err()
        .to_string();
    assert!(message.contains("model.embed_tokens.weight"), "{message}");
    let short = &theta()[1..];
    assert!(matches!(
        learner.heldout_loss(short, 0),
        Err(Error::Length { .. })
    ));
}

#[test]
fn a_model_without_finite_losses_is_an_error() {
    let huge: Vec<f32> = theta().iter().map(|weight| weight * 1e30).collect();
    let error = learner(inner())
        .train(&huge, &ASSIGNMENT, 0, &mut keep_training)
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Diverged {
                steps: 40,
                skipped: 40,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn device_loss_costs_only_what_was_learnt_since_the_moments_were_saved() {
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    one_thread.install(|| {
        let mut steady = learner(inner());
        steady
            .train(&theta(), &ASSIGNMENT, 0, &mut keep_training)
            .unwrap();
        let (first, moments) = (steady.weights().unwrap(), steady.moments().unwrap());
        steady
            .train(&first, &ASSIGNMENT, 40, &mut keep_training)
            .unwrap();

        // The device is lost in the third step of the second round.
        let device = OpenDevice::cpu().with_fault(InjectedFault::after(2, 1));
        let on = |device: &OpenDevice| {
            let mut learner = Learner::new(model(), inner(), corpus(), device).unwrap();
            learner.restore_moments(&moments).unwrap();
            learner
        };
        let mut interrupted = on(&device);
        for _ in 0..2 {
            let error = interrupted
                .train(&first, &ASSIGNMENT, 40, &mut keep_training)
                .unwrap_err();
            assert!(matches!(error, Error::Device { .. }), "{error}");
        }
        assert!(matches!(device.reopen(), Err(Error::NoDevice { .. })));
        let mut again = on(&device.reopen().unwrap());
        again
            .train(&first, &ASSIGNMENT, 40, &mut keep_training)
            .unwrap();
        assert_eq!(again.weights().unwrap(), steady.weights().unwrap());
    });
}

#[test]
fn a_tokeniser_with_more_tokens_than_the_model_is_refused() {
    let small = ModelSpec {
        vocabulary: 100,
        ..model()
    };
    let message = match Learner::new(small, inner(), corpus(), &OpenDevice::cpu()) {
        Ok(_) => panic!("a vocabulary of 100 cannot hold 256 bytes"),
        Err(error) => error.hint().unwrap().into_owned(),
    };
    assert!(
        message.contains("model.vocabulary to at least 256"),
        "{message}"
    );
}
