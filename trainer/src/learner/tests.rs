//! Divergence, and state that must never be saved.

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_kernels::Compression;

use super::{Learner, Trained};
use crate::corpus::{Corpus, TextSource};
use crate::device::OpenDevice;
use crate::engine::MomentVectors;
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

    learner.engine.set_error_feedback(error);
    assert!(matches!(
        learner.compress(&theta(), &Compression::default()),
        Err(Error::Compress(_))
    ));
    let cleaned = learner.error_feedback().unwrap();
    assert_eq!((cleaned[6], cleaned[7]), (0.5, 0.0));
    learner.compress(&theta(), &Compression::default()).unwrap();
}
