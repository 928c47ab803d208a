//! The learner: model, tokeniser, data, inner optimiser, loss, text generation.
//!
//! A node gives the learner a round's weights θ, its assigned samples and a stop signal. The
//! learner trains for H inner steps and returns the compressed pseudo-gradient. It also measures
//! how well given weights predict given samples.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! use weal_kernels::Compression;
//! use weal_trainer::{
//!     Assignment, Corpus, DeviceChoice, InnerSpec, Learner, ModelSpec, OpenDevice, TextSource,
//!     Tokeniser,
//! };
//!
//! let model = ModelSpec::preset("nano")?;
//! let corpus = Corpus::new(&[TextSource::Path("book.txt".into())], Tokeniser::Bytes)?;
//! let device = OpenDevice::open(DeviceChoice::Auto)?;
//! let theta = weal_trainer::initial_weights(&model, &[0; 32])?;
//! let mut learner = Learner::new(model, InnerSpec::default(), Arc::new(corpus), &device)?;
//!
//! let assignment = Assignment::newcomer([1; 32], [2; 32]);
//! let trained = learner.train(&theta, &assignment, 0, &mut |_| ControlFlow::Continue(()))?;
//! let body = learner.compress(&theta, &Compression::default())?;
//! let local = learner.weights()?;
//! let before = learner.heldout_loss(&theta, 64)?;
//! let after = learner.heldout_loss(&local, 64)?;
//! println!("{:.3} → {:.3} nats per byte", before.nats_per_byte, after.nats_per_byte);
//! println!("{} steps in {} bytes", trained.steps, body.len());
//! # Ok::<(), weal_trainer::Error>(())
//! ```
//!
//! Everything that peers must agree on is computed in integers and is the same on every machine: a
//! model's [layout](ModelSpec::layout), its [initial weights](initial_weights), the
//! [assignment](Assignment) of samples, the [generated text](generate_text). Training and losses
//! differ in their last bits from device to device.

#![deny(unsafe_code)]

mod allocator;
mod compute_plan;
mod corpus;
mod data;
mod device;
mod device_check;
mod divergence;
mod encoding;
mod engine;
mod error;
mod evaluate;
mod fault;
mod features;
mod formats;
mod generate;
mod gpu_client;
mod gpus;
mod host_memory;
mod initial;
mod inner;
mod json;
mod kernel_cache;
mod kernel_warmup;
mod launches;
mod learner;
mod loader;
mod memory_model;
mod memory_plan;
mod memory_probe;
mod model_weights;
mod moments;
mod panic;
mod permutation;
mod sampling;
mod spec;
mod speed;
mod tensor_index;
mod tokeniser;
mod values;
mod write_inside;

pub use compute_plan::{ComputePlan, ErrorFormat, MomentFormat, Precision, StatePlacement};
pub use corpus::{Corpus, Floors, Generated, TextSource, TokenPart, TokenShard, generate_text};
pub use data::{
    DownloadClient, FileKind, FileWalk, FoundPath, LeftOut, PlainText, Prepare, PrepareProgress,
    PrepareSummary, PreparedFolder, PreparedIndex, PreparedPart, PreparedShard, PreparedSource,
    check_text, read_text,
};
pub use device::{DeviceChoice, OpenDevice};
pub use device_check::{Compared, CompressionCheck, DeviceCheck};
pub use error::{Error, Result, Source};
pub use evaluate::{
    Asked, Document, DocumentScore, EXAMPLE_SEED, Evaluator, ExampleOrder, Examples, GroupScores,
    Measured, Metric, MmluGroup, MmluSubject, Record, Request, RequestScore, Task, TaskScores,
    mmlu_groups, read_records,
};
pub use fault::InjectedFault;
pub use features::{
    Activation, Biases, Features, LayerKind, NormPlacement, QueryKeyNorm, RopeScaling,
    RopeScalingKind,
};
pub use formats::{
    Checkpoint, Export, FileProgress, FloatFormat, GgufFormat, GgufSummary, Labels, read_labels,
};
pub use generate::{GeneratedText, Sampling, StopReason, TextGenerator};
pub use gpus::{Gpu, GpuBackend, GpuKind, gpus};
pub use host_memory::{container_memory_limit, free_host_memory};
pub use initial::initial_weights;
pub use inner::{InnerSpec, Optimiser, Schedule};
pub use json::parse_json;
pub use kernel_warmup::KernelWarmup;
pub use launches::KernelUse;
pub use learner::{
    Candidate, Evaluation, Judge, Judgement, Learner, Progress, Samples, Sent, Trained,
    judging_windows,
};
pub use memory_model::{ERROR_FEEDBACK, MemoryItem, MemoryNeed, Workload};
pub use memory_plan::{MemoryBudget, MemoryPlan, MemoryPlanner, PlanRequest, format_bytes};
pub use memory_probe::{DriverReport, driver_reports};
pub use model_weights::ModelWeights;
pub use sampling::{Assignment, Windows};
pub use spec::{ModelSpec, PRESETS};
pub use speed::{CompressSpeed, TrainLoad, TrainSpeed, flops_per_token};
pub use tokeniser::{
    ChatTemplate, ChatTokens, LostLetters, SpecialTokens, TIME_IN_DATA, Tokeniser, TokeniserFile,
    TokeniserSettings, message,
};
