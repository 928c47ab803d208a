//! The memory that models need on this machine, and whether they fit.

use serde::Serialize;
use weal_trainer::{
    ErrorFormat, MemoryPlan, MemoryPlanner, ModelSpec, MomentFormat, PlanRequest, StatePlacement,
    flops_per_token,
};

use super::check::Check;
use crate::error::{Error, ErrorKind, Result};

/// A model to train.
#[derive(Debug)]
pub(super) struct Workload {
    /// The preset, or `this run`.
    pub name: String,
    pub model: ModelSpec,
    /// Sequences per step.
    pub batch: usize,
}

/// A model on this machine. `device` means the GPU's memory and `host` the machine's; training on
/// the CPU uses the latter alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelFit {
    /// The preset, or `this run`.
    pub name: String,
    pub parameters: usize,
    /// Tokens per sequence.
    pub context: usize,
    /// Sequences per step.
    pub batch: usize,
    /// Memory of the fastest plan.
    pub fastest_device_bytes: u64,
    pub fastest_host_bytes: u64,
    /// Memory of the plan that needs the least.
    pub least_device_bytes: u64,
    pub least_host_bytes: u64,
    /// The plan that is chosen here.
    pub plan: String,
    pub device_bytes: u64,
    pub host_bytes: u64,
    /// The chosen plan's memory, item by item.
    pub items: Vec<MemoryItem>,
    /// Whether the chosen plan fits, as far as free memory is known.
    pub fits: bool,
    /// Tokens per second, extrapolated from a short run of a small model. A GPU is faster than this
    /// on larger models.
    pub tokens_per_second: Option<f64>,
}

/// A part of the memory that a model needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryItem {
    /// What it is for.
    pub what: &'static str,
    /// `device` or `host`.
    pub place: &'static str,
    pub bytes: u64,
}

/// How each model fits. `flops` is the measured speed in floating-point operations per second.
pub(super) fn models(
    workloads: &[Workload],
    planner: &MemoryPlanner,
    request: &PlanRequest,
    flops: Option<f64>,
) -> Result<Vec<ModelFit>> {
    workloads
        .iter()
        .map(|workload| {
            fit(workload, planner, request, flops)
                .map_err(|error| Error::of(ErrorKind::Internal, error))
        })
        .collect()
}

fn fit(
    workload: &Workload,
    planner: &MemoryPlanner,
    request: &PlanRequest,
    flops: Option<f64>,
) -> weal_trainer::Result<ModelFit> {
    let Workload { name, model, batch } = workload;
    let fastest = PlanRequest {
        micro_batch: Some(0),
        recompute: Some(false),
        states: Some(StatePlacement::Device),
        moments: Some(MomentFormat::F32),
        error_feedback: Some(ErrorFormat::F32),
        ..*request
    };
    let states = Some(if planner.threads.is_none() {
        StatePlacement::Host
    } else {
        StatePlacement::Device
    });
    let least = PlanRequest {
        micro_batch: Some(1),
        recompute: Some(true),
        by_block: Some(false),
        states,
        moments: Some(MomentFormat::Bits8),
        error_feedback: Some(ErrorFormat::Bf16),
        ..*request
    };
    let fastest = planner.plan(model, *batch, &fastest)?;
    let least = planner.plan(model, *batch, &least)?;
    let chosen = planner.plan(model, *batch, request)?;
    Ok(ModelFit {
        name: name.clone(),
        parameters: model.layout()?.parameters(),
        context: model.context,
        batch: *batch,
        fastest_device_bytes: fastest.need.device_bytes(),
        fastest_host_bytes: fastest.need.host_bytes(),
        least_device_bytes: least.need.device_bytes(),
        least_host_bytes: least.need.host_bytes(),
        plan: chosen.compute.to_string(),
        device_bytes: chosen.need.device_bytes(),
        host_bytes: chosen.need.host_bytes(),
        fits: chosen.fits(),
        items: items(&chosen),
        tokens_per_second: match flops {
            Some(flops) => Some(flops / flops_per_token(model)?),
            None => None,
        },
    })
}

fn items(chosen: &MemoryPlan) -> Vec<MemoryItem> {
    let device = chosen.need.device.iter().map(|item| (item, "device"));
    let host = chosen.need.host.iter().map(|item| (item, "host"));
    device
        .chain(host)
        .map(|(item, place)| MemoryItem {
            what: item.what,
            place,
            bytes: item.bytes,
        })
        .collect()
}

/// Checks that the run fits, or at least the smallest preset.
pub(super) fn check(models: &[ModelFit], is_run: bool) -> Check {
    let fitting: Vec<&str> = models
        .iter()
        .filter(|model| model.fits)
        .map(|model| model.name.as_str())
        .collect();
    match fitting.last() {
        Some(_) if is_run => Check::ok("models", "this run fits"),
        Some(largest) if fitting.len() == models.len() => Check::ok(
            "models",
            format!("all presets fit, the largest ({largest}) included"),
        ),
        Some(largest) => Check::ok(
            "models",
            format!("the largest preset that fits is {largest}"),
        ),
        None => Check::wrong(
            "models",
            if is_run {
                "this run does not fit"
            } else {
                "no preset fits"
            },
            "stop other programs, raise compute.memory, or set micro_batch, recompute and states \
             to \"auto\"",
            ErrorKind::Device,
        ),
    }
}
