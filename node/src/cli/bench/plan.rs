//! How a benchmark uses its device.

use clap::Args;
use weal_trainer::{ComputePlan, ErrorFormat, ModelSpec, OpenDevice, PlanRequest};

use crate::settings::{Auto, Bytes, MomentsSetting, PrecisionSetting, StatesSetting};

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Sequences of a step to compute at once; 0 means all.
    #[arg(long, default_value_t = 0)]
    micro_batch: usize,
    /// Recompute activations in the backward pass instead of storing them: about a third slower,
    /// far less memory.
    #[arg(long)]
    recompute: bool,
    /// With --recompute and --micro-batch: take all micro-batches through a block before the next
    /// block begins, so that gradients go to the machine's memory once a step.
    #[arg(long, requires = "recompute")]
    by_block: bool,
    /// Where to keep f32 weights, gradient sums and optimiser moments: device or host (the
    /// machine's memory).
    #[arg(long, default_value = "device")]
    states: StatesSetting,
    /// Number format of matrix products: auto, f32, f16 or bf16.
    #[arg(long, default_value = "auto")]
    precision: Auto<PrecisionSetting>,
    /// How to keep the optimiser's moments, where the CPU updates them: f32 or 8bit.
    #[arg(long, default_value = "f32")]
    moments: MomentsSetting,
    /// Use the device as a node does: by the fastest plan that fits the free memory.
    #[arg(long, conflicts_with_all = ["micro_batch", "recompute", "by_block", "states", "moments"])]
    fit: bool,
    /// The most memory that --fit may use, for example "6 GB": of the GPU, or of the machine when
    /// training on the CPU.
    #[arg(long, value_name = "BYTES", requires = "fit")]
    memory: Option<Bytes>,
}

impl PlanArgs {
    /// The plan for training a model on that device in steps of `batch` sequences.
    pub(super) fn plan(
        &self,
        device: &OpenDevice,
        model: &ModelSpec,
        batch: u32,
    ) -> weal_trainer::Result<ComputePlan> {
        let precision = self.precision.set().map(Into::into);
        if self.fit {
            let request = PlanRequest {
                precision,
                ..PlanRequest::default()
            };
            let planner = device.memory_planner(self.memory.map(|Bytes(bytes)| bytes));
            return Ok(planner.plan(model, batch as usize, &request)?.compute);
        }
        Ok(ComputePlan {
            micro_batch: Some(self.micro_batch).filter(|sequences| *sequences > 0),
            recompute: self.recompute,
            by_block: self.by_block,
            states: self.states.into(),
            precision: precision.unwrap_or_else(|| device.best_precision()),
            moments: self.moments.into(),
            error_feedback: ErrorFormat::F32,
        })
    }
}
