//! How much memory the GPU and the machine have free, as far as the system reports it.

use std::process::Command;

use crate::device::OpenDevice;
use crate::gpu_client;
use crate::gpus::{GpuKind, gpus};
use crate::memory_plan::{MemoryBudget, MemoryPlanner};

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

/// Bytes of host memory that a program can still get: free memory and the caches that the system
/// would drop. `None` if the system does not report it.
pub fn free_host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
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
            };
            return MemoryPlanner {
                threads,
                precision: self.best_precision(),
                budget,
            };
        }
        MemoryPlanner {
            threads: None,
            precision: self.best_precision(),
            budget: MemoryBudget {
                device: least(self.free_memory()),
                host,
            },
        }
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
        let named = reports
            .iter()
            .find(|report| self.name().contains(&report.name))
            .map(|report| report.free);
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
    fn a_cap_limits_the_budget() {
        let planner = OpenDevice::cpu().memory_planner(Some(1_000_000));
        assert_eq!(
            planner.budget,
            MemoryBudget {
                device: None,
                host: Some(1_000_000)
            }
        );
        assert!(planner.threads.is_some());
    }
}
