//! Whether a run that is being made fits the machine of its founder.

use weal_proto::Manifest;
use weal_trainer::{MemoryPlanner, OpenDevice, format_bytes};

use super::fit::{self, ModelFit, Workload};
use crate::error::Result;
use crate::plan::Plan;
use crate::settings::Settings;

/// What to tell the founder of a run whose training does not fit this machine; `None` if it fits,
/// or the device cannot be opened now.
///
/// # Errors
/// When the manifest cannot be used.
pub(crate) fn misfit(manifest: &Manifest, settings: &Settings) -> Result<Option<String>> {
    let plan = Plan::new(manifest)?;
    let Ok(device) = OpenDevice::open(settings.compute.device) else {
        return Ok(None);
    };
    let planner = device.memory_planner(settings.compute.memory_cap());
    told(&plan, &planner, settings)
}

fn told(plan: &Plan, planner: &MemoryPlanner, settings: &Settings) -> Result<Option<String>> {
    let workload = Workload {
        name: "this run".to_owned(),
        model: plan.model.clone(),
        batch: plan.inner.batch as usize,
    };
    let request = settings.compute.plan_request(plan.inner.has_muon());
    let models = fit::models(&[workload], planner, &request, None)?;
    let misfits = models.into_iter().find(|model| !model.fits);
    Ok(misfits.map(|model| sentence(&model, planner)))
}

fn sentence(model: &ModelFit, planner: &MemoryPlanner) -> String {
    let part = |what: &str, needed: u64, free: Option<u64>| match free {
        // Plans leave a tenth of what is free.
        Some(free) if needed > free / 10 * 9 => Some(format!(
            "{} {what} of which {} is free",
            format_bytes(needed),
            format_bytes(free)
        )),
        _ => None,
    };
    let parts = [
        part(
            "of the GPU's memory,",
            model.device_bytes,
            planner.budget.device,
        ),
        part("of memory,", model.host_bytes, planner.budget.host),
    ];
    let mut parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        parts.push("a larger buffer than the GPU's driver allocates".to_owned());
    }
    format!(
        "training this model does not fit this machine: even the smallest plan takes {}; \
         `weal doctor` shows which models fit",
        parts.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weal_trainer::MemoryBudget;

    use super::*;
    use crate::new_run::{NewRun, RunFile};

    #[test]
    fn a_founder_is_told_what_a_machine_lacks() {
        let founder = [1; 32].into();
        let name = Path::new("run.toml");
        let manifest = NewRun::preview(&RunFile::default(), Path::new(""), founder, name).unwrap();
        let plan = Plan::new(&manifest).unwrap();
        let settings = Settings::default();
        let with = |host: u64| {
            let planner = MemoryPlanner {
                budget: MemoryBudget {
                    host: Some(host),
                    ..MemoryBudget::default()
                },
                ..OpenDevice::cpu().memory_planner(None)
            };
            told(&plan, &planner, &settings).unwrap()
        };
        let lacking = with(1 << 20).unwrap();
        assert!(lacking.contains("of memory, of which 1.0 MB"), "{lacking}");
        assert_eq!(with(1 << 36), None);
    }
}
