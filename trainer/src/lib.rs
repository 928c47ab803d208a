//! The learner: model, tokeniser, data, inner optimiser, loss, text generation.
//!
//! A node hands the learner a round's weights θ, its share of the data and a stop signal, and gets
//! back what H inner steps of AdamW changed in them, compressed; it also asks how well given
//! weights predict given samples.
//!
//! ```no_run
//! use std::{ops::ControlFlow, sync::Arc};
//! use weal_kernels::Compression;
//! use weal_trainer::{Assignment, Corpus, DeviceChoice, InnerSpec, Learner, ModelSpec, OpenDevice, Source, Tokeniser};
//!
//! let model = ModelSpec::preset("nano")?;
//! let corpus = Arc::new(Corpus::new(&[Source::Path("book.txt".into())], Tokeniser::Bytes)?);
//! let device = OpenDevice::open(DeviceChoice::Auto)?;
//! let theta = weal_trainer::initial_weights(&model, &[0; 32])?;
//! let mut learner = Learner::new(model, InnerSpec::default(), corpus, &device)?;
//!
//! let assignment = Assignment { seed: [1; 32], peer: [2; 32] };
//! let trained = learner.train(&theta, &assignment, 0, &mut |_| ControlFlow::Continue(()))?;
//! let body = learner.compress(&theta, &Compression::default())?;
//! let local = learner.weights()?;
//! let before = learner.heldout_loss(&theta, 64)?;
//! let after = learner.heldout_loss(&local, 64)?;
//! println!("{:.3} → {:.3} nats per byte on {}", before.nats_per_byte, after.nats_per_byte, device.name());
//! println!("{} steps in {} bytes", trained.steps, body.len());
//! # Ok::<(), weal_trainer::Error>(())
//! ```
//!
//! What every peer must agree on is computed in integers and is the same everywhere: a model's
//! [layout](ModelSpec::layout), its [initial weights](initial_weights), the
//! [assignment](Assignment) of samples, the [generator's text](generate_text). Training itself, and
//! losses, differ in their last bits from device to device.

mod atomic_file;
mod compute;
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
mod sampling;
mod spec;
mod speed;
mod tokeniser;

pub use compute::{ComputePlan, Place, Precision};
pub use corpus::{Corpus, Floors, Generated, Source, TokenPart, TokenShard, generate_text};
pub use data::{
    Client, Kind, Prepare, PrepareProgress, PrepareSummary, PreparedFolder, PreparedIndex,
    PreparedPart, PreparedShard, PreparedSource,
};
pub use device::{DeviceChoice, OpenDevice};
pub use engine::compress::CompressSpeed;
pub use error::{Error, Result};
pub use evaluate::{Choices, Evaluator, Form, Question, questions};
pub use fault::Fault;
pub use formats::{Checkpoint, Export, FileProgress, FloatFormat, GgufFormat};
pub use generate::{Ending, GeneratedText, Sampling, TextGenerator};
pub use gpus::{Gpu, GpuBackend, GpuKind, gpus};
pub use initial::initial_weights;
pub use inner::{InnerSpec, Optimiser, Schedule};
pub use kernel_warmup::Kernels;
pub use learner::{Evaluation, Learner, Progress, Samples, Trained};
pub use memory_model::{AGREED_WEIGHTS, ERROR_FEEDBACK, MemoryItem, MemoryNeed, SAVING, Workload};
pub use memory_plan::{Choice, Room, Site, Wishes, gigabytes};
pub use memory_probe::{DriverReport, driver_reports, free_host_memory};
pub use sampling::Assignment;
pub use spec::{ModelSpec, PRESETS, RopeScaling};
pub use speed::{TrainLoad, TrainSpeed, flops_per_token};
pub use tokeniser::{Tokeniser, TokeniserFile};
