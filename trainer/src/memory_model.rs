//! What training needs of memory, predicted: a count of the tensors that are alive at once, at the
//! worst moment of a step.
//!
//! A step goes through phases, and what is alive differs: at the scores everything is that blocks
//! keep for their way back; a block later a part of it is gone and gradients are there instead; the
//! update needs gradients and moments and nothing of the blocks. The prediction is the largest of
//! these, item by item. The tensors are those of `engine/model.rs` and `engine/gradient.rs`; how
//! many temporary ones there are beside them was measured (`trainer/tests/memory.rs`, which also
//! holds the prediction to what the allocators report).

use crate::compute::{ComputePlan, Place};
use crate::engine::SCORES_AT_ONCE;
use crate::error::Result;
use crate::spec::ModelSpec;

/// Training that memory is needed for.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The model, with its context.
    pub model: ModelSpec,
    /// Sequences of a step.
    pub batch: usize,
    /// How the device is used.
    pub plan: ComputePlan,
    /// The threads of the processor that it runs on; `None` on a GPU.
    pub threads: Option<usize>,
}

/// A part of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryItem {
    /// What it is for.
    pub what: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// What training needs at the most, item by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Of a GPU's memory; nothing on the processor.
    pub device: Vec<MemoryItem>,
    /// Of the machine's memory.
    pub host: Vec<MemoryItem>,
}

/// What could not be sent yet.
pub const ERROR_FEEDBACK: &str = "error feedback";
/// The weights that a run agreed on, and the next ones while they are made: what a node holds
/// beside its learner.
pub const AGREED_WEIGHTS: &str = "agreed weights";
/// What is written of the learner to disk, while it is put together.
pub const SAVING: &str = "saving";

impl MemoryNeed {
    /// Bytes of a GPU's memory.
    pub fn device_bytes(&self) -> u64 {
        self.device.iter().map(|item| item.bytes).sum()
    }

    /// Bytes of the machine's memory.
    pub fn host_bytes(&self) -> u64 {
        self.host.iter().map(|item| item.bytes).sum()
    }
}

/// Scores and their relatives, `[rows, vocabulary]` in f32, that are alive at once on the way back
/// from the loss.
const SCORE_TENSORS: f64 = 4.0;
/// What a block's way back needs at once beside what was kept, over what was kept.
const BACKWARD_SHARE: f64 = 0.25;
/// Bytes that a GPU's allocator sets aside for small things.
const POOLS: f64 = 5.5e6;
/// What a GPU's allocator sets aside over what is used: ends of pages, and pages of a size that is
/// not asked for any more.
const PAGES_SHARE: f64 = 0.14;

/// Numbers that the phases share; bytes, as floating point.
struct Sizes {
    parameters: f64,
    /// Of the largest tensor.
    largest: f64,
    /// Threads that differentiate tokens of their own; a GPU is one.
    workers: f64,
    /// Bytes of a value that matrices are multiplied in.
    short: f64,
    /// What one block keeps of one worker's tokens.
    block: f64,
    /// What one worker's stream takes.
    stream: f64,
    /// Scores that one worker holds at once, and the gradients of the head while they are added up.
    scores: f64,
}

/// What is alive beside the weights in a phase.
#[derive(Clone, Copy, Default)]
struct Phase {
    activations: f64,
    scores: f64,
    gradients: f64,
}

impl Phase {
    fn bytes(&self) -> f64 {
        self.activations + self.scores + self.gradients
    }
}

impl Workload {
    /// # Errors
    /// Where the model is out of range.
    pub fn memory(&self) -> Result<MemoryNeed> {
        let sizes = self.sizes()?;
        let worst = self
            .phases(&sizes)
            .into_iter()
            .fold(Phase::default(), |worst, phase| {
                if phase.bytes() > worst.bytes() {
                    phase
                } else {
                    worst
                }
            });
        let parameters = sizes.parameters;
        let on_host = self.plan.states == Place::Host;
        let is_short = sizes.short < 4.0;
        let item = |what, bytes: f64| MemoryItem {
            what,
            bytes: bytes as u64,
        };
        let working = [
            item("weights", parameters * sizes.short),
            item("activations", worst.activations),
            item("scores", worst.scores),
            item("gradients", worst.gradients),
            item("tables", self.tables()),
        ];
        let masters = if on_host || is_short {
            4.0 * parameters
        } else {
            0.0
        };
        let states = [
            item("weights in f32", masters),
            item("moments", 8.0 * parameters),
            item(ERROR_FEEDBACK, 4.0 * parameters),
        ];
        let sums = item(
            "sums of gradients",
            if on_host { 4.0 * parameters } else { 0.0 },
        );
        let node = [
            item(SAVING, 12.0 * parameters),
            item(AGREED_WEIGHTS, 8.0 * parameters),
        ];
        let mut need = MemoryNeed::default();
        if self.threads.is_some() {
            need.host
                .extend(working.into_iter().chain(states).chain([sums]).chain(node));
        } else {
            need.device.extend(working);
            let states = states.into_iter().chain([sums]);
            if on_host {
                need.host.extend(states)
            } else {
                need.device.extend(states)
            }
            need.host.extend(node);
            let used = need.device_bytes() as f64;
            need.device
                .push(item("allocator", POOLS + PAGES_SHARE * used));
        }
        for items in [&mut need.device, &mut need.host] {
            items.retain(|item| item.bytes > 0);
        }
        Ok(need)
    }

    /// What positions are turned with, and on a GPU what hides later tokens.
    fn tables(&self) -> f64 {
        let spec = &self.model;
        let (context, group) = (spec.context as f64, (spec.heads / spec.kv_heads) as f64);
        let mask = if self.threads.is_none() {
            group * context * context
        } else {
            0.0
        };
        4.0 * (4.0 * context * spec.head_width() as f64 + mask)
    }

    fn sizes(&self) -> Result<Sizes> {
        let (spec, layout) = (&self.model, self.model.layout()?);
        let parameters = layout.parameters() as f64;
        let largest = layout.ranges().map(|range| range.len()).max().unwrap_or(0) as f64;
        let group = self
            .plan
            .micro_batch
            .unwrap_or(self.batch)
            .clamp(1, self.batch.max(1));
        let sequences = group.div_ceil(self.threads.unwrap_or(1));
        let workers = group.div_ceil(sequences) as f64;
        let tokens = (sequences * spec.context) as f64;
        let short = self.plan.precision.bytes() as f64;
        let rows = tokens.min((SCORES_AT_ONCE / spec.vocabulary).max(1) as f64);
        let is_cut = rows < tokens || self.plan.recompute;
        let head = (spec.vocabulary * spec.width) as f64;
        let scores = SCORE_TENSORS * 4.0 * rows * spec.vocabulary as f64
            + if is_cut { 2.0 * short * head } else { 0.0 };
        Ok(Sizes {
            parameters,
            largest,
            workers,
            short,
            block: tokens * self.kept_by_a_block(short),
            stream: 4.0 * tokens * spec.width as f64,
            scores,
        })
    }

    /// Bytes that a block keeps of each token for its way back.
    fn kept_by_a_block(&self, short: f64) -> f64 {
        let spec = &self.model;
        let [width, query, keys, inner] = [
            spec.width,
            spec.query_width(),
            spec.kv_width(),
            spec.feed_forward,
        ]
        .map(|size| size as f64);
        let is_short = short < 4.0;
        // Two norms: the stream, the normed stream before and after its gain.
        let norms = 2.0 * (8.0 + short) * width;
        let heads = short * (query + 2.0 * keys);
        let weights =
            (spec.heads * spec.context) as f64 * (4.0 + if is_short { short } else { 0.0 });
        let is_gpu = self.threads.is_none();
        // Without fused operations what was gathered is divided afterwards, and the gate's sigmoid
        // and its product are kept.
        let gathered = short * query + if is_gpu { 4.0 * query } else { 0.0 };
        let gated = if is_gpu {
            5.0 * short * inner
        } else {
            (8.0 + short) * inner
        };
        let norms_of_heads = if spec.query_key_norm {
            8.0 * (query + keys)
        } else {
            0.0
        };
        norms + heads + weights + gathered + gated + norms_of_heads
    }

    fn phases(&self, sizes: &Sizes) -> Vec<Phase> {
        let layers = self.model.layers as f64;
        let on_host = self.plan.states == Place::Host;
        let is_last_group_of_many = self
            .plan
            .micro_batch
            .is_some_and(|sequences| sequences < self.batch);
        // What earlier groups left, and what this one has so far.
        // A GPU that goes block by block adds to it at once.
        let adds_at_once = on_host || (self.plan.recompute && self.threads.is_none());
        let left = if adds_at_once || !is_last_group_of_many {
            0.0
        } else {
            4.0 * sizes.parameters
        };
        let gradients =
            |share: f64, own: f64| left + sizes.workers * own * share * sizes.parameters;
        let embedding = 4.0 * (self.model.vocabulary * self.model.width) as f64;
        let per_block = (sizes.parameters - embedding / 4.0) / layers;
        let kept_everything =
            |done: f64| sizes.workers * ((layers - done) * sizes.block + 3.0 * sizes.stream);
        let back = sizes.workers * BACKWARD_SHARE * sizes.block;
        let scores = sizes.workers * sizes.scores;
        if self.plan.recompute {
            let streams = sizes.workers * sizes.stream * (layers + 4.0);
            let own = if on_host { 0.0 } else { 4.0 };
            let block = sizes.workers * sizes.block;
            // A GPU makes a copy to be read, with the values in the layout's order; on the
            // processor a block's gradients are there only once as much of what it kept is gone.
            let copies = if self.threads.is_none() { 2.0 } else { 0.0 };
            let of_block = if on_host {
                copies * sizes.workers * sizes.short * per_block
            } else {
                0.0
            };
            return vec![
                Phase {
                    activations: streams,
                    scores,
                    gradients: gradients(0.0, own),
                },
                Phase {
                    activations: streams - sizes.workers * sizes.stream + block + back,
                    scores: 0.0,
                    gradients: gradients(0.0, own) + of_block,
                },
                Phase {
                    activations: block + back,
                    scores: 0.0,
                    gradients: gradients(1.0, own) + of_block,
                },
                Phase {
                    activations: 0.0,
                    scores: 0.0,
                    gradients: gradients(1.0, own) + sizes.workers * embedding,
                },
            ];
        }
        let own = if on_host { sizes.short } else { 4.0 };
        vec![
            Phase {
                activations: kept_everything(0.0),
                scores,
                gradients: gradients(0.0, own),
            },
            Phase {
                activations: kept_everything(0.0) + back,
                scores: 0.0,
                gradients: gradients(1.0 / layers, own),
            },
            Phase {
                activations: kept_everything(layers - 1.0) + back,
                scores: 0.0,
                gradients: gradients(1.0, own),
            },
            Phase {
                activations: 0.0,
                scores: 0.0,
                gradients: gradients(1.0, own) + 4.0 * sizes.largest + embedding,
            },
        ]
    }
}
