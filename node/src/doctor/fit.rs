//! What models need of memory here, and whether there is room.

use serde::Serialize;
use weal_trainer::{
    MemoryPlan, MemoryPlanner, ModelSpec, PlanRequest, StatePlacement, flops_per_token,
};

use super::Check;
use crate::error::{Error, ErrorKind, Result};

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelFit {
    /// The preset, or `this run`.
    pub name: String,
    /// Values that are learnt.
    pub parameters: usize,
    /// Tokens of a sequence.
    pub context: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// With nothing given up: bytes of the GPU's memory.
    pub fastest_device_bytes: u64,
    /// With nothing given up: bytes of the machine's memory.
    pub fastest_host_bytes: u64,
    /// With everything given up that settings can: bytes of the GPU's memory.
    pub least_device_bytes: u64,
    /// With everything given up that settings can: bytes of the machine's memory.
    pub least_host_bytes: u64,
    /// What is chosen here.
    pub plan: String,
    /// What that needs of the GPU's memory.
    pub device_bytes: u64,
    /// What that needs of the machine's memory.
    pub host_bytes: u64,
    /// Item by item, what that needs.
    pub items: Vec<Item>,
    /// Whether there is room for it, as far as anybody knows.
    pub fits: bool,
    /// Tokens a second, from a short measurement of a small model; of larger ones a GPU makes more.
    pub tokens_per_second: Option<f64>,
}

/// A part of what a model needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is for.
    pub what: &'static str,
    /// `device` or `host`.
    pub place: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// How each model fits. `speed` is in floating-point operations a second.
pub fn models(
    models: &[(String, ModelSpec, usize)],
    site: &MemoryPlanner,
    wishes: &PlanRequest,
    speed: Option<f64>,
) -> Result<Vec<ModelFit>> {
    models
        .iter()
        .map(|(name, model, batch)| fit(name, model, *batch, site, wishes, speed))
        .collect()
}

fn fit(
    name: &str,
    model: &ModelSpec,
    batch: usize,
    site: &MemoryPlanner,
    wishes: &PlanRequest,
    speed: Option<f64>,
) -> Result<ModelFit> {
    let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Internal, error);
    let choose = |wishes: &PlanRequest| site.plan(model, batch, wishes).map_err(failed);
    let precision = wishes.precision;
    let fastest = PlanRequest {
        micro_batch: Some(0),
        recompute: Some(false),
        states: Some(StatePlacement::Device),
        precision,
    };
    let states = Some(if site.threads.is_none() {
        StatePlacement::Host
    } else {
        StatePlacement::Device
    });
    let least = PlanRequest {
        micro_batch: Some(1),
        recompute: Some(true),
        states,
        precision,
    };
    let (fastest, least, here) = (choose(&fastest)?, choose(&least)?, choose(wishes)?);
    Ok(ModelFit {
        name: name.to_owned(),
        parameters: model.layout().map_err(failed)?.parameters(),
        context: model.context,
        batch,
        fastest_device_bytes: fastest.need.device_bytes(),
        fastest_host_bytes: fastest.need.host_bytes(),
        least_device_bytes: least.need.device_bytes(),
        least_host_bytes: least.need.host_bytes(),
        plan: here.compute.to_string(),
        device_bytes: here.need.device_bytes(),
        host_bytes: here.need.host_bytes(),
        fits: here.fits(),
        items: items(&here),
        tokens_per_second: match speed {
            Some(flops) => Some(flops / flops_per_token(model).map_err(failed)?),
            None => None,
        },
    })
}

fn items(choice: &MemoryPlan) -> Vec<Item> {
    let device = choice.need.device.iter().map(|item| (item, "device"));
    let host = choice.need.host.iter().map(|item| (item, "host"));
    device
        .chain(host)
        .map(|(item, place)| Item {
            what: item.what,
            place,
            bytes: item.bytes,
        })
        .collect()
}

/// Whether there is room for what is asked: the run, or at least the smallest preset.
pub fn check(models: &[ModelFit], is_run: bool) -> Check {
    let fitting: Vec<&str> = models
        .iter()
        .filter(|model| model.fits)
        .map(|model| model.name.as_str())
        .collect();
    match fitting.last() {
        Some(_) if is_run => Check::ok("models", "there is room for this run"),
        Some(largest) if fitting.len() == models.len() => Check::ok(
            "models",
            format!("there is room for all presets, {largest} too"),
        ),
        Some(largest) => Check::ok(
            "models",
            format!("the largest preset that there is room for is {largest}"),
        ),
        None => Check::wrong(
            "models",
            if is_run {
                "there is no room for this run"
            } else {
                "there is no room for any preset"
            },
            "end other programs, raise compute.memory, or leave micro_batch, recompute and states to \"auto\"",
            Error::device,
        ),
    }
}
