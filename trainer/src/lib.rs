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
//! let assignment = Assignment { seed: [1; 32], peer: [2; 32] };
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

#![forbid(unsafe_code)]

mod compute_plan;
mod corpus;
mod data;
mod device;
mod divergence;
mod engine;
mod error;
mod evaluate;
mod fault;
mod formats;
mod generate;
mod gpu_client;
mod gpus;
mod initial;
mod inner;
mod kernel_cache;
mod kernel_warmup;
mod learner;
mod loader;
mod memory_model;
mod memory_plan;
mod memory_probe;
mod moments;
mod panic;
mod sampling;
mod spec;
mod speed;
mod tensor_index;
mod tokeniser;
mod write_inside;

pub use compute_plan::{ComputePlan, Precision, StatePlacement};
pub use corpus::{Corpus, Floors, Generated, TextSource, TokenPart, TokenShard, generate_text};
pub use data::{
    DownloadClient, FileKind, Prepare, PrepareProgress, PrepareSummary, PreparedFolder,
    PreparedIndex, PreparedPart, PreparedShard, PreparedSource,
};
pub use device::{DeviceChoice, OpenDevice};
pub use error::{Error, Result, Source};
pub use evaluate::{ChoiceScores, Evaluator, Question, QuestionForm, parse_questions};
pub use fault::InjectedFault;
pub use formats::{Checkpoint, Export, FileProgress, FloatFormat, GgufFormat};
pub use generate::{GeneratedText, Sampling, StopReason, TextGenerator};
pub use gpus::{Gpu, GpuBackend, GpuKind, gpus};
pub use initial::initial_weights;
pub use inner::{InnerSpec, Optimiser, Schedule};
pub use kernel_warmup::KernelWarmup;
pub use learner::{Evaluation, Learner, Progress, Samples, Trained};
pub use memory_model::{AGREED_WEIGHTS, ERROR_FEEDBACK, MemoryItem, MemoryNeed, SAVING, Workload};
pub use memory_plan::{MemoryBudget, MemoryPlan, MemoryPlanner, PlanRequest, format_bytes};
pub use memory_probe::{DriverReport, driver_reports, free_host_memory};
pub use sampling::Assignment;
pub use spec::{ModelSpec, PRESETS, RopeScaling};
pub use speed::{CompressSpeed, TrainLoad, TrainSpeed, flops_per_token};
pub use tokeniser::{Tokeniser, TokeniserFile};
