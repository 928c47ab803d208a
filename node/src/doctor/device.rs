//! Checks of the device: driver, memory and speed.

use weal_trainer::{
    ComputePlan, GpuKind, MemoryBudget, MemoryPlanner, ModelSpec, OpenDevice, Precision, TrainLoad,
    driver_reports, format_bytes, gpus,
};

use super::check::Check;
use crate::error::ErrorKind;
use crate::settings::Device;

/// Opens the device and checks it; `None` if it cannot be opened.
pub(super) fn open(choice: Device, checks: &mut Vec<Check>) -> Option<OpenDevice> {
    for report in driver_reports() {
        let memory = format!(
            "{} of {} free",
            format_bytes(report.free),
            format_bytes(report.total)
        );
        checks.push(Check::ok(
            "driver",
            format!("{}: NVIDIA {}, {memory}", report.name, report.driver),
        ));
    }
    match OpenDevice::open(choice) {
        Ok(device) => {
            checks.push(opened(&device));
            Some(device)
        }
        Err(error) => {
            checks.push(Check::wrong(
                "device",
                error.to_string(),
                "install the GPU's driver, or use --device cpu",
                ErrorKind::Device,
            ));
            None
        }
    }
}

fn opened(device: &OpenDevice) -> Check {
    let gpus = gpus();
    let names: Vec<_> = gpus
        .iter()
        .enumerate()
        .filter(|(_, gpu)| gpu.kind != GpuKind::Software)
        .map(|(number, gpu)| format!("gpu:{number} {} through {}", gpu.kind, gpu.backend))
        .collect();
    let has_gpu = !names.is_empty();
    let names = if has_gpu {
        names.join(", ")
    } else {
        "none".to_owned()
    };
    let found = format!("{}; GPUs in this machine: {names}", device.name());
    if device.is_gpu() || !has_gpu {
        Check::ok("device", found)
    } else {
        Check::warning(
            "device",
            found,
            "the CPU is much slower: set compute.device to \"auto\" or \"gpu\"",
        )
    }
}

/// Memory to plan for that this machine need not have, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Supposed {
    /// Memory of a GPU that has f16.
    pub gpu: Option<u64>,
    /// Memory of the machine around it.
    pub machine: Option<u64>,
}

/// The device to plan for: a supposed GPU, or else the opened device, or else the CPU. `cap` is the
/// most memory to use, in bytes.
pub(super) fn planner(
    cap: Option<u64>,
    supposed: Supposed,
    device: Option<&OpenDevice>,
) -> MemoryPlanner {
    let planner = match supposed.gpu {
        None => device.map_or_else(
            || OpenDevice::cpu().memory_planner(cap),
            |device| device.memory_planner(cap),
        ),
        Some(bytes) => MemoryPlanner {
            threads: None,
            precision: Precision::F32,
            shorter: Some(Precision::F16),
            budget: MemoryBudget {
                device: Some(bytes),
                ..MemoryBudget::default()
            },
        },
    };
    let budget = MemoryBudget {
        host: supposed.machine.or(planner.budget.host),
        ..planner.budget
    };
    MemoryPlanner { budget, ..planner }
}

/// Checks how much memory is free.
pub(super) fn memory(planner: &MemoryPlanner) -> Vec<Check> {
    let free = |what, bytes: Option<u64>, remedy: &str| match bytes {
        Some(bytes) => Check::ok(what, format!("{} for training", format_bytes(bytes))),
        None => Check::warning(what, "the system does not report how much is free", remedy),
    };
    let mut checks = Vec::new();
    if planner.threads.is_none() {
        let remedy = "set compute.memory = \"6 GB\" in settings.toml, or use --memory";
        checks.push(free("GPU memory", planner.budget.device, remedy));
    }
    checks.push(free(
        "memory",
        planner.budget.host,
        "compare the table below with this machine's memory",
    ));
    checks
}

/// Trains `nano` for a few steps. Returns floating-point operations per second.
pub(super) fn measure_speed(device: &OpenDevice, checks: &mut Vec<Check>) -> Option<f64> {
    let is_software = gpus().iter().any(|gpu| gpu.kind == GpuKind::Software)
        && device.name().contains("software");
    if is_software {
        checks.push(Check::warning(
            "speed",
            "not measured: a software GPU would take minutes",
            "use --device cpu instead",
        ));
        return None;
    }
    let load = TrainLoad {
        batch: 8,
        steps: 5,
        plan: ComputePlan {
            precision: device.best_precision(),
            ..ComputePlan::default()
        },
        time_kernels: false,
    };
    let measured =
        ModelSpec::preset("nano").and_then(|model| device.train_speed(&model, &load, None));
    match measured {
        Ok(speed) => {
            let flops = speed.tokens_per_second * speed.flops_per_token;
            let used = 100.0 * speed.flops_utilisation();
            let found = format!(
                "{:.1} GFLOP/s in training, {used:.0} % of large matrix products",
                flops / 1e9
            );
            checks.push(Check::ok("speed", found));
            Some(flops)
        }
        Err(error) => {
            let remedy = "update the GPU's driver, or use --device cpu";
            checks.push(Check::wrong(
                "speed",
                error.to_string(),
                remedy,
                ErrorKind::Device,
            ));
            None
        }
    }
}
