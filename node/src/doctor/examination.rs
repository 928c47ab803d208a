//! Runs all checks.

use serde::Serialize;
use weal_trainer::{ModelSpec, PRESETS};

use super::check::{Check, State};
use super::device::Supposed;
use super::fit::{self, ModelFit, Workload};
use super::{device, machine};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::plan::Plan;
use crate::settings::Settings;

/// The results of all checks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Whether this machine can train: no check is [`State::Wrong`].
    pub can_train: bool,
    pub checks: Vec<Check>,
    /// The memory that each model needs, and whether it fits.
    pub models: Vec<ModelFit>,
}

impl Report {
    /// The exit code: that of the first failed check, or 0.
    pub(crate) fn code(&self) -> u8 {
        self.checks
            .iter()
            .find(|check| check.state == State::Wrong)
            .map_or(0, |check| check.code)
    }
}

/// What to check.
#[derive(Debug, Clone)]
pub(crate) struct Examination {
    /// The data folder, which need not exist. If it holds a run, only that run's model is examined;
    /// if not, all presets are.
    pub folder: Folder,
    /// The folder's settings, overridden by flags.
    pub settings: Settings,
    /// Sequences per step of the presets.
    pub batch: usize,
    /// Context length of the presets, if not their own.
    pub context: Option<usize>,
    /// What to plan for instead of this machine and its device.
    pub supposed: Supposed,
    /// Whether to train for a moment to measure the speed.
    pub measure_speed: bool,
}

impl Examination {
    /// Runs all checks.
    ///
    /// # Errors
    /// When the folder's settings or manifest cannot be read.
    pub(crate) fn run(&self) -> Result<Report> {
        let mut checks = Vec::new();
        let opened = device::open(self.settings.compute.device, &mut checks);
        let planner = device::planner(
            self.settings.compute.memory_cap(),
            self.supposed,
            opened.as_ref(),
        );
        checks.extend(device::memory(&planner));
        let run = self
            .folder
            .manifest()?
            .map(|manifest| Plan::new(&manifest))
            .transpose()?;
        let speed = match &opened {
            Some(device) if self.measure_speed => device::measure_speed(device, &mut checks),
            _ => None,
        };
        let muon = run.as_ref().is_some_and(|plan| plan.inner.has_muon());
        let models = fit::models(
            &self.workloads(run.as_ref())?,
            &planner,
            &self.settings.compute.plan_request(muon),
            speed,
        )?;
        checks.push(fit::check(&models, run.is_some()));
        let parameters = run.as_ref().map(|plan| plan.layout.parameters());
        checks.extend(machine::checks(&self.folder, &self.settings, parameters));
        Ok(Report {
            can_train: checks.iter().all(|check| check.state != State::Wrong),
            checks,
            models,
        })
    }

    fn workloads(&self, run: Option<&Plan>) -> Result<Vec<Workload>> {
        if let Some(plan) = run {
            return Ok(vec![Workload {
                name: "this run".to_owned(),
                model: plan.model.clone(),
                batch: plan.inner.batch as usize,
            }]);
        }
        PRESETS
            .into_iter()
            .map(|name| {
                let mut model = ModelSpec::preset(name)
                    .map_err(|error| Error::of(ErrorKind::Internal, error))?;
                model.context = self.context.unwrap_or(model.context);
                model.validate().map_err(|error| {
                    Error::from(error)
                        .with_kind(ErrorKind::Usage)
                        .context("--context")
                })?;
                Ok(Workload {
                    name: name.to_owned(),
                    model,
                    batch: self.batch,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{Device, NetworkSettings};

    fn examination(folder: &Path) -> Examination {
        let mut settings = Settings {
            network: NetworkSettings::on_port(0),
            ..Settings::default()
        };
        settings.page.listen = ([127, 0, 0, 1], 0).into();
        settings.compute.device = Device::Cpu;
        Examination {
            folder: Folder::new(folder),
            settings,
            batch: 8,
            context: None,
            supposed: Supposed::default(),
            measure_speed: false,
        }
    }

    #[test]
    fn a_machine_that_can_train_nano_passes() {
        let folder = tempfile::tempdir().unwrap();
        let report = examination(folder.path()).run().unwrap();
        let names: Vec<&str> = report
            .models
            .iter()
            .map(|model| model.name.as_str())
            .collect();
        assert_eq!(names, PRESETS);
        assert!(report.models[0].fits, "{report:?}");
        assert!(report.can_train && report.code() == 0, "{report:?}");
        assert!(
            serde_json::to_string(&report)
                .unwrap()
                .contains("\"can_train\":true")
        );
    }

    #[test]
    fn a_failed_check_names_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut examination = examination(folder.path());
        examination.settings.page.listen = taken.local_addr().unwrap();
        examination.settings.compute.memory = "1 MB".parse().unwrap();
        let report = examination.run().unwrap();
        assert!(!report.can_train && report.code() != 0);
        let wrong = |what: &str| {
            report
                .checks
                .iter()
                .find(|check| check.what == what)
                .unwrap()
        };
        assert!(
            wrong("page").remedy.as_ref().unwrap().contains("--page"),
            "{report:?}"
        );
        assert_eq!(wrong("models").state, State::Wrong, "{report:?}");
    }

    #[test]
    fn a_billion_parameters_train_in_six_gigabytes_beside_sixteen() {
        let folder = tempfile::tempdir().unwrap();
        let billion = |machine| {
            let supposed = Examination {
                supposed: Supposed {
                    gpu: Some(6_000_000_000),
                    machine: Some(machine),
                },
                context: Some(1024),
                ..examination(folder.path())
            };
            supposed.run().unwrap().models.pop().unwrap()
        };
        let fits = billion(16_000_000_000);
        assert!(fits.fits && fits.device_bytes < 6_000_000_000, "{fits:?}");
        assert!(fits.host_bytes < 16_000_000_000, "{fits:?}");
        let too_small = billion(12_000_000_000);
        assert!(!too_small.fits, "{too_small:?}");
    }
}
