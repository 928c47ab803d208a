//! Measuring contributions beside training.

use weal_proto::{PeerId, Samples, Score, Seed, SlotId};

use super::*;
use crate::learner::{JudgeJob, JudgedContribution};

/// A thread that has trained round 0, and is to measure two contributions to it.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let job = job(0, None);
    let made = bench.thread.contribute(&job).unwrap();
    let blob = bench.thread.setup.blobs.get(&made.blob).unwrap().unwrap();
    let contribution = Arc::new(decode_own(&plan(), &blob).unwrap());
    let judged = |slot| JudgedContribution {
        slot: SlotId(slot),
        peer: PeerId::from([2; 32]),
        contribution: contribution.clone(),
        scale: 1.0,
        clip: vec![1.0; plan().layout.tensors().len()],
        share: Share::default(),
        samples: Samples(8),
    };
    bench.thread.begin_judging(JudgeJob {
        round: RoundNumber(0),
        seed: Seed::from([3; 32]),
        weights: job.weights,
        contributions: [judged(7), judged(4)].into(),
    });
    bench
}

fn scores(event: Option<LearnerEvent>) -> Vec<Score> {
    match event {
        Some(LearnerEvent::Judged { round, scores }) => {
            assert_eq!(round, RoundNumber(0));
            scores
        }
        other => panic!("{other:?}"),
    }
}

fn slots(scores: &[Score]) -> Vec<u8> {
    scores.iter().map(|score| score.slot.0).collect()
}

#[test]
fn every_answer_holds_all_scores_so_far_by_rising_slot() {
    let mut bench = bench();
    let first = scores(bench.thread.judge_next());
    let both = scores(bench.thread.judge_next());
    assert_eq!((slots(&first), slots(&both)), (vec![7], vec![4, 7]));
    assert_eq!(both[1], first[0]);
    assert_eq!(
        (both[0].own_ppm, both[0].held_ppm),
        (first[0].own_ppm, first[0].held_ppm),
        "the same contribution, measured on the same windows"
    );
    assert!(bench.thread.judge_next().is_none() && bench.thread.judging.is_none());
    assert_eq!(bench.shared.health().judged, 2);
}

#[test]
fn training_goes_ahead_of_measuring() {
    let mut bench = bench();
    assert_eq!(scores(bench.thread.judge_next()).len(), 1);
    bench.thread.judging.as_mut().unwrap().ahead = Duration::ZERO;
    bench.thread.wishes.training_waits();
    assert!(bench.thread.judge_next().is_none());
    bench.thread.wishes.training_arrived();
    contributed(bench.train(job(1, None)));
    assert_eq!(scores(bench.thread.judge_next()).len(), 2);
}

#[test]
fn a_part_of_the_measuring_goes_ahead_of_training() {
    let mut bench = bench();
    bench.thread.wishes.training_waits();
    let judging = bench.thread.judging.as_mut().unwrap();
    judging.ahead = Duration::from_nanos(1);
    assert!(judging.goes_first());
    assert_eq!(scores(bench.thread.judge_next()).len(), 1);
    assert!(!bench.thread.judging.as_ref().unwrap().goes_first());
    assert!(bench.thread.judge_next().is_none());
    assert!(bench.thread.judging.is_some());
}

#[test]
fn nothing_is_measured_of_a_round_once_the_next_one_is_decided() {
    let mut bench = bench();
    bench.thread.wishes.stop(RoundNumber(0));
    assert_eq!(scores(bench.thread.judge_next()).len(), 1);
    bench.thread.wishes.stop(RoundNumber(1));
    assert!(bench.thread.judge_next().is_none() && bench.thread.judging.is_none());
}

#[test]
fn measuring_ends_when_its_share_of_the_time_is_used_up() {
    let mut bench = bench();
    let judging = bench.thread.judging.as_mut().unwrap();
    (judging.ahead, judging.budget) = (Duration::from_nanos(1), Duration::from_nanos(1));
    assert_eq!(scores(bench.thread.judge_next()).len(), 1);
    assert!(bench.thread.judge_next().is_none() && bench.thread.judging.is_none());
}
