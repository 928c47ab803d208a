//! Checks whether this machine can train, and which models fit it. Each failed check names its
//! remedy.
//!
//! | file | holds |
//! |---|---|
//! | `examination` | [`Examination`], which runs all checks, and its [`Report`] |
//! | `check` | one check and its outcome |
//! | `device` | device, memory and speed |
//! | `fit` | the memory that each model needs |
//! | `misfit` | whether a run that is being made fits this machine |
//! | `machine` | disk, clock, ports and addresses |
//!
//! Nothing goes over the network.

mod check;
mod device;
mod examination;
mod fit;
mod machine;
mod misfit;

pub(crate) use check::State;
pub(crate) use device::Supposed;
pub(crate) use examination::{Examination, Report};
pub(crate) use fit::ModelFit;
pub(crate) use misfit::misfit;
