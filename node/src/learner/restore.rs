//! A learner made from what was saved last.

use weal_trainer::{Learner, OpenDevice};

use super::setup::LearnerSetup;
use crate::error::{Error, ErrorKind, Result};
use crate::store::learner::LearnerState;

/// A learner that continues from `learnt`. Moments or error feedback that cannot be used are
/// ignored: it then starts from zeros.
///
/// # Errors
/// When the device fails or refuses the model.
pub(super) fn make_learner(
    setup: &LearnerSetup,
    device: &OpenDevice,
    learnt: Option<LearnerState>,
) -> Result<Learner> {
    let plan = &setup.plan;
    let (model, inner) = (plan.model.clone(), plan.inner.clone());
    let mut learner = Learner::new(model, inner, setup.corpus.clone(), device)?;
    let compute = &setup.compute;
    let planned = device.memory_planner(compute.memory_cap()).plan(
        &plan.model,
        plan.inner.batch as usize,
        &compute.plan_request(),
    )?;
    if planned.fits() {
        tracing::info!("{planned}");
    } else {
        tracing::warn!("{planned}: this may not fit; run `weal doctor` to see what would");
    }
    learner.set_plan(&planned.compute)?;
    let Some(state) = learnt else {
        return Ok(learner);
    };
    let moments = learner.restore_moments(&state.moments);
    unless_the_device_failed("optimiser moments", moments)?;
    let error_feedback = learner.restore_error_feedback(state.error);
    unless_the_device_failed("error feedback", error_feedback)?;
    Ok(learner)
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
