//! What to compute on, chosen at run time: the processor, or one of the machine's GPUs.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};
use weal_kernels::gpu::Connection;
use weal_kernels::{Compression, Layout};

use crate::engine::compress::{CompressSpeed, compress_speed};
use crate::engine::{Engine, connection, panic_message};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::gpus::{Gpu, GpuBackend, GpuKind, gpus};
use crate::kernel_warmup::{FirstUse, Kernels, Teller};
use crate::spec::ModelSpec;

/// The device that a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The best real GPU (discrete before virtual before integrated), or else the processor. A
    /// software GPU, such as lavapipe, is never taken.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The best GPU, a software one included; an error where there is none.
    Gpu,
    /// The GPU of that number in [`gpus`]; an error where there is none.
    GpuNumber(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => name
                .strip_prefix("gpu:")
                .and_then(|number| number.parse().ok())
                .map(Self::GpuNumber)
                .ok_or_else(|| Error::DeviceName(name.to_owned())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Gpu => formatter.write_str("gpu"),
            Self::GpuNumber(number) => write!(formatter, "gpu:{number}"),
        }
    }
}

/// A device that is ready to compute.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    name: String,
    device: Device,
    /// What is made anew where the device was lost; the processor has none.
    connection: Option<Connection>,
    fault: Option<Fault>,
    /// Whom to tell that kernels are being made ready; nobody on the processor, which has them.
    teller: Option<Teller>,
}

impl OpenDevice {
    /// Opens the device that `choice` asks for.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where a GPU is demanded and none can be used; it names what there is and
    /// what to do. With [`DeviceChoice::Auto`] a GPU that fails to open is passed over, with a
    /// warning in the log.
    pub fn open(choice: DeviceChoice) -> Result<Self> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Auto => Ok(Self::best_real_gpu().unwrap_or_else(Self::cpu)),
            DeviceChoice::Gpu => Self::open_number(0, "a GPU"),
            DeviceChoice::GpuNumber(number) => {
                Self::open_number(number, &format!("GPU number {number}"))
            }
        }
    }

    /// The processor.
    pub fn cpu() -> Self {
        let threads = rayon::current_num_threads();
        let plural = if threads == 1 { "" } else { "s" };
        let name = format!("CPU (flex, {threads} thread{plural})");
        Self {
            name,
            device: Device::flex(),
            connection: None,
            fault: None,
            teller: None,
        }
    }

    /// Opens the same device anew after it failed; what was on it is gone. Every
    /// [`Learner`](crate::Learner) on it has to be dropped before.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where it is away, or computes nothing; it may be tried again.
    pub fn reopen(&self) -> Result<Self> {
        if let Some(fault) = &self.fault {
            fault.open(&self.name)?;
        }
        if !self.is_gpu() {
            return Ok(self.clone());
        }
        let away = |found: String| Error::NoDevice {
            wanted: self.name.clone(),
            found,
            remedy: "if it does not come back, start the node again, or update the GPU's driver"
                .to_owned(),
        };
        let connection = self
            .connection
            .ok_or_else(|| away("its backend needs a new process for it".to_owned()))?;
        let gpu = gpus().into_iter().find(|gpu| gpu.device == self.device);
        let gpu = gpu.ok_or_else(|| away("it is not there".to_owned()))?;
        let renewed = catch_unwind(|| connection.renew()).map_err(|panic| panic_message(&*panic));
        renewed.and_then(|renewed| renewed).map_err(away)?;
        let opened =
            open_gpu(&gpu).map_err(|reason| away(format!("it cannot be opened ({reason})")))?;
        Ok(Self {
            fault: self.fault.clone(),
            teller: self.teller.clone(),
            ..opened
        })
    }

    /// The device, which fails when `fault` says so.
    pub fn with_fault(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    /// What the device calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a graphics device.
    pub fn is_gpu(&self) -> bool {
        self.device != Device::flex()
    }

    /// Has `told` hear that a GPU compiles and tunes its kernels, twice a second while it does; by
    /// default the log does, every few seconds. A processor has nothing to tell.
    pub fn telling(mut self, told: impl Fn(Kernels) + Send + Sync + 'static) -> Self {
        self.teller = self.teller.map(|_| Teller::new(told));
        self
    }

    /// How fast it compresses `delta`, with the error feedback `error`, to bodies: the best of
    /// `runs`. `None` on the processor, where [`weal_kernels::compress`] is what there is to
    /// measure.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails. [`Error::Layout`] where either is not of that
    /// layout.
    pub fn compress_speed(
        &self,
        layout: &Layout,
        compression: &Compression,
        (error, delta): (&[f32], &[f32]),
        runs: usize,
    ) -> Result<Option<CompressSpeed>> {
        for (what, values) in [("error", error), ("delta", delta)] {
            let (expected, got) = (layout.parameters(), values.len());
            if got != expected {
                return Err(weal_kernels::Error::Length {
                    what,
                    expected,
                    got,
                }
                .into());
            }
        }
        if !self.is_gpu() {
            return Ok(None);
        }
        let measure = || compress_speed(&self.device, compression, layout, (error, delta), runs);
        let measured = self
            .watched(|| catch_unwind(AssertUnwindSafe(measure)))
            .unwrap_or_else(|panic| Err(panic_message(&*panic)));
        measured.map(Some).map_err(|reason| Error::Device {
            device: self.name.clone(),
            action: "compressed",
            reason,
        })
    }

    /// The device as burn knows it.
    pub(crate) fn raw(&self) -> &Device {
        &self.device
    }

    /// Measures something on the device, and meanwhile tells of new kernels.
    pub(crate) fn watched<T>(&self, measure: impl FnOnce() -> T) -> T {
        FirstUse::new(self.teller.clone()).watch("measured", measure)
    }

    /// An engine for `spec` on this device.
    pub(crate) fn engine(&self, spec: &ModelSpec) -> Result<Engine> {
        let engine = Engine::new(spec, self.device.clone(), self.name.clone())?;
        Ok(engine
            .failing(self.fault.clone())
            .telling(self.teller.clone()))
    }

    fn best_real_gpu() -> Option<Self> {
        gpus().into_iter().filter(|gpu| gpu.kind != GpuKind::Software).find_map(|gpu| match open_gpu(&gpu) {
            Ok(device) => Some(device),
            Err(reason) => {
                tracing::warn!(kind = ?gpu.kind, reason, "a GPU is there, but cannot be opened; it is passed over");
                None
            }
        })
    }

    fn open_number(number: usize, wanted: &str) -> Result<Self> {
        let gpus = gpus();
        let found = match gpus.len() {
            0 => "no Vulkan, Metal or DirectX 12 device was found".to_owned(),
            1 => "there is one GPU, number 0".to_owned(),
            many => format!("there are {many} GPUs, numbers 0 to {}", many - 1),
        };
        let refuse = |found: String, remedy: &str| {
            Err(Error::NoDevice {
                wanted: wanted.to_owned(),
                found,
                remedy: remedy.to_owned(),
            })
        };
        let Some(gpu) = gpus.get(number) else {
            return if gpus.is_empty() {
                refuse(
                    found,
                    "install the GPU's driver (on Debian and Ubuntu also libvulkan1, for AMD and Intel \
                     mesa-vulkan-drivers; in a container hand the GPU through), or use --device cpu",
                )
            } else {
                refuse(found, "choose one of these, or use --device cpu")
            };
        };
        open_gpu(gpu).or_else(|reason| {
            refuse(
                format!("it cannot be opened ({reason})"),
                "update the GPU's driver, or use --device cpu",
            )
        })
    }
}

/// Opens a GPU, asks its name, and has it add some numbers. Drivers report failure by panicking
/// somewhere below, so that is caught.
fn open_gpu(gpu: &Gpu) -> std::result::Result<OpenDevice, String> {
    let open = || {
        (
            gpu.device.identity().map(|identity| identity.name),
            trial_sum(&gpu.device),
            connection(&gpu.device),
        )
    };
    let (name, sum, connection) =
        catch_unwind(AssertUnwindSafe(open)).map_err(|panic| panic_message(&*panic))?;
    if sum? != TRIAL_SUM {
        return Err("it computes wrongly".to_owned());
    }
    let name = name.unwrap_or_else(|| "GPU".to_owned());
    let name = match gpu.backend {
        GpuBackend::Cuda => format!("{name} ({}, CUDA)", gpu.kind),
        GpuBackend::Rocm => format!("{name} ({}, ROCm)", gpu.kind),
        GpuBackend::Wgpu => format!("{name} ({})", gpu.kind),
    };
    let teller = Some(Teller::log(name.clone()));
    Ok(OpenDevice {
        name,
        device: gpu.device.clone(),
        connection,
        fault: None,
        teller,
    })
}

/// The sum of the numbers below [`TRIAL_NUMBERS`], exact in f32.
const TRIAL_SUM: f32 = (TRIAL_NUMBERS * (TRIAL_NUMBERS - 1) / 2) as f32;
const TRIAL_NUMBERS: i64 = 1024;

/// A device can be opened and yet run no kernel, or run it wrongly.
fn trial_sum(device: &Device) -> std::result::Result<f32, String> {
    let numbers = Tensor::<1, Int>::arange(0..TRIAL_NUMBERS, device).float();
    let sum = numbers
        .sum()
        .try_into_data()
        .map_err(|error| error.to_string())?;
    let sum = sum
        .convert::<f32>()
        .try_into_vec::<f32>()
        .map_err(|error| format!("{error:?}"))?;
    Ok(sum.first().copied().unwrap_or(f32::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_go_there_and_back() {
        let choices = [
            DeviceChoice::Auto,
            DeviceChoice::Cpu,
            DeviceChoice::Gpu,
            DeviceChoice::GpuNumber(3),
        ];
        for choice in choices {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        for wrong in ["", "GPU", "gpu:", "gpu:-1", "cuda"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn automatic_choice_always_finds_something_and_never_a_software_gpu() {
        let device = OpenDevice::open(DeviceChoice::Auto).unwrap();
        assert!(!device.name().contains("software"), "{}", device.name());
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_with_what_to_do() {
        let message = OpenDevice::open(DeviceChoice::GpuNumber(99))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("GPU number 99") && message.contains("--device cpu"),
            "{message}"
        );
    }
}
