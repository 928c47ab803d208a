//! Judging contributions: by the loss, and by a peer's own work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_kernels::{Agreement, Compression, Contribution, OwnWork, compress, decode};
use weal_testing::require;
use weal_trainer::{
    Assignment, Candidate, ComputePlan, Corpus, DeviceChoice, Features, InnerSpec, Judge,
    Judgement, Learner, ModelSpec, ModelWeights, OpenDevice, Precision, QueryKeyNorm, Sent,
    TextSource, Tokeniser, gpus, initial_weights,
};

const COMPRESSION: Compression = Compression {
    chunk: 256,
    keep: 16,
    decay_ppm: 1_000_000,
};

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
        steps: 8,
        batch: 4,
        learning_rate_ppb: 3_000_000,
        warmup_steps: 1,
        ..InnerSpec::default()
    }
}

fn learner_on(device: &OpenDevice) -> Learner {
    let text = TextSource::Generated {
        seed: [4; 32],
        bytes: 100_000,
    };
    let corpus = Corpus::new(&[text], Tokeniser::Bytes).unwrap();
    Learner::new(model(), inner(), Arc::new(corpus), device).unwrap()
}

fn theta() -> Arc<ModelWeights> {
    Arc::new(initial_weights(&model(), &[0; 32]).unwrap().into())
}

fn assignment(peer: u8) -> Assignment {
    Assignment::newcomer([1; 32], [peer; 32])
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What a peer learns in a round: its contribution, and what it has to say about others'.
struct Work {
    contribution: Contribution,
    own: OwnWork,
    /// v and Δ, in full.
    to_send: Vec<f32>,
    learnt: Vec<f32>,
}

/// The work of a peer's second round: it has an error feedback by then.
fn work(peer: u8) -> Work {
    let (mut learner, theta) = (learner_on(&OpenDevice::cpu()), theta());
    let train = |learner: &mut Learner| {
        let control = &mut |_: &_| ControlFlow::Continue(());
        learner
            .train(&theta, &assignment(peer), 0, control)
            .unwrap();
    };
    train(&mut learner);
    learner.compress(&theta, &COMPRESSION).unwrap();
    let kept_back = learner.error_feedback().unwrap();
    train(&mut learner);
    let local = learner.weights().unwrap();
    let learnt: Vec<f32> = theta.iter().zip(&local).map(|(a, b)| a - b).collect();
    let to_send = kept_back.iter().zip(&learnt).map(|(a, b)| a + b).collect();
    let body = learner.compress(&theta, &COMPRESSION).unwrap();
    let sent = Sent {
        body: &body,
        compression: &COMPRESSION,
    };
    let own = learner.own_work(&theta, &sent, &[peer; 32]).unwrap();
    Work {
        contribution: decode(learner.layout(), &COMPRESSION, &body, body.len()).unwrap(),
        own,
        to_send,
        learnt,
    }
}

/// A contribution with the opposite values.
fn turned(contribution: &Contribution) -> Contribution {
    let layout = model().layout().unwrap();
    let mut values = vec![0.0; layout.parameters()];
    let zeros = values.clone();
    contribution.add_to(&layout, &mut values, -1.0).unwrap();
    let body = compress(&layout, &COMPRESSION, &zeros, &mut values).unwrap();
    decode(&layout, &COMPRESSION, &body, body.len()).unwrap()
}

/// Judges a contribution of peer 2. Stops after `calls` calls of its control.
fn judge(
    learner: &mut Learner,
    judge: &mut Judge,
    contribution: &Contribution,
    mut calls: usize,
) -> Option<Judgement> {
    let clip = vec![1.0; learner.layout().tensors().len()];
    let assignment = assignment(2);
    let candidate = Candidate {
        contribution,
        scale: 1.0,
        clip: &clip,
        assignment: &assignment,
        samples: 32,
    };
    let mut control = || {
        calls = calls.saturating_sub(1);
        if calls == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    learner.judge(judge, &candidate, &mut control).unwrap()
}

#[test]
fn honest_work_lowers_the_loss_and_its_opposite_raises_it() {
    let (mut learner, honest) = (learner_on(&OpenDevice::cpu()), work(2).contribution);
    let mut here = Judge::new(theta(), [9; 32], 8);
    let mut of = |contribution: &Contribution| {
        judge(&mut learner, &mut here, contribution, usize::MAX).unwrap()
    };
    let (good, bad) = (of(&honest), of(&turned(&honest)));
    assert!(good.own_ppm > 1_000 && good.heldout_ppm > 1_000, "{good:?}");
    assert!(bad.own_ppm < -1_000 && bad.heldout_ppm < -1_000, "{bad:?}");
    // The same windows again give the same answer: nothing was left behind.
    assert_eq!(of(&honest), good);
}

#[test]
fn judging_gives_the_weights_back_to_the_bit_wherever_it_is_stopped() {
    let (mut learner, honest) = (learner_on(&OpenDevice::cpu()), work(2).contribution);
    let before = bits(&theta());
    let mut whole = Judge::new(theta(), [9; 32], 8);
    let judged = judge(&mut learner, &mut whole, &honest, usize::MAX);
    assert!(judged.is_some());
    assert_eq!(bits(&learner.weights().unwrap()), before);
    // Four measurements of two batches each.
    for calls in 1..=8 {
        let mut stopped = Judge::new(theta(), [9; 32], 8);
        assert_eq!(judge(&mut learner, &mut stopped, &honest, calls), None);
        assert_eq!(bits(&learner.weights().unwrap()), before, "after {calls}");
        let again = judge(&mut learner, &mut stopped, &honest, usize::MAX);
        assert_eq!(again, judged);
    }
}

#[test]
fn training_in_between_changes_no_judgement() {
    let (mut learner, honest) = (learner_on(&OpenDevice::cpu()), work(2).contribution);
    let mut here = Judge::new(theta(), [9; 32], 4);
    let first = judge(&mut learner, &mut here, &honest, usize::MAX);
    let control = &mut |_: &_| ControlFlow::Continue(());
    learner.train(&theta(), &assignment(3), 0, control).unwrap();
    assert_eq!(judge(&mut learner, &mut here, &honest, usize::MAX), first);
}

#[test]
fn a_claim_of_no_samples_or_too_many_is_judged_too() {
    let (mut learner, honest) = (learner_on(&OpenDevice::cpu()), work(2).contribution);
    let clip = vec![1.0; learner.layout().tensors().len()];
    for samples in [0, 1, u64::MAX] {
        let assignment = assignment(2);
        let candidate = Candidate {
            contribution: &honest,
            scale: 1.0,
            clip: &clip,
            assignment: &assignment,
            samples,
        };
        let mut here = Judge::new(theta(), [9; 32], 4);
        let control = &mut || ControlFlow::Continue(());
        let judged = learner.judge(&mut here, &candidate, control).unwrap();
        assert!(judged.is_some_and(|judged| judged.heldout_ppm > 0));
    }
}

#[test]
fn own_work_is_what_was_to_be_sent_and_what_was_learnt() {
    let (mine, theirs) = (work(2), work(3));
    let layout = model().layout().unwrap();
    let mut sent = vec![0.0; layout.parameters()];
    theirs.contribution.add_to(&layout, &mut sent, 1.0).unwrap();
    let cosine = |own: &[f32]| {
        let sums = sent.iter().zip(own).filter(|(sent, _)| **sent != 0.0);
        let sums = sums.map(|(sent, own)| (f64::from(*sent), f64::from(*own)));
        let [product, left, right] = sums.fold([0.0; 3], |[product, left, right], (a, b)| {
            [product + a * b, left + a * a, right + b * b]
        });
        product / (left * right).sqrt() * 1e6
    };
    let found = mine.own.agreement(&layout, &theirs.contribution);
    let Agreement {
        to_send_ppm,
        learnt_ppm,
    } = found.unwrap().unwrap();
    for (found, own) in [(to_send_ppm, &mine.to_send), (learnt_ppm, &mine.learnt)] {
        let expected = cosine(own);
        // v comes back from what was sent and what was left, each rounded to f32.
        let apart = (f64::from(found) - expected).abs();
        assert!(apart < 20.0, "{found} {expected}");
    }
    let turned = turned(&theirs.contribution);
    let opposite = mine.own.agreement(&layout, &turned).unwrap().unwrap();
    assert!(to_send_ppm > 200_000 && opposite.to_send_ppm < -200_000);
}

#[test]
fn a_gpu_judges_as_the_cpu_does_and_gives_the_weights_back() {
    if gpus().is_empty() {
        require::skip("judging on a GPU", "it has no GPU, not even a software one");
        return;
    }
    let gpu = OpenDevice::open(DeviceChoice::Gpu).unwrap();
    let honest = work(2).contribution;
    let mut cpu = Judge::new(theta(), [9; 32], 4);
    let on_cpu = judge(
        &mut learner_on(&OpenDevice::cpu()),
        &mut cpu,
        &honest,
        usize::MAX,
    );
    let on_cpu = on_cpu.unwrap();
    let mut learner = learner_on(&gpu);
    for precision in [Precision::F32, Precision::Bf16] {
        let plan = ComputePlan {
            precision,
            ..ComputePlan::default()
        };
        if learner.set_plan(&plan).is_err() {
            continue;
        }
        let mut here = Judge::new(theta(), [9; 32], 4);
        let on_gpu = judge(&mut learner, &mut here, &honest, usize::MAX).unwrap();
        let apart = (on_gpu.heldout_ppm - on_cpu.heldout_ppm).abs();
        let most = if precision == Precision::F32 {
            500
        } else {
            20_000
        };
        assert!(apart < most, "{precision}: {on_gpu:?} {on_cpu:?}");
        assert_eq!(bits(&learner.weights().unwrap()), bits(&theta()));
        // In bf16 those are the optimiser's; the ones computed with tell by the same losses.
        assert_eq!(
            judge(&mut learner, &mut here, &honest, usize::MAX),
            Some(on_gpu)
        );
    }
}
