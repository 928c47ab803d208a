//! What stands between this machine and training: checks, each with what mends it, and what models
//! it has room for.
//!
//! Everything is found out on the spot: nobody is asked over the network.

mod fit;
mod machine;

use std::path::Path;

use serde::Serialize;
use weal_trainer::{
    ComputePlan, GpuKind, MemoryBudget, MemoryPlanner, ModelSpec, OpenDevice, PRESETS, Precision,
    TrainLoad, driver_reports, format_bytes, gpus,
};

pub use fit::ModelFit;

use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::plan::Plan;
use crate::settings::Settings;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Training goes on, but something could be better, or is not known.
    Warning,
    /// Training is not possible.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What mends it, where something is to be mended.
    pub remedy: Option<String>,
    /// The exit code where it is wrong.
    #[serde(skip)]
    pub code: u8,
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Ok,
            found: found.into(),
            remedy: None,
            code: 0,
        }
    }

    fn warning(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Warning,
            found: found.into(),
            remedy: Some(remedy.into()),
            code: 0,
        }
    }

    fn wrong(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
        error: fn(String) -> Error,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self {
            what,
            state: State::Wrong,
            found: found.into(),
            remedy,
            code: error(String::new()).code(),
        }
    }
}

/// Everything that was found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether this machine can train.
    pub can_train: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What the models need, and whether there is room.
    pub models: Vec<ModelFit>,
}

impl Report {
    /// The exit code: that of the first thing that is wrong.
    pub fn code(&self) -> u8 {
        self.checks
            .iter()
            .find(|check| check.state == State::Wrong)
            .map_or(0, |check| check.code)
    }
}

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The data folder; it may not exist.
    pub folder: Folder,
    /// Its settings, with flags over them.
    pub settings: Settings,
    /// Sequences of a step, where the folder holds no run.
    pub batch: usize,
    /// Context of the presets, where not their own.
    pub context: Option<usize>,
    /// A GPU with so many bytes of memory and with bf16, instead of the device that there is.
    pub suppose: Option<u64>,
    /// Whether to train for a moment.
    pub measure: bool,
}

/// Looks at everything.
///
/// # Errors
/// Where settings or manifest cannot be read.
pub fn examine(questions: &Questions) -> Result<Report> {
    let mut checks = Vec::new();
    let device = open(questions, &mut checks);
    let site = site(questions, device.as_ref());
    checks.extend(memory(&site));
    let run = questions
        .folder
        .manifest()?
        .map(|manifest| Plan::new(&manifest))
        .transpose()?;
    let speed = match &device {
        Some(device) if questions.measure => measured(device, &mut checks),
        _ => None,
    };
    let models = fit::models(
        &workloads(questions, run.as_ref())?,
        &site,
        &questions.settings.compute.wishes(),
        speed,
    )?;
    checks.push(fit::check(&models, run.is_some()));
    let parameters = run.as_ref().map(|plan| plan.layout.parameters());
    checks.extend(machine::checks(
        &questions.folder,
        &questions.settings,
        parameters,
    ));
    let can_train = checks.iter().all(|check| check.state != State::Wrong);
    Ok(Report {
        can_train,
        checks,
        models,
    })
}

/// Names, models and batches: that of the folder's run, or else the presets.
fn workloads(questions: &Questions, run: Option<&Plan>) -> Result<Vec<(String, ModelSpec, usize)>> {
    if let Some(plan) = run {
        return Ok(vec![(
            "this run".to_owned(),
            plan.model.clone(),
            plan.inner.batch as usize,
        )]);
    }
    let preset = |name: &str| {
        let mut model =
            ModelSpec::preset(name).map_err(|error| Error::of(ErrorKind::Internal, error))?;
        model.context = questions.context.unwrap_or(model.context);
        model
            .validate()
            .map_err(|error| Error::usage(format!("--context: {error}")))?;
        Ok((name.to_owned(), model, questions.batch))
    };
    PRESETS.into_iter().map(preset).collect()
}

fn open(questions: &Questions, checks: &mut Vec<Check>) -> Option<OpenDevice> {
    let gpus = gpus();
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
    match OpenDevice::open(questions.settings.compute.device) {
        Ok(device) => {
            let real = gpus
                .iter()
                .enumerate()
                .filter(|(_, gpu)| gpu.kind != GpuKind::Software);
            let names: Vec<_> = real
                .map(|(number, gpu)| format!("gpu:{number} {}", gpu.kind))
                .collect();
            let names = if names.is_empty() {
                "no GPU".to_owned()
            } else {
                names.join(", ")
            };
            let found = format!("{}; {names} in this machine", device.name());
            checks.push(
                if device.is_gpu() || gpus.iter().all(|gpu| gpu.kind == GpuKind::Software) {
                    Check::ok("device", found)
                } else {
                    Check::warning(
                        "device",
                        found,
                        "the processor is much slower: set compute.device = \"auto\" or \"gpu\"",
                    )
                },
            );
            Some(device)
        }
        Err(error) => {
            checks.push(Check::wrong(
                "device",
                error.to_string(),
                "install the driver, or use --device cpu",
                Error::device,
            ));
            None
        }
    }
}

/// The device that there is, or the one that is supposed.
fn site(questions: &Questions, device: Option<&OpenDevice>) -> MemoryPlanner {
    let cap = questions.settings.compute.memory_cap();
    let there = device.map_or_else(
        || OpenDevice::cpu().memory_planner(cap),
        |device| device.memory_planner(cap),
    );
    match questions.suppose {
        None => there,
        Some(bytes) => {
            let budget = MemoryBudget {
                device: Some(bytes),
                host: None,
            };
            MemoryPlanner {
                threads: None,
                precision: Precision::Bf16,
                budget,
            }
        }
    }
}

fn memory(site: &MemoryPlanner) -> Vec<Check> {
    let free = |what, bytes: Option<u64>, remedy: &str| match bytes {
        Some(bytes) => Check::ok(what, format!("{} for training", format_bytes(bytes))),
        None => Check::warning(what, "the system does not say how much is free", remedy),
    };
    let mut checks = Vec::new();
    if site.threads.is_none() {
        let remedy = "say it with compute.memory = \"6 GB\" in settings.toml, or with --memory";
        checks.push(free("GPU memory", site.budget.device, remedy));
    }
    checks.push(free(
        "memory",
        site.budget.host,
        "compare the table below with what the machine has",
    ));
    checks
}

/// Trains `nano` for a moment; floating-point operations a second.
fn measured(device: &OpenDevice, checks: &mut Vec<Check>) -> Option<f64> {
    let is_software = gpus().iter().any(|gpu| gpu.kind == GpuKind::Software)
        && device.name().contains("software");
    if is_software {
        checks.push(Check::warning(
            "speed",
            "not measured: a software GPU takes minutes",
            "use --device cpu instead",
        ));
        return None;
    }
    let plan = ComputePlan {
        precision: device.best_precision(),
        ..ComputePlan::default()
    };
    let measured = ModelSpec::preset("nano").and_then(|model| {
        device.train_speed(
            &model,
            &TrainLoad {
                batch: 8,
                steps: 5,
                plan,
            },
            None,
        )
    });
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
                Error::device,
            ));
            None
        }
    }
}

/// The nearest folder above that exists: what does not exist yet will be made there.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Device, NetworkSettings};

    fn questions(folder: &Path) -> Questions {
        let mut settings = Settings {
            network: NetworkSettings::on_port(0),
            ..Settings::default()
        };
        settings.page.listen = ([127, 0, 0, 1], 0).into();
        settings.compute.device = Device::Cpu;
        Questions {
            folder: Folder::new(folder),
            settings,
            batch: 8,
            context: None,
            suppose: None,
            measure: false,
        }
    }

    #[test]
    fn a_machine_that_can_train_nano_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let report = examine(&questions(folder.path())).unwrap();
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
    fn what_is_wrong_is_named_with_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut asked = questions(folder.path());
        asked.settings.page.listen = taken.local_addr().unwrap();
        asked.settings.compute.memory = "1 MB".parse().unwrap();
        let report = examine(&asked).unwrap();
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
    fn a_billion_parameters_train_in_six_gigabytes() {
        let folder = tempfile::tempdir().unwrap();
        let supposed = Questions {
            suppose: Some(6_000_000_000),
            context: Some(1024),
            ..questions(folder.path())
        };
        let report = examine(&supposed).unwrap();
        let billion = report.models.last().unwrap();
        assert!(
            billion.fits && billion.device_bytes < 6_000_000_000,
            "{billion:?}"
        );
    }
}
