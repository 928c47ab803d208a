//! The memory model: predicts how much memory training needs, by counting the tensors alive at the
//! worst moment of a step.
//!
//! A step goes through phases. While scores are computed, all activations of all blocks are alive.
//! Going backward, activations are freed and gradients take their place. The update needs gradients
//! and moments, and no activations. Measuring losses is a phase of its own, without gradients. The
//! prediction is the largest of these phases, item by item. The tensors are those of
//! `engine/model.rs`, `engine/attention` and `engine/gradient`; the number of temporaries was
//! measured. `tests/memory.rs` compares the predictions with allocator reports.

use crate::compute_plan::{ComputePlan, StatePlacement};
use crate::engine::{QUERIES_AT_ONCE, SCORES_AT_ONCE, Seconds, queries_at_once};
use crate::error::Result;
use crate::features::{Activation, NormPlacement, QueryKeyNorm};
use crate::spec::ModelSpec;

/// A training setup whose memory to predict.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The model; its context sets the window length.
    pub model: ModelSpec,
    /// Sequences of an inner step.
    pub batch: usize,
    /// How the device is used.
    pub plan: ComputePlan,
    /// CPU threads that train; `None` on a GPU.
    pub threads: Option<usize>,
    /// Whether the optimiser is Muon.
    pub muon: bool,
}

/// One item of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryItem {
    /// What needs the memory, such as `activations`.
    pub what: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// The peak memory of training and of measuring losses, item by item.
///
/// The agreed weights are in a file, which the system reads and drops as it likes, and what is
/// saved is written tensor by tensor: neither is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The largest buffer on the GPU, in bytes; 0 on the CPU. Drivers limit it.
    pub largest_buffer: u64,
    /// GPU memory; empty on the CPU.
    pub device: Vec<MemoryItem>,
    /// Host memory.
    pub host: Vec<MemoryItem>,
}

/// The item of the error feedback.
pub const ERROR_FEEDBACK: &str = "error feedback";

impl MemoryNeed {
    /// Bytes of GPU memory.
    pub fn device_bytes(&self) -> u64 {
        self.device.iter().map(|item| item.bytes).sum()
    }

    /// Bytes of host memory.
    pub fn host_bytes(&self) -> u64 {
        self.host.iter().map(|item| item.bytes).sum()
    }
}

/// Tensors of the scores' shape, `[rows, vocabulary]` in f32, alive at once in the backward pass of
/// the loss, on the CPU and on a GPU.
const SCORE_TENSORS: [f64; 2] = [4.0, 1.5];
/// The same while losses are measured.
const SCORE_TENSORS_FORWARD: [f64; 2] = [3.0, 1.5];
/// Tensors of the shape of attention's scores alive at once, on the CPU and on a GPU.
const ATTENTION_TENSORS: [f64; 2] = [2.0, 2.0];
/// Temporaries of a block's backward pass, as a share of its activations.
const BACKWARD_SHARE: f64 = 0.25;
/// The share of a block's activations that a GPU has freed when the block's attention goes
/// backward: those of its feed-forward part, which comes first.
const FREED_BEFORE_ATTENTION: f64 = 0.5;
/// Bytes that a GPU's allocator reserves for small buffers.
const POOLS: f64 = 5.5e6;
/// Bytes that a GPU's allocator reserves but does not use, as a share of those used: ends of pages,
/// and pages of sizes no longer requested.
const PAGES_SHARE: f64 = 0.09;

/// Sizes that the phases share, in bytes, as floating point.
struct Sizes {
    parameters: f64,
    /// First and second moments.
    moments: f64,
    /// Parameters of the largest tensor.
    largest: f64,
    /// Threads that each differentiate some of the sequences; 1 on a GPU.
    workers: f64,
    /// Bytes of a value in matrix products.
    short: f64,
    /// Activations of one block for one worker's tokens.
    block: f64,
    /// What one block of attention needs for a while, for one worker.
    attention: f64,
    /// What a block's forward pass needs for a while, for one worker, without attention.
    forward: f64,
    /// The residual stream of one worker's tokens.
    stream: f64,
    /// Scores that one worker holds at once, and the output projection's gradients while they are
    /// summed up.
    scores: f64,
    /// The largest tensor of all.
    largest_buffer: f64,
}

/// What is alive in a phase, beside weights and states.
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

fn item(what: &'static str, bytes: f64) -> MemoryItem {
    MemoryItem {
        what,
        bytes: bytes as u64,
    }
}

impl Workload {
    /// Predicts the peak memory.
    ///
    /// # Errors
    /// If the model is out of range.
    pub fn memory(&self) -> Result<MemoryNeed> {
        let sizes = self.sizes()?;
        let mut phases = if self.plan.recompute {
            self.phases_with_recompute(&sizes)
        } else {
            self.phases(&sizes)
        };
        phases.push(self.evaluation(&sizes));
        let larger = |worst: Phase, phase: Phase| {
            if phase.bytes() > worst.bytes() {
                phase
            } else {
                worst
            }
        };
        let worst = phases.into_iter().fold(Phase::default(), larger);
        let working = [
            item("weights", sizes.parameters * sizes.short),
            item("activations", worst.activations),
            item("scores", worst.scores),
            item("gradients", worst.gradients),
            item("tables", self.tables()),
        ];
        let mut need = MemoryNeed::default();
        if self.threads.is_some() {
            need.host.extend(working);
            need.host.extend(self.states(&sizes));
        } else {
            need.largest_buffer = sizes.largest_buffer as u64;
            need.device.extend(working);
            if self.is_on_host() {
                need.host.extend(self.states(&sizes));
            } else {
                need.device.extend(self.states(&sizes));
            }
            let used = need.device_bytes() as f64;
            need.device
                .push(item("allocator", POOLS + PAGES_SHARE * used));
        }
        for items in [&mut need.device, &mut need.host] {
            items.retain(|item| item.bytes > 0);
        }
        Ok(need)
    }

    /// The optimiser's states, the error feedback, and gradient sums in host memory.
    fn states(&self, sizes: &Sizes) -> [MemoryItem; 4] {
        let parameters = sizes.parameters;
        let (on_host, is_short) = (self.is_on_host(), sizes.short < 4.0);
        let if_any = |any: bool| if any { 4.0 * parameters } else { 0.0 };
        // Only the CPU keeps them in less than 32 bits.
        let by_the_cpu = on_host || self.threads.is_some();
        let (moments, error_feedback) = if by_the_cpu {
            let plan = &self.plan;
            (plan.moments.bytes(), plan.error_feedback.bytes())
        } else {
            (4.0, 4.0)
        };
        [
            item("weights in f32", if_any(on_host || is_short)),
            item("moments", moments * sizes.moments),
            item(ERROR_FEEDBACK, error_feedback * parameters),
            item("sums of gradients", if_any(on_host)),
        ]
    }

    /// The rotary tables.
    fn tables(&self) -> f64 {
        4.0 * (4 * self.model.context * self.model.head_width()) as f64
    }

    fn sizes(&self) -> Result<Sizes> {
        let (spec, layout) = (&self.model, self.model.layout()?);
        let parameters = layout.parameters() as f64;
        let largest = layout.ranges().map(|range| range.len()).max().unwrap_or(0) as f64;
        let group = self.group();
        let sequences = group.div_ceil(self.threads.unwrap_or(1));
        let workers = group.div_ceil(sequences) as f64;
        let tokens = (sequences * spec.context) as f64;
        let short = self.plan.precision.bytes() as f64;
        let rows = tokens.min((SCORES_AT_ONCE / spec.vocabulary).max(1) as f64);
        let is_cut = rows < tokens || self.plan.recompute;
        let head = (spec.vocabulary * spec.width) as f64;
        // The sum in f32, and the gradient of some rows, as it is and as it is added.
        let widened = if short < 4.0 { 4.0 } else { 0.0 };
        let sums_of_head = (4.0 + short + widened) * head;
        let scores = self.of_device(SCORE_TENSORS) * 4.0 * rows * spec.vocabulary as f64
            + if is_cut { sums_of_head } else { 0.0 };
        let scores_of_attention = self.scores_of_attention(sequences);
        let attention = if self.threads.is_some() && self.is_one_block() {
            0.0 // part of the activations
        } else {
            self.of_device(ATTENTION_TENSORS) * scores_of_attention
        };
        let [width, inner, query, keys] = [
            spec.width,
            spec.feed_forward,
            spec.query_width(),
            spec.kv_width(),
        ]
        .map(|size| size as f64);
        let forward = tokens * (8.0 * width + short * (3.0 * inner).max(2.0 * query + 2.0 * keys));
        let widest = tokens * width.max(inner).max(query);
        let of_scores = rows * spec.vocabulary as f64;
        let largest_buffer = scores_of_attention.max(4.0 * widest.max(of_scores).max(largest));
        let seconds = Seconds::new(&layout, self.muon).len() as f64;
        Ok(Sizes {
            parameters,
            moments: parameters + seconds,
            largest,
            workers,
            short,
            block: tokens * self.activations_of_a_block(short),
            attention,
            forward,
            stream: 4.0 * tokens * spec.width as f64,
            scores,
            largest_buffer,
        })
    }

    /// Sequences of a micro-batch.
    fn group(&self) -> usize {
        let sequences = self.plan.micro_batch.unwrap_or(self.batch);
        sequences.clamp(1, self.batch.max(1))
    }

    /// Bytes of the scores of one block of queries, in f32.
    fn scores_of_attention(&self, sequences: usize) -> f64 {
        let (heads, context) = (sequences * self.model.heads, self.model.context);
        let queries = queries_at_once(heads, context).min(context);
        4.0 * queries as f64 * heads as f64 * context as f64
    }

    /// The number that holds for the kind of device: the CPU's or a GPU's.
    fn of_device(&self, [on_cpu, on_gpu]: [f64; 2]) -> f64 {
        if self.threads.is_some() {
            on_cpu
        } else {
            on_gpu
        }
    }

    /// Whether attention takes all queries of a window at once.
    fn is_one_block(&self) -> bool {
        self.model.context <= QUERIES_AT_ONCE
    }

    /// Bytes of activations that a block stores for each token.
    fn activations_of_a_block(&self, short: f64) -> f64 {
        let spec = &self.model;
        let [width, query, keys, inner] = [
            spec.width,
            spec.query_width(),
            spec.kv_width(),
            spec.feed_forward,
        ]
        .map(|size| size as f64);
        let norms = match spec.features.norm_placement {
            NormPlacement::Before | NormPlacement::After => 2.0,
            NormPlacement::Both => 4.0,
        };
        let is_gpu = self.threads.is_none();
        // Of each the stream, and the normed stream: on the CPU before and after its gain, on a GPU
        // as the products take it.
        let norms = norms * (self.of_device([8.0, 4.0]) + short) * width;
        let heads = short * (query + 2.0 * keys);
        // A GPU keeps the output of attention and a sum for each query; the CPU keeps the attention
        // weights, if the window is one block.
        let attention = if is_gpu {
            short * query + 4.0 * spec.heads as f64
        } else if self.is_one_block() {
            4.0 * (spec.heads * spec.context) as f64
        } else {
            0.0
        };
        let gathered = short * query;
        let gated = match spec.features.activation {
            // Gates and ups, and four tensors on the way through the hyperbolic tangent.
            Activation::GeluTanh => (24.0 + short) * inner,
            Activation::Silu if is_gpu => 3.0 * short * inner,
            Activation::Silu => (8.0 + short) * inner,
        };
        let norms_of_heads = if spec.query_key_norm != QueryKeyNorm::None {
            8.0 * (query + keys)
        } else {
            0.0
        };
        norms + heads + attention + gathered + gated + norms_of_heads
    }

    /// The memory alive in each phase of a step that stores all activations.
    fn phases(&self, sizes: &Sizes) -> Vec<Phase> {
        let layers = self.model.layers as f64;
        let bytes = if self.is_on_host() { sizes.short } else { 4.0 };
        let gradients = |share: f64| self.gradients(sizes, share, bytes);
        let activations =
            |done: f64| sizes.workers * ((layers - done) * sizes.block + 3.0 * sizes.stream);
        let temporaries = BACKWARD_SHARE * sizes.block;
        let back = sizes.workers
            * if self.threads.is_some() {
                temporaries + sizes.attention
            } else {
                temporaries.max(sizes.attention - FREED_BEFORE_ATTENTION * sizes.block)
            };
        vec![
            Phase {
                activations: activations(0.0),
                scores: sizes.workers * sizes.scores,
                gradients: gradients(0.0),
            },
            Phase {
                activations: activations(0.0) + back,
                scores: 0.0,
                gradients: gradients(1.0 / layers),
            },
            Phase {
                activations: activations(layers - 1.0) + back,
                scores: 0.0,
                gradients: gradients(1.0),
            },
            Phase {
                activations: 0.0,
                scores: 0.0,
                gradients: gradients(1.0) + 4.0 * sizes.largest + self.embedding_bytes(),
            },
        ]
    }

    /// The memory alive in each phase of a step that recomputes activations.
    fn phases_with_recompute(&self, sizes: &Sizes) -> Vec<Phase> {
        let layers = self.model.layers as f64;
        let bytes = if self.is_on_host() { 0.0 } else { 4.0 };
        let gradients = |share: f64| self.gradients(sizes, share, bytes);
        let micro_batches = self.batch.div_ceil(self.group()) as f64;
        let stored = if self.plan.by_block {
            micro_batches
        } else {
            1.0
        };
        let streams = sizes.workers * sizes.stream * (stored * (layers + 1.0) + 3.0);
        let block = sizes.workers * sizes.block;
        let back = BACKWARD_SHARE * block + sizes.workers * sizes.attention;
        let per_block = (sizes.parameters - self.embedding_bytes() / 4.0) / layers;
        // A GPU copies each gradient into the layout's order before the host reads it. On the CPU,
        // a block's gradients appear only after as many of its activations are freed.
        // Sums over micro-batches are in f32.
        let copies = if self.threads.is_none() { 2.0 } else { 0.0 };
        let of_block = match (self.is_on_host(), self.plan.by_block) {
            (true, false) => copies * sizes.workers * sizes.short * per_block,
            (true, true) => (copies * 4.0 + sizes.short) * per_block,
            (false, _) => 0.0,
        };
        vec![
            Phase {
                activations: streams,
                scores: sizes.workers * sizes.scores,
                gradients: gradients(0.0),
            },
            Phase {
                activations: streams - sizes.workers * sizes.stream + block + back,
                scores: 0.0,
                gradients: gradients(0.0) + of_block,
            },
            Phase {
                activations: block + back,
                scores: 0.0,
                gradients: gradients(1.0) + of_block,
            },
            Phase {
                activations: 0.0,
                scores: 0.0,
                gradients: gradients(1.0) + sizes.workers * self.embedding_bytes(),
            },
        ]
    }

    /// The memory alive while losses are measured: no gradients, and no activations of other
    /// blocks.
    fn evaluation(&self, sizes: &Sizes) -> Phase {
        let share = self.of_device(SCORE_TENSORS_FORWARD) / self.of_device(SCORE_TENSORS);
        let of_scores = sizes.scores * share;
        let of_a_block = sizes.forward + sizes.attention;
        Phase {
            activations: sizes.workers * (3.0 * sizes.stream + of_a_block),
            scores: sizes.workers * of_scores,
            gradients: 0.0,
        }
    }

    /// Gradient sums of earlier micro-batches, and this one's gradients once `share` of them is
    /// computed, with `bytes` per value.
    fn gradients(&self, sizes: &Sizes, share: f64, bytes: f64) -> f64 {
        let micro_batch = self.plan.micro_batch;
        let has_earlier = micro_batch.is_some_and(|sequences| sequences < self.batch);
        // What recomputes block by block adds each gradient to the sums at once. Only threads that
        // share a micro-batch out keep sums of their own.
        let is_alone = self.threads.is_none() || sizes.workers == 1.0;
        let adds_at_once = self.is_on_host() || (self.plan.recompute && is_alone);
        let sums = if adds_at_once || !has_earlier {
            0.0
        } else {
            4.0 * sizes.parameters
        };
        // The sums of earlier micro-batches are whole from the start.
        let is_whole = adds_at_once && has_earlier && self.threads.is_some();
        let share = if is_whole { 1.0 } else { share };
        sums + sizes.workers * bytes * share * sizes.parameters
    }

    /// Bytes of the embedding in f32.
    fn embedding_bytes(&self) -> f64 {
        4.0 * (self.model.vocabulary * self.model.width) as f64
    }

    fn is_on_host(&self) -> bool {
        self.plan.states == StatePlacement::Host
    }
}
