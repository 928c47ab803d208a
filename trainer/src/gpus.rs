//! The GPUs of this machine, as the compiled-in backends list them.
//!
//! | feature | backend | GPUs |
//! |---|---|---|
//! | `cuda` | CUDA | NVIDIA's |
//! | `rocm` | HIP | AMD's |
//! | always | wgpu: Vulkan, Metal or DirectX 12 | all |
//!
//! wgpu compiles WGSL by default, SPIR-V with the feature `vulkan`, MSL with the feature `metal`.

use std::fmt;
use std::panic::catch_unwind;

use burn::tensor::{Device, DeviceKind, DeviceType};

use crate::kernel_cache;

/// The most GPUs of one kind that are listed.
const MAX_GPUS: usize = 16;

/// What kind of graphics device a [`Gpu`] is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuKind {
    /// A card with its own memory.
    Discrete,
    /// A GPU passed through to a virtual machine.
    Virtual,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU emulated on the CPU (lavapipe, llvmpipe, WARP).
    Software,
}

impl fmt::Display for GpuKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Virtual => "virtual GPU",
            Self::Integrated => "integrated GPU",
            Self::Software => "a software GPU",
        })
    }
}

/// The interface through which a [`Gpu`] is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    /// NVIDIA's CUDA.
    Cuda,
    /// AMD's HIP.
    Rocm,
    /// Vulkan, Metal or DirectX 12.
    Wgpu,
}

impl fmt::Display for GpuBackend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cuda => "CUDA",
            Self::Rocm => "ROCm",
            Self::Wgpu => "wgpu",
        })
    }
}

/// A GPU that can be opened.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// Discrete, virtual, integrated or software.
    pub kind: GpuKind,
    /// CUDA, HIP or wgpu.
    pub backend: GpuBackend,
    pub(crate) device: Device,
}

/// Lists the GPUs of this machine, best first, without opening them. A card that two backends can
/// use is listed twice, first under its vendor's backend.
pub fn gpus() -> Vec<Gpu> {
    kernel_cache::set_up();
    through_vendor_backends()
        .into_iter()
        .chain(through_wgpu())
        .collect()
}

/// Whether a device is a GPU emulated on the CPU.
pub(crate) fn is_software(device: &Device) -> bool {
    *device == Device::wgpu(DeviceKind::Cpu)
}

/// The GPUs that CUDA and HIP list. Neither reports the kind.
fn through_vendor_backends() -> Vec<Gpu> {
    let backends: &[(GpuBackend, DeviceType)] = &[
        #[cfg(feature = "cuda")]
        (GpuBackend::Cuda, DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        (GpuBackend::Rocm, DeviceType::Rocm),
    ];
    let found = |(backend, which): &(GpuBackend, DeviceType)| {
        let backend = *backend;
        present(which.clone()).into_iter().map(move |device| Gpu {
            kind: GpuKind::Discrete,
            backend,
            device,
        })
    };
    backends.iter().flat_map(found).collect()
}

fn through_wgpu() -> Vec<Gpu> {
    let present = present(DeviceType::Wgpu);
    let candidates = |kind: GpuKind, device: fn(usize) -> DeviceKind, most: usize| {
        (0..most).map(move |number| Gpu {
            kind,
            backend: GpuBackend::Wgpu,
            device: Device::wgpu(device(number)),
        })
    };
    candidates(GpuKind::Discrete, DeviceKind::DiscreteGpu, MAX_GPUS)
        .chain(candidates(
            GpuKind::Virtual,
            DeviceKind::VirtualGpu,
            MAX_GPUS,
        ))
        .chain(candidates(
            GpuKind::Integrated,
            DeviceKind::IntegratedGpu,
            MAX_GPUS,
        ))
        .chain(candidates(GpuKind::Software, |_| DeviceKind::Cpu, 1))
        .filter(|gpu| present.contains(&gpu.device))
        .collect()
}

/// The devices of one backend. A broken driver may panic when it is queried; its devices are
/// unusable then.
fn present(which: DeviceType) -> Vec<Device> {
    catch_unwind(|| Device::enumerate(which).into_vec()).unwrap_or_default()
}
