//! How much memory training may use: what the GPU's driver and the machine report as free.

use std::process::Command;

use crate::device::OpenDevice;
use crate::error::Result;
use crate::gpu_client;
use crate::gpus::{GpuKind, gpus};
use crate::host_memory::free_host_memory;
use crate::memory_plan::{MemoryBudget, MemoryPlanner};
use crate::spec::ModelSpec;

/// What a GPU's driver reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverReport {
    /// The GPU's name.
    pub name: String,
    /// The driver's version.
    pub driver: String,
    /// Free memory, in bytes.
    pub free: u64,
    /// Total memory, in bytes.
    pub total: u64,
}

/// What `nvidia-smi` reports; empty if the machine does not have it.
pub fn driver_reports() -> Vec<DriverReport> {
    let query = [
        "--query-gpu=name,driver_version,memory.free,memory.total",
        "--format=csv,noheader,nounits",
    ];
    let Ok(output) = Command::new("nvidia-smi").args(query).output() else {
        return Vec::new();
    };
    if !output.status.success() {
        return Vec::new();
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(read_report)
        .collect()
}

/// Parses name, driver, free and total memory in MiB.
fn read_report(line: &str) -> Option<DriverReport> {
    let mut fields = line.split(',').map(str::trim);
    let (name, driver) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    let mut mebibytes = || Some(fields.next()?.parse::<u64>().ok()? << 20);
    Some(DriverReport {
        name,
        driver,
        free: mebibytes()?,
        total: mebibytes()?,
    })
}

/// See [`OpenDevice::longest_text`].
fn text_within(free: u64, model: &ModelSpec) -> Result<usize> {
    const LEAST: usize = 2048;
    let weights = 4 * model.layout()?.parameters() as u64;
    // Keys and values of every layer, and the rotary tables. While the cache grows, the old one and
    // the new one are alive.
    let a_token = 2 * 4 * (2 * model.layers * model.kv_width() + 4 * model.head_width()) as u64;
    // The rest is for scores, and for whatever else runs on the machine.
    let tokens = free.saturating_sub(weights) / 2 / a_token.max(1);
    let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
    Ok(tokens.max(LEAST).min(model.context))
}

/// Free memory of a device, by its name. Of several GPUs with that name, the least: nothing tells
/// which of them the device is.
fn free_memory_of(device: &str, reports: &[DriverReport]) -> Option<u64> {
    // The device's name is the GPU's and, in parentheses, how it is used.
    let gpu = device.rsplit_once(" (").map_or(device, |(gpu, _)| gpu);
    let same = reports.iter().filter(|report| report.name == gpu);
    let free = same.map(|report| report.free).min();
    free.or_else(|| {
        // Drivers may add something, as in `…/PCIe/SSE2`. ` Ti` and `S` make it another GPU.
        let same = |report: &&DriverReport| {
            let rest = gpu.split_once(&report.name).map(|(_, rest)| rest);
            rest.is_some_and(|rest| {
                !rest.starts_with(|next: char| next == ' ' || next.is_alphanumeric())
            })
        };
        reports.iter().filter(same).map(|report| report.free).min()
    })
}

/// Free memory of each AMD card, in bytes.
fn amd_free_memory() -> Vec<u64> {
    let Ok(cards) = std::fs::read_dir("/sys/class/drm") else {
        return Vec::new();
    };
    let read = |path: std::path::PathBuf| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let free = |card: std::fs::DirEntry| {
        let device = card.path().join("device");
        // Connectors are listed beside their cards and link to the same device.
        let is_card = !card.file_name().to_string_lossy().contains('-');
        let total = read(device.join("mem_info_vram_total")).filter(|_| is_card)?;
        Some(total.saturating_sub(read(device.join("mem_info_vram_used"))?))
    };
    cards.flatten().filter_map(free).collect()
}

impl OpenDevice {
    /// A planner for training on this device within the memory that is free now. `cap` limits the
    /// memory further, in bytes: the GPU's, or the host's if the device is the CPU.
    pub fn memory_planner(&self, cap: Option<u64>) -> MemoryPlanner {
        let least = |known: Option<u64>| match (known, cap) {
            (Some(known), Some(cap)) => Some(known.min(cap)),
            (known, cap) => known.or(cap),
        };
        let host = free_host_memory();
        if !self.is_gpu() {
            let threads = Some(rayon::current_num_threads());
            let budget = MemoryBudget {
                device: None,
                host: least(host),
                buffer: None,
            };
            return MemoryPlanner {
                threads,
                precision: self.best_precision(),
                shorter: None,
                budget,
            };
        }
        MemoryPlanner {
            threads: None,
            precision: self.best_precision(),
            shorter: self.shorter_precision(),
            budget: MemoryBudget {
                device: least(self.free_memory()),
                host,
                buffer: gpu_client::largest_buffer(self.raw()),
            },
        }
    }

    /// How many tokens of a text fit the memory that is free now, beside the model's weights: at
    /// most the model's context, and at least 2048 of it. Memory is taken as the text grows.
    ///
    /// # Errors
    /// If the model is out of range.
    pub fn longest_text(&self, model: &ModelSpec) -> Result<usize> {
        let free = if self.is_gpu() {
            self.free_memory()
        } else {
            free_host_memory()
        };
        free.map_or(Ok(model.context), |free| text_within(free, model))
    }

    /// Bytes of GPU memory that the allocator of this process has reserved; `None` on the CPU.
    pub fn memory_in_use(&self) -> Option<u64> {
        gpu_client::memory_in_use(self.raw())
    }

    /// Bytes of GPU memory that training can use: what the driver reports as free plus what this
    /// process holds already, or else the GPU's total. `None` if neither is reported.
    pub fn free_memory(&self) -> Option<u64> {
        let is_shared = |kind| matches!(kind, GpuKind::Integrated | GpuKind::Software);
        let is_this = |gpu: &crate::gpus::Gpu| gpu.device == *self.raw();
        if gpus().iter().any(|gpu| is_shared(gpu.kind) && is_this(gpu)) {
            return free_host_memory();
        }
        let reports = driver_reports();
        let named = free_memory_of(self.name(), &reports);
        let amd = amd_free_memory();
        let only = (amd.len() == 1 && reports.is_empty()).then(|| amd[0]);
        let in_use = self.memory_in_use().unwrap_or(0);
        named
            .or(only)
            .map(|free| free + in_use)
            .or_else(|| gpu_client::memory_capacity(self.raw()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nvidia_smi_line_is_parsed() {
        let report = read_report("NVIDIA GeForce RTX 3060, 550.54.14, 11000, 12288").unwrap();
        assert_eq!(
            (report.name.as_str(), report.driver.as_str()),
            ("NVIDIA GeForce RTX 3060", "550.54.14")
        );
        assert_eq!((report.free, report.total), (11_000 << 20, 12_288 << 20));
        for wrong in ["", "name, 1", "name, 1, [N/A], 3"] {
            assert_eq!(read_report(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_gpu_gets_its_own_memory_and_not_that_of_a_namesake() {
        let report = |name: &str, free| DriverReport {
            name: name.to_owned(),
            driver: "550".to_owned(),
            free,
            total: 24 << 30,
        };
        let reports = [
            report("NVIDIA GeForce RTX 3060", 11),
            report("NVIDIA GeForce RTX 3060 Ti", 7),
            report("NVIDIA L4", 22),
            report("NVIDIA L4", 20),
        ];
        for (device, free) in [
            ("NVIDIA GeForce RTX 3060 (discrete GPU)", Some(11)),
            ("NVIDIA GeForce RTX 3060 Ti (discrete GPU)", Some(7)),
            ("NVIDIA GeForce RTX 3060 Ti (discrete GPU, CUDA)", Some(7)),
            (
                "NVIDIA GeForce RTX 3060 Ti/PCIe/SSE2 (discrete GPU)",
                Some(7),
            ),
            ("NVIDIA L4 (discrete GPU)", Some(20)),
            ("NVIDIA L40S (discrete GPU)", None),
            ("AMD Radeon (discrete GPU)", None),
        ] {
            assert_eq!(free_memory_of(device, &reports), free, "{device}");
        }
    }

    #[test]
    fn a_gpu_tells_the_largest_buffer_that_its_driver_allocates() {
        if gpus().is_empty() {
            return weal_testing::require::skip(
                "asking a GPU for its limits",
                "it has no GPU, not even a software one",
            );
        }
        let gpu = OpenDevice::open(crate::device::DeviceChoice::Gpu).unwrap();
        let buffer = gpu.memory_planner(None).budget.buffer.unwrap();
        assert!((1 << 26..1 << 44).contains(&buffer), "{buffer}");
    }

    #[test]
    fn a_long_text_has_as_many_tokens_as_fit() {
        // Llama-3.2-1B: 4.9 GB of weights, 64 KiB of keys and values a token.
        let model = ModelSpec {
            vocabulary: 128_256,
            width: 2048,
            layers: 16,
            heads: 32,
            kv_heads: 8,
            feed_forward: 8192,
            context: 131_072,
            ..ModelSpec::preset("1b").unwrap()
        };
        let tokens = |gigabytes: u64| text_within(gigabytes * 1_000_000_000, &model).unwrap();
        assert_eq!(tokens(2), 2048);
        assert!((5_000..20_000).contains(&tokens(8)), "{}", tokens(8));
        assert_eq!(tokens(64), 131_072);
        let short = ModelSpec {
            context: 512,
            ..model.clone()
        };
        assert_eq!(text_within(0, &short).unwrap(), 512);
    }

    #[test]
    fn a_cap_limits_the_budget() {
        let planner = OpenDevice::cpu().memory_planner(Some(1_000_000));
        assert_eq!(
            planner.budget,
            MemoryBudget {
                device: None,
                host: Some(1_000_000),
                buffer: None,
            }
        );
        assert!(planner.threads.is_some());
    }
}
