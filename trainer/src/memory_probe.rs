//! How much memory there is, as far as the system says.

use std::process::Command;

use crate::device::OpenDevice;
use crate::engine::{memory_capacity, memory_in_use};
use crate::gpus::{GpuKind, gpus};
use crate::memory_plan::{Room, Site};

/// A GPU's memory and driver, as its driver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverReport {
    /// The GPU's name.
    pub name: String,
    /// The driver's version.
    pub driver: String,
    /// Memory that nobody uses, in bytes.
    pub free: u64,
    /// All memory, in bytes.
    pub total: u64,
}

/// Memory of the machine that can be had, in bytes: what is free, and what the system would give
/// up. `None` where the system does not say.
pub fn free_host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// What NVIDIA's driver says of its GPUs, by its own tool; nothing where there is none.
pub fn driver_reports() -> Vec<DriverReport> {
    let query = [
        "--query-gpu=name,driver_version,memory.free,memory.total",
        "--format=csv,noheader,nounits",
    ];
    let Ok(said) = Command::new("nvidia-smi").args(query).output() else {
        return Vec::new();
    };
    if !said.status.success() {
        return Vec::new();
    }
    String::from_utf8_lossy(&said.stdout)
        .lines()
        .filter_map(read_report)
        .collect()
}

/// Name, driver, free and all memory in MiB.
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

/// Free memory of AMD's cards, one for each, in bytes.
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
        // Connectors lie beside their cards, and name the same device.
        let is_card = !card.file_name().to_string_lossy().contains('-');
        let total = read(device.join("mem_info_vram_total")).filter(|_| is_card)?;
        Some(total.saturating_sub(read(device.join("mem_info_vram_used"))?))
    };
    cards.flatten().filter_map(free).collect()
}

impl OpenDevice {
    /// Where training on this device runs, and with how much memory. `cap` is the most that its
    /// owner gives it: of the GPU's memory, or on the processor of the machine's.
    pub fn site(&self, cap: Option<u64>) -> Site {
        let least = |known: Option<u64>| match (known, cap) {
            (Some(known), Some(cap)) => Some(known.min(cap)),
            (known, cap) => known.or(cap),
        };
        let host = free_host_memory();
        if !self.is_gpu() {
            let threads = Some(rayon::current_num_threads());
            let room = Room {
                device: None,
                host: least(host),
            };
            return Site {
                threads,
                precision: self.best_precision(),
                room,
            };
        }
        Site {
            threads: None,
            precision: self.best_precision(),
            room: Room {
                device: least(self.free_memory()),
                host,
            },
        }
    }

    /// Bytes of a GPU's memory that its allocator has set aside for this process; `None` on the
    /// processor.
    pub fn memory_in_use(&self) -> Option<u64> {
        memory_in_use(self.raw())
    }

    /// Memory that this GPU can give, in bytes: what its driver calls free, or else all it has.
    /// `None` where nobody says.
    pub fn free_memory(&self) -> Option<u64> {
        let is_shared = |kind| matches!(kind, GpuKind::Integrated | GpuKind::Software);
        let gpus = gpus();
        if gpus.iter().any(|gpu| is_shared(gpu.kind) && gpu.is(self)) {
            return free_host_memory();
        }
        let reports = driver_reports();
        let named = reports
            .iter()
            .find(|report| self.name().contains(&report.name))
            .map(|report| report.free);
        let amd = amd_free_memory();
        let only = (amd.len() == 1 && reports.is_empty()).then(|| amd[0]);
        // What this process has already is its own to use.
        let own = self.memory_in_use().unwrap_or(0);
        named
            .or(only)
            .map(|free| free + own)
            .or_else(|| memory_capacity(self.raw()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drivers_line_is_read() {
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
    fn a_cap_is_honoured() {
        let site = OpenDevice::cpu().site(Some(1_000_000));
        assert_eq!(
            site.room,
            Room {
                device: None,
                host: Some(1_000_000)
            }
        );
        assert!(site.threads.is_some());
    }
}
