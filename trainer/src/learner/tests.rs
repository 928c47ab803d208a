//! Divergence, and state that must never be saved.

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_kernels::{Compression, add_back, decode};

use super::{Learner, Trained};
use crate::compute_plan::{ComputePlan, ErrorFormat, MomentFormat};
use crate::corpus::{Corpus, TextSource};
use crate::device::OpenDevice;
use crate::engine::{HostError, MomentVectors};
use crate::error::{Error, Result};
use crate::initial::initial_weights;
use crate::inner::InnerSpec;
use crate::sampling::Assignment;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

const ASSIGNMENT: Assignment = Assignment::newcomer([1; 32], [2; 32]);

fn spec() -> ModelSpec {
    ModelSpec {
        width: 16,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        feed_forward: 32,
        context: 16,
        ..ModelSpec::preset("nano").unwrap()
    }
}

fn learner(steps: u32) -> Learner {
    let text = TextSource::Generated {
        seed: [4; 32],
        bytes: 4096,
    };
    let corpus = Arc::new(Corpus::new(&[text], Tokeniser::Bytes).unwrap());
    Learner::new(
        spec(),
        InnerSpec {
            steps,
            ..InnerSpec::default()
        },
        corpus,
        &OpenDevice::cpu(),
    )
    .unwrap()
}

fn theta() -> Vec<f32> {
    initial_weights(&spec(), &[3; 32]).unwrap()
}

fn train(learner: &mut Learner) -> Result<Trained> {
    learner.train(&theta(), &ASSIGNMENT, 0, &mut |_| ControlFlow::Continue(()))
}

/// Changes the moments without any check.
fn spoil(learner: &mut Learner, change: impl FnOnce(&mut MomentVectors)) {
    let mut vectors = learner.engine.moments().unwrap();
    change(&mut vectors);
    learner.engine.set_moments(&vectors).unwrap();
}

fn are_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

#[test]
fn a_round_that_diverges_restarts_from_the_agreed_weights_and_continues() {
    let mut learner = learner(6);
    spoil(&mut learner, |vectors| vectors.first[0] = f32::NAN);
    let trained = train(&mut learner).unwrap();
    // The first step spoils a weight, the second detects it, and the other four learn.
    assert_eq!(
        (trained.steps, trained.skipped_steps, trained.restorations),
        (6, 1, 1)
    );
    assert_eq!(learner.updates, 4);
    assert!(are_finite(&learner.weights().unwrap()) && trained.mean_loss.is_finite());
    let vectors = learner.engine.moments().unwrap();
    assert!(are_finite(&vectors.first) && are_finite(&vectors.second));
}

#[test]
fn divergence_in_the_last_step_is_an_error_and_the_next_round_trains() {
    let mut learner = learner(1);
    spoil(&mut learner, |vectors| vectors.first[0] = f32::NAN);
    let error = train(&mut learner).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Diverged {
                steps: 1,
                skipped: 0,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(learner.weights().unwrap(), theta());
    assert_eq!(train(&mut learner).unwrap().restorations, 0);
    learner.compress(&theta(), &Compression::default()).unwrap();
}

#[test]
fn agreed_weights_that_give_no_finite_loss_leave_the_learner_usable() {
    let mut learner = learner(3);
    let huge: Vec<f32> = theta().iter().map(|weight| weight * 1e30).collect();
    let error = learner
        .train(&huge, &ASSIGNMENT, 0, &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Diverged {
                steps: 3,
                skipped: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(train(&mut learner).unwrap().skipped_steps, 0);
}

#[test]
fn unusable_moments_are_never_saved() {
    for spoilt in [f32::INFINITY, f32::NAN] {
        let mut learner = learner(2);
        train(&mut learner).unwrap();
        // An infinite second moment freezes its weight for ever, without any other sign.
        spoil(&mut learner, |vectors| vectors.second[0] = spoilt);
        let saved = learner.moments().unwrap();
        learner.restore_moments(&saved).unwrap();
        assert_eq!(learner.updates, 0);
        assert_eq!(train(&mut learner).unwrap().restorations, 0);
    }
}

#[test]
fn an_error_feedback_that_is_not_finite_costs_one_round() {
    let mut learner = learner(2);
    train(&mut learner).unwrap();
    let mut error = vec![0.5; learner.layout.parameters()];
    error[7] = f32::INFINITY;
    let refused = learner.restore_error_feedback(error.clone()).unwrap_err();
    assert!(
        refused.to_string().contains("model.embed_tokens.weight"),
        "{refused}"
    );

    learner.engine.set_error_feedback(HostError::Full(error));
    assert!(matches!(
        learner.compress(&theta(), &Compression::default()),
        Err(Error::Compress(_))
    ));
    let cleaned = learner.error_feedback().unwrap();
    assert_eq!((cleaned[6], cleaned[7]), (0.5, 0.0));
    learner.compress(&theta(), &Compression::default()).unwrap();
}

fn short_states() -> ComputePlan {
    ComputePlan {
        moments: MomentFormat::Bits8,
        error_feedback: ErrorFormat::Bf16,
        ..ComputePlan::default()
    }
}

/// A learner after one round.
fn learnt(plan: &ComputePlan) -> Learner {
    let mut learner = learner(2);
    learner.set_plan(plan).unwrap();
    train(&mut learner).unwrap();
    learner.compress(&theta(), &Compression::default()).unwrap();
    learner
}

fn saved(learner: &mut Learner) -> Vec<u8> {
    let mut bytes = Vec::new();
    learner.write_error_feedback(&mut bytes).unwrap();
    learner.write_moments(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_saved_state_is_continued_in_whatever_format_it_is_kept() {
    let parameters = learner(1).layout.parameters();
    for (plan, least, most) in [
        (
            ComputePlan::default(),
            12 * parameters,
            12 * parameters + 100,
        ),
        (short_states(), 4 * parameters, 5 * parameters),
    ] {
        let mut steady = learnt(&plan);
        let (bytes, updates) = (saved(&mut steady), steady.updates);
        assert!((least..most).contains(&bytes.len()), "{}", bytes.len());
        for other in [ComputePlan::default(), short_states()] {
            let mut restarted = learner(2);
            restarted.set_plan(&other).unwrap();
            let mut from = &bytes[..];
            restarted.read_error_feedback(&mut from).unwrap();
            restarted.read_moments(&mut from).unwrap();
            assert!(from.is_empty());
            assert_eq!(restarted.updates, updates);
            if other == plan {
                assert!(saved(&mut restarted) == bytes);
                let [one, two] = [&mut steady, &mut restarted].map(|learner| {
                    train(learner).unwrap();
                    learner.compress(&theta(), &Compression::default()).unwrap()
                });
                assert!(one == two);
            } else {
                train(&mut restarted).unwrap();
            }
        }
    }
}

#[test]
fn a_state_that_ends_too_early_is_refused_and_nothing_changes() {
    for plan in [ComputePlan::default(), short_states()] {
        let mut learner = learnt(&plan);
        let before = saved(&mut learner);
        let mut error = Vec::new();
        learner.write_error_feedback(&mut error).unwrap();
        let refused = learner.read_error_feedback(&mut &error[..error.len() - 1]);
        assert!(matches!(refused, Err(Error::State(_))));
        let unknown = learner.read_error_feedback(&mut &[9][..]);
        assert!(matches!(unknown, Err(Error::State(_))));
        let moments = learner.moments().unwrap();
        let refused = learner.restore_moments(&moments[..moments.len() - 1]);
        assert!(matches!(refused, Err(Error::Moments(_))));
        assert!(saved(&mut learner) == before);
    }
}

#[test]
fn a_contribution_is_taken_back_or_refused_as_a_whole() {
    for plan in [ComputePlan::default(), short_states()] {
        let mut learner = learnt(&plan);
        let before = learner.error_feedback().unwrap();
        train(&mut learner).unwrap();
        let settings = Compression::default();
        let body = learner.compress(&theta(), &settings).unwrap();
        let contribution = decode(&learner.layout, &settings, &body, body.len()).unwrap();
        let kept_back = learner.error_feedback().unwrap();
        let mut whole = kept_back.clone();
        add_back(&learner.layout, &contribution, &mut whole).unwrap();
        learner.take_back(&contribution).unwrap();
        let found = learner.error_feedback().unwrap();
        let near = |(found, whole): (&f32, &f32)| (found - whole).abs() <= whole.abs() / 256.0;
        assert!(found.iter().zip(&whole).all(near) && found != kept_back && before != found);

        let mut spoilt = before;
        spoilt.fill(f32::NAN);
        learner.engine.set_error_feedback(HostError::Full(spoilt));
        let refused = learner.take_back(&contribution).unwrap_err();
        assert!(matches!(refused, Error::ErrorFeedback { .. }), "{refused}");
    }
}
