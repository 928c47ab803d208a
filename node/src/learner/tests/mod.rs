//! A learner's thread without a thread, on a device that fails.

mod judge;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use weal_coordinator_free::Share;
use weal_kernels::{Compression, add_back};
use weal_proto::{BlobHash, RoundNumber};
use weal_trainer::{
    Corpus, InjectedFault, InnerSpec, ModelSpec, OpenDevice, TextSource, Tokeniser,
};

use super::contribute::decode_own;
use super::health::Shared;
use super::thread::LearnerThread;
use super::{Contributed, LearnerEvent, LearnerHandle, LearnerSetup, TrainJob};
use crate::error::{Error, ErrorKind, Result};
use crate::full_disk::FullDisk;
use crate::plan::Plan;
use crate::settings::{ComputeSettings, OnDeviceLoss};
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::store::learner::LearnerFiles;
use crate::store::weights::Weights;

/// Refusals of a device that never comes back.
const FOR_EVER: u64 = u64::MAX;

fn plan() -> Plan {
    let model = ModelSpec {
        width: 16,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        feed_forward: 32,
        context: 16,
        ..ModelSpec::preset("nano").unwrap()
    };
    let compression = Compression {
        chunk: 1024,
        keep: 16,
        ..Compression::default()
    };
    let layout = model.layout().unwrap();
    let inner = InnerSpec {
        steps: 2,
        ..InnerSpec::default()
    };
    Plan {
        model,
        inner,
        layout,
        compression,
        max_blob_bytes: 1 << 20,
    }
}

fn setup(folder: &Path, device: OpenDevice, on_device_loss: OnDeviceLoss) -> LearnerSetup {
    let store = Store::open(&folder.join("store.redb"), [1; 32].into()).unwrap();
    let text = TextSource::Generated {
        seed: [4; 32],
        bytes: 4096,
    };
    LearnerSetup {
        run: [1; 32].into(),
        peer: [2; 32].into(),
        plan: Arc::new(plan()),
        corpus: Arc::new(Corpus::new(&[text], Tokeniser::Bytes).unwrap()),
        device,
        blobs: Blobs::open(folder.join("blobs"), store).unwrap(),
        files: LearnerFiles::new(folder.join("learner"), 1),
        disk: FullDisk::default(),
        learnt: None,
        evaluation_sequences: 4,
        codec: 2,
        compute: ComputeSettings {
            on_device_loss,
            ..ComputeSettings::default()
        },
    }
}

/// A learner's thread that the test steps by hand.
struct Bench {
    thread: LearnerThread,
    shared: Shared,
    events: mpsc::Receiver<LearnerEvent>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::on(OpenDevice::cpu(), OnDeviceLoss::Wait)
    }

    /// A device that is lost after this number of steps, and refuses to open this often.
    fn failing(steps: u64, refusals: u64, on_loss: OnDeviceLoss) -> Self {
        Self::on(
            OpenDevice::cpu().with_fault(InjectedFault::after(steps, refusals)),
            on_loss,
        )
    }

    fn on(device: OpenDevice, on_loss: OnDeviceLoss) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (shared, (events_in, events)) = (Shared::default(), mpsc::channel(16));
        let setup = setup(folder.path(), device, on_loss);
        let thread = LearnerThread::new(setup, Arc::default(), shared.clone(), events_in).unwrap();
        Self {
            thread,
            shared,
            events,
            _folder: folder,
        }
    }

    fn train(&mut self, job: TrainJob) -> Option<LearnerEvent> {
        self.thread.train(Box::new(job))
    }

    fn error_feedback(&mut self) -> Vec<f32> {
        self.thread
            .learner
            .as_mut()
            .unwrap()
            .error_feedback()
            .unwrap()
    }

    fn moments(&mut self) -> Vec<u8> {
        self.thread.learner.as_mut().unwrap().moments().unwrap()
    }

    /// Skips the pause before the device is opened again.
    fn wait(&mut self) -> Option<LearnerEvent> {
        self.thread.skip_pause();
        self.thread.timer_fired()
    }

    fn is_ready(&mut self) -> bool {
        let told = matches!(self.events.try_recv(), Ok(LearnerEvent::DeviceReady { .. }));
        assert_eq!(told, self.shared.health().lost.is_none());
        told
    }
}

fn job(round: u64, unapplied: Option<BlobHash>) -> TrainJob {
    let plan = plan();
    let values = weal_trainer::initial_weights(&plan.model, &[3; 32]).unwrap();
    let round = RoundNumber(round);
    let weights = Weights::new(&plan.layout, round, values).unwrap();
    let deadline = Instant::now() + Duration::from_secs(600);
    TrainJob {
        round,
        seed: [5; 32].into(),
        share: Share::default(),
        weights,
        deadline,
        unapplied,
    }
}

fn contributed(event: Option<LearnerEvent>) -> Contributed {
    match event {
        Some(LearnerEvent::Trained(contributed)) => *contributed,
        other => panic!("no contribution, but {other:?}"),
    }
}

fn lost(event: Option<LearnerEvent>) -> String {
    match event {
        Some(LearnerEvent::DeviceLost { why, .. }) => why,
        other => panic!("no device was lost, but {other:?}"),
    }
}

fn failed(event: Option<LearnerEvent>) -> String {
    match event {
        Some(LearnerEvent::Failed { why, .. }) => why,
        other => panic!("no round was skipped, but {other:?}"),
    }
}

#[test]
fn a_contribution_that_was_not_applied_goes_back_into_the_error_feedback_once() {
    let mut bench = Bench::new();
    let made = bench.thread.contribute(&job(0, None)).unwrap();
    let kept_back = bench.error_feedback();
    let mut whole = kept_back.clone();
    let blob = bench.thread.setup.blobs.get(&made.blob).unwrap().unwrap();
    let plan = plan();
    add_back(&plan.layout, &decode_own(&plan, &blob).unwrap(), &mut whole).unwrap();
    assert_ne!(whole, kept_back);

    // Two rounds end before this node is done. Each asks it to take back the same contribution.
    bench.thread.wishes.stop(RoundNumber(u64::MAX - 1));
    for round in [1, 2] {
        let why = bench
            .thread
            .contribute(&job(round, Some(made.blob)))
            .unwrap_err()
            .to_string();
        assert!(why.contains("stopped"), "{why}");
        assert_eq!(bench.error_feedback(), whole, "in round {round}");
    }

    // The next contribution contains it. If that is left out too, it is taken back itself.
    bench.thread.wishes.begin(RoundNumber(0));
    let second = bench.thread.contribute(&job(3, Some(made.blob))).unwrap();
    let kept_back = bench.error_feedback();
    bench.thread.wishes.stop(RoundNumber(u64::MAX - 1));
    bench
        .thread
        .contribute(&job(4, Some(second.blob)))
        .unwrap_err();
    assert_ne!(bench.error_feedback(), kept_back);
}

#[test]
fn nothing_saved_is_lost_with_a_device() {
    let mut bench = Bench::failing(3, 0, OnDeviceLoss::Wait);
    let first = contributed(bench.train(job(0, None)));
    let (error, moments) = (bench.error_feedback(), bench.moments());
    // The contribution was not applied. It goes back just before the device is lost, in the second
    // step of the next round.
    let why = lost(bench.train(job(1, Some(first.blob))));
    assert!(
        why.contains("failed while taking an inner step: the device was lost"),
        "{why}"
    );
    assert!(bench.thread.learner.is_none() && bench.shared.health().lost.is_some());

    bench.thread.wishes.stop(RoundNumber(u64::MAX - 1));
    failed(bench.wait());
    assert!(bench.is_ready());
    assert_eq!(
        (bench.error_feedback(), bench.moments()),
        (error.clone(), moments)
    );

    // What went back was lost with the device, and goes back once more.
    bench
        .thread
        .contribute(&job(2, Some(first.blob)))
        .unwrap_err();
    assert_ne!(bench.error_feedback(), error);
}

#[test]
fn the_cpu_takes_over_and_finishes_the_interrupted_round() {
    let mut bench = Bench::failing(1, FOR_EVER, OnDeviceLoss::Fallback);
    lost(bench.train(job(0, None)));
    let made = contributed(bench.thread.timer_fired());
    assert!(bench.is_ready());
    assert_eq!(
        (made.round, made.tokens),
        (RoundNumber(0), 2 * 16 * u64::from(plan().inner.batch))
    );
    assert_eq!(contributed(bench.train(job(1, None))).round, RoundNumber(1));
    assert_eq!(bench.shared.health().devices_lost, 1);
}

#[test]
fn the_newest_round_waits_for_a_device_that_stays_away() {
    let mut bench = Bench::failing(1, 2, OnDeviceLoss::Wait);
    lost(bench.train(job(0, None)));
    for refusal in 0..2 {
        assert!(bench.wait().is_none(), "refusal {refusal}");
        // Nothing happens before its time, and jobs wait.
        assert!(bench.thread.timer_fired().is_none() && !bench.is_ready());
        assert!(bench.train(job(refusal + 1, None)).is_none());
    }
    let why = bench.shared.health().lost.unwrap().why;
    assert!(why.contains("still lost"), "{why}");
    assert_eq!(contributed(bench.wait()).round, RoundNumber(2));
    assert!(bench.is_ready());
    assert_eq!(bench.shared.health().devices_lost, 1);
}

#[test]
fn a_round_whose_time_is_up_is_skipped_and_the_next_one_trained() {
    let mut bench = Bench::failing(1, 1, OnDeviceLoss::Wait);
    // The first step is always taken, a second one is not.
    let late = TrainJob {
        deadline: Instant::now(),
        ..job(0, None)
    };
    contributed(bench.train(late.clone()));
    lost(bench.train(TrainJob {
        round: RoundNumber(1),
        ..late
    }));
    let why = failed(bench.wait());
    assert!(why.contains("skipped"), "{why}");
    assert!(bench.train(job(2, None)).is_none());
    assert_eq!(contributed(bench.wait()).round, RoundNumber(2));
}

#[test]
fn a_node_that_takes_long_to_finish_takes_fewer_steps() {
    let mut bench = Bench::new();
    let tokens = |bench: &mut Bench, round| contributed(bench.train(job(round, None))).tokens;
    let all = tokens(&mut bench, 0);
    // Jobs end in ten minutes.
    bench.thread.pace.has_finished(Duration::from_secs(620));
    assert_eq!(tokens(&mut bench, 1) * 2, all);
    assert_eq!(tokens(&mut bench, 2), all);
}

#[test]
fn a_device_lost_in_an_evaluation_is_replaced_too() {
    let mut bench = Bench::new();
    let panicked = bench
        .thread
        .attempt(|_| -> Result<()> { panic!("a tensor of no shape") });
    assert!(
        matches!(&panicked, Err(error) if error.kind() == ErrorKind::Device
            && error.to_string().contains("panicked on CPU")),
        "{panicked:?}"
    );
    let why = lost(Some(bench.thread.lose_device(panicked.unwrap_err())));
    assert!(why.contains("a tensor of no shape"), "{why}");
    assert!(bench.thread.evaluate(&job(0, None).weights).is_none());
    assert!(bench.wait().is_none() && bench.is_ready());
    assert!(matches!(
        bench.thread.evaluate(&job(0, None).weights),
        Some(LearnerEvent::Evaluated { .. })
    ));
}

#[test]
fn a_wanted_restart_is_an_error_with_its_own_exit_code() {
    let mut bench = Bench::failing(0, 0, OnDeviceLoss::Restart);
    match bench.train(job(0, None)) {
        Some(LearnerEvent::Fatal(error)) => assert_eq!(error.code(), 11),
        other => panic!("no restart, but {other:?}"),
    }
}

#[test]
fn a_round_that_diverged_is_reported_with_its_cause_and_the_next_one_trained() {
    let mut bench = Bench::new();
    contributed(bench.train(job(0, None)));
    let (error, good) = (bench.error_feedback(), job(1, None));
    let values = good.weights.values.iter();
    let huge: Vec<f32> = values.map(|weight| weight * 1e30).collect();
    let weights = Weights::new(&plan().layout, RoundNumber(1), huge).unwrap();
    let why = failed(bench.train(TrainJob { weights, ..good }));
    assert!(
        why.contains("of which 2") && why.contains("loss 5.") && why.contains("learning rate 0."),
        "{why}"
    );
    assert_eq!(bench.error_feedback(), error);
    let health = bench.shared.health();
    assert_eq!(
        (
            health.diverged_rounds,
            health.skipped_steps,
            health.devices_lost
        ),
        (1, 2, 0)
    );
    contributed(bench.train(job(2, None)));
}

#[test]
fn saved_state_that_cannot_be_used_is_ignored() {
    let bench = Bench::new();
    let parameters = plan().layout.parameters();
    let round = RoundNumber(0);
    bench.thread.setup.files.save_unusable(round, parameters);
    let mut bench = bench;
    bench.thread.lose_device(Error::device("it was unplugged"));
    assert!(bench.wait().is_none() && bench.is_ready());
    assert_eq!(bench.error_feedback(), vec![0.0; parameters]);
    contributed(bench.train(job(1, None)));
}

#[test]
fn the_thread_lives_on_when_its_device_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let device = OpenDevice::cpu().with_fault(InjectedFault::after(1, FOR_EVER));
    let (events_in, mut events) = mpsc::channel(16);
    let handle = LearnerHandle::start(
        setup(folder.path(), device, OnDeviceLoss::Fallback),
        events_in,
    )
    .unwrap();
    assert!(handle.train(job(0, None)));
    lost(events.blocking_recv());
    assert!(matches!(
        events.blocking_recv(),
        Some(LearnerEvent::DeviceReady { .. })
    ));
    assert_eq!(contributed(events.blocking_recv()).round, RoundNumber(0));
    assert!(handle.health().lost.is_none() && handle.health().devices_lost == 1);
    assert!(!handle.progress().busy);

    // It ends with the last handle.
    drop(handle);
    assert!(events.blocking_recv().is_none());
}
