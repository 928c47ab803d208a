//! A learner made from what was saved last.

use weal_trainer::{Learner, MemoryPlan, OpenDevice, container_memory_limit, format_bytes};

use super::setup::LearnerSetup;
use crate::error::{Error, ErrorKind, Result};
use crate::store::learner::SavedState;

/// A learner that continues from `learnt`. Moments or error feedback that cannot be used are
/// ignored: it then starts from zeros.
///
/// # Errors
/// When the device fails or refuses the model.
pub(super) fn make_learner(
    setup: &LearnerSetup,
    device: &OpenDevice,
    learnt: Option<SavedState>,
) -> Result<Learner> {
    let plan = &setup.plan;
    let (model, inner) = (plan.model.clone(), plan.inner.clone());
    let mut learner = Learner::new(model, inner, setup.corpus.clone(), device)?;
    let compute = &setup.compute;
    let planned = device.memory_planner(compute.memory_cap()).plan(
        &plan.model,
        plan.inner.batch as usize,
        &compute.plan_request(plan.inner.has_muon()),
    )?;
    within_the_container(&planned, container_memory_limit())?;
    if planned.fits() {
        tracing::info!("{planned}");
    } else {
        tracing::warn!("{planned}: this may not fit; run `weal doctor` to see what would");
    }
    learner.set_plan(&planned.compute)?;
    let Some(state) = learnt else {
        return Ok(learner);
    };
    let error_feedback = learner.read_error_feedback(&mut state.error_feedback()?);
    unless_the_device_failed("error feedback", error_feedback)?;
    if let Some(mut saved) = state.moments()? {
        let moments = learner.read_moments(&mut saved);
        unless_the_device_failed("optimiser moments", moments)?;
    }
    Ok(learner)
}

/// Refuses a plan that would surely exceed the memory limit of a container: the kernel would kill
/// the node, again and again. Without such a limit memory may yet be freed, or swapped out.
fn within_the_container(planned: &MemoryPlan, limit: Option<u64>) -> Result<()> {
    let (need, free) = (planned.need.host_bytes(), planned.budget.host);
    match (limit, free) {
        (Some(limit), Some(free)) if need > free => Err(Error::device(format!(
            "training this model does not fit the container's memory limit of {}: {planned}",
            format_bytes(limit)
        ))
        .with_hint("raise the container's memory limit, or run `weal doctor` to see what fits")),
        _ => Ok(()),
    }
}

fn unless_the_device_failed(what: &str, restored: weal_trainer::Result<()>) -> Result<()> {
    match restored.map_err(Error::from) {
        Err(error) if error.kind() != ErrorKind::Device => {
            tracing::warn!("starting from zeros: the saved {what} cannot be used: {error:#}");
            Ok(())
        }
        restored => restored,
    }
}

#[cfg(test)]
mod tests {
    use weal_trainer::{MemoryBudget, ModelSpec, PlanRequest};

    use super::*;

    #[test]
    fn a_model_that_a_container_cannot_hold_is_refused() {
        let planned = |free| {
            let mut planner = OpenDevice::cpu().memory_planner(None);
            planner.budget = MemoryBudget {
                host: Some(free),
                ..MemoryBudget::default()
            };
            let model = ModelSpec::preset("small").unwrap();
            planner.plan(&model, 8, &PlanRequest::default()).unwrap()
        };
        let (small, large) = (planned(500 << 20), planned(100 << 30));
        let error = within_the_container(&small, Some(600 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device);
        assert!(
            format!("{error:#}").contains("memory limit of 629.1 MB"),
            "{error:#}"
        );
        assert!(within_the_container(&small, None).is_ok());
        assert!(within_the_container(&large, Some(101 << 30)).is_ok());
    }
}
