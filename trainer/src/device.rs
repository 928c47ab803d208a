//! The device that computes, chosen at run time: the CPU or one of the machine's GPUs.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};
use weal_kernels::gpu::Connection;

use crate::compute_plan::Precision;
use crate::engine::supports;
use crate::error::{Error, Result};
use crate::fault::InjectedFault;
use crate::gpu_client;
use crate::gpus::{Gpu, GpuBackend, GpuKind, gpus};
use crate::kernel_warmup::{KernelWarmup, WarmupReporter, WarmupWatch};
use crate::panic::panic_message;

/// The device that a user asks for: `auto`, `cpu`, `gpu` or `gpu:<number>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The best hardware GPU (discrete before virtual before integrated), or else the CPU. Never a
    /// software GPU such as lavapipe.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best GPU, software GPUs included; an error if the machine has none.
    Gpu,
    /// The GPU with that index in [`gpus`]; an error if it does not exist.
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
    /// Renewed after a device loss; the CPU has none.
    connection: Option<Connection>,
    fault: Option<InjectedFault>,
    /// Receives kernel warm-ups; `None` on the CPU, whose kernels are compiled in.
    reporter: Option<WarmupReporter>,
}

impl OpenDevice {
    /// Opens the device that `choice` asks for.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if `choice` demands a GPU and none can be used. With
    /// [`DeviceChoice::Auto`], a GPU that fails to open is skipped with a warning in the log.
    pub fn open(choice: DeviceChoice) -> Result<Self> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Auto => Ok(Self::best_hardware_gpu().unwrap_or_else(Self::cpu)),
            DeviceChoice::Gpu => Self::open_number(0, "a GPU"),
            DeviceChoice::GpuNumber(number) => {
                Self::open_number(number, &format!("GPU number {number}"))
            }
        }
    }

    /// The CPU, with one thread per core.
    pub fn cpu() -> Self {
        let threads = rayon::current_num_threads();
        let plural = if threads == 1 { "" } else { "s" };
        let name = format!("CPU (flex, {threads} thread{plural})");
        Self {
            name,
            device: Device::flex(),
            connection: None,
            fault: None,
            reporter: None,
        }
    }

    /// Opens the same device again after it failed; its memory is lost. Drop every
    /// [`Learner`](crate::Learner) on it first.
    ///
    /// # Errors
    /// [`Error::NoDevice`] while the device is missing or computes nothing; the caller may retry.
    pub fn reopen(&self) -> Result<Self> {
        if let Some(fault) = &self.fault {
            fault.open(&self.name)?;
        }
        if !self.is_gpu() {
            return Ok(self.clone());
        }
        let lost = |found: String| Error::NoDevice {
            wanted: self.name.clone(),
            found,
            remedy: "restart the node; if that does not help, update the GPU driver".to_owned(),
        };
        let connection = self
            .connection
            .ok_or_else(|| lost("its backend can only open it in a new process".to_owned()))?;
        let gpu = gpus().into_iter().find(|gpu| gpu.device == self.device);
        let gpu = gpu.ok_or_else(|| lost("the machine no longer lists it".to_owned()))?;
        let renewed = catch_unwind(|| connection.renew()).map_err(|panic| panic_message(&*panic));
        renewed.and_then(|renewed| renewed).map_err(lost)?;
        let opened =
            open_gpu(&gpu).map_err(|reason| lost(format!("it cannot be opened ({reason})")))?;
        Ok(Self {
            fault: self.fault.clone(),
            reporter: self.reporter.clone(),
            ..opened
        })
    }

    /// The device, failing as `fault` says; for tests.
    pub fn with_fault(self, fault: InjectedFault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    /// The device's name, such as `NVIDIA L4 (discrete GPU)` or `CPU (flex, 8 threads)`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the device is a GPU, software GPUs included.
    pub fn is_gpu(&self) -> bool {
        self.device != Device::flex()
    }

    /// Calls `report` twice a second during a kernel warm-up, in place of logging it. The CPU never
    /// calls it.
    pub fn on_kernel_warmup(
        mut self,
        report: impl Fn(KernelWarmup) + Send + Sync + 'static,
    ) -> Self {
        self.reporter = self.reporter.map(|_| WarmupReporter::new(report));
        self
    }

    /// Whether the device multiplies in that precision. The CPU emulates 16 bits, for tests, and
    /// gains nothing by it; GPUs without units for bf16 may emulate it, too.
    pub fn supports(&self, precision: Precision) -> bool {
        supports(&self.device, precision)
    }

    /// The fastest precision: bf16 or else f16 on a GPU with units for it, f32 on all others.
    pub fn best_precision(&self) -> Precision {
        let has_units = |precision: &Precision| {
            self.supports(*precision) && gpu_client::multiplies(&self.device, *precision)
        };
        let best = [Precision::Bf16, Precision::F16]
            .into_iter()
            .find(has_units);
        best.unwrap_or(Precision::F32)
    }

    /// f16, on a GPU that computes in it without units for it: no faster than f32, but in less
    /// memory.
    pub fn shorter_precision(&self) -> Option<Precision> {
        let saves = self.is_gpu()
            && self.best_precision() == Precision::F32
            && self.supports(Precision::F16);
        saves.then_some(Precision::F16)
    }

    /// burn's handle of the device.
    pub(crate) fn raw(&self) -> &Device {
        &self.device
    }

    /// Runs a measurement on the device, and reports kernel warm-ups meanwhile.
    pub(crate) fn watched<T>(&self, measure: impl FnOnce() -> T) -> T {
        self.warmup_watch().watch("measured", measure)
    }

    /// A watch for kernel warm-ups that reports to this device's reporter.
    pub(crate) fn warmup_watch(&self) -> WarmupWatch {
        WarmupWatch::new(self.reporter.clone())
    }

    /// The fault that tests injected.
    pub(crate) fn fault(&self) -> Option<InjectedFault> {
        self.fault.clone()
    }

    fn best_hardware_gpu() -> Option<Self> {
        let hardware = |gpu: &Gpu| gpu.kind != GpuKind::Software;
        let open = |gpu: Gpu| match open_gpu(&gpu) {
            Ok(device) => Some(device),
            Err(reason) => {
                tracing::warn!(kind = ?gpu.kind, reason, "a GPU cannot be opened and is skipped");
                None
            }
        };
        gpus().into_iter().filter(hardware).find_map(open)
    }

    fn open_number(number: usize, wanted: &str) -> Result<Self> {
        let gpus = gpus();
        let found = match gpus.len() {
            0 => "no Vulkan, Metal or DirectX 12 device was found".to_owned(),
            1 => "this machine has one GPU, number 0".to_owned(),
            many => format!("this machine has {many} GPUs, numbers 0 to {}", many - 1),
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
                    "install the GPU's driver (on Debian and Ubuntu also libvulkan1, and \
                     mesa-vulkan-drivers for AMD and Intel; in a container, pass the GPU through), \
                     or use --device cpu",
                )
            } else {
                refuse(found, "choose one of them, or use --device cpu")
            };
        };
        open_gpu(gpu).or_else(|reason| {
            refuse(
                format!("it cannot be opened ({reason})"),
                "update the GPU driver, or use --device cpu",
            )
        })
    }
}

/// Opens a GPU, reads its name, and has it add some numbers. Drivers report failures by panicking,
/// so panics are caught.
fn open_gpu(gpu: &Gpu) -> std::result::Result<OpenDevice, String> {
    let open = || {
        (
            gpu.device.identity().map(|identity| identity.name),
            trial_sum(&gpu.device),
            gpu_client::connection(&gpu.device),
        )
    };
    let (name, sum, connection) =
        catch_unwind(AssertUnwindSafe(open)).map_err(|panic| panic_message(&*panic))?;
    if sum? != TRIAL_SUM {
        return Err("it computes wrong results".to_owned());
    }
    let name = name.unwrap_or_else(|| "GPU".to_owned());
    let name = match gpu.backend {
        GpuBackend::Cuda => format!("{name} ({}, CUDA)", gpu.kind),
        GpuBackend::Rocm => format!("{name} ({}, ROCm)", gpu.kind),
        GpuBackend::Wgpu => format!("{name} ({})", gpu.kind),
    };
    let reporter = Some(WarmupReporter::log(name.clone()));
    Ok(OpenDevice {
        name,
        device: gpu.device.clone(),
        connection,
        fault: None,
        reporter,
    })
}

/// The sum of the numbers below [`TRIAL_NUMBERS`], exact in f32.
const TRIAL_SUM: f32 = (TRIAL_NUMBERS * (TRIAL_NUMBERS - 1) / 2) as f32;
const TRIAL_NUMBERS: i64 = 1024;

/// A device may open and yet run no kernel, or run it wrongly.
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
    use crate::kernel_cache::child::{CHILD, printed, start};
    use crate::kernel_cache::tuned;
    use crate::kernel_warmup::used_kernels;
    use weal_testing::require;

    #[test]
    fn device_names_round_trip() {
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
    fn the_automatic_choice_always_finds_a_device_and_never_a_software_gpu() {
        let device = OpenDevice::open(DeviceChoice::Auto).unwrap();
        assert!(!device.name().contains("software"), "{}", device.name());
    }

    #[test]
    fn a_missing_gpu_is_refused_with_a_hint() {
        let error = OpenDevice::open(DeviceChoice::GpuNumber(99)).unwrap_err();
        let (message, hint) = (error.to_string(), error.hint().unwrap());
        assert!(
            message.contains("GPU number 99") && hint.contains("--device cpu"),
            "{message}: {hint}"
        );
    }

    #[test]
    fn the_cpu_computes_in_f32_by_default() {
        let cpu = OpenDevice::cpu();
        assert_eq!(cpu.best_precision(), Precision::F32);
        assert!(cpu.supports(Precision::F32));
    }

    /// Opens a GPU and multiplies two small matrices. Prints the number of tuned shapes before and
    /// after, and the number of kernels used.
    fn use_a_gpu() {
        let gpu = OpenDevice::open(DeviceChoice::Gpu).unwrap();
        let before = tuned();
        let ones = || Tensor::<2>::ones([24, 24], gpu.raw());
        let product = gpu.watched(|| ones().matmul(ones()).sum().into_scalar::<f32>());
        assert_eq!(product, 24.0 * 24.0 * 24.0);
        println!("\nprinted {before} {} {}", tuned(), used_kernels());
    }

    #[test]
    fn a_second_start_tunes_nothing() {
        if std::env::var_os(CHILD).is_some() {
            return use_a_gpu();
        }
        if gpus().is_empty() {
            return require::skip(
                "tuning a GPU once",
                "it has no GPU, not even a software one",
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            printed(start(
                "device::tests::a_second_start_tunes_nothing",
                folder.path(),
                "use a GPU",
            ))
        };
        let [first, second] = [start(), start()];
        println!("{first:?}, then {second:?}");
        let [before, after, tried] = first[..] else {
            panic!("{first:?}")
        };
        assert!(after > before, "the product was not tuned: {first:?}");
        let [found, left, used] = second[..] else {
            panic!("{second:?}")
        };
        assert_eq!(
            (found, left),
            (after, after),
            "the second start finds all that the first one tuned, and adds nothing"
        );
        assert!(
            used < tried,
            "the second start tries {used} kernels, as the first one did {tried}"
        );
    }
}
