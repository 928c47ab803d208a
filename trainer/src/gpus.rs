//! The GPUs of this machine, as the backends see them that were compiled in.
//!
//! | feature | backend | GPUs |
//! |---|---|---|
//! | `cuda` | CUDA | NVIDIA's |
//! | `rocm` | HIP | AMD's |
//! | always | wgpu: Vulkan, Metal or DirectX 12 | all |
//!
//! wgpu compiles WGSL; with the feature `vulkan` SPIR-V on Vulkan, with `metal` MSL on Metal.

use std::fmt;
use std::panic::catch_unwind;

use burn::tensor::{Device, DeviceKind, DeviceType};

use crate::device::OpenDevice;
use crate::kernel_cache;

/// GPUs of one kind that are looked for.
const MOST_GPUS: usize = 16;

/// What kind of graphics device a [`Gpu`] is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuKind {
    /// A card with its own memory.
    Discrete,
    /// A GPU handed to a virtual machine.
    Virtual,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU that the processor imitates (lavapipe, llvmpipe, WARP).
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

/// What a [`Gpu`] is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    /// NVIDIA's own interface.
    Cuda,
    /// AMD's own interface.
    Rocm,
    /// Vulkan, Metal or DirectX 12.
    Wgpu,
}

/// A GPU that can be opened.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// What it is.
    pub kind: GpuKind,
    /// What it is reached through.
    pub backend: GpuBackend,
    pub(crate) device: Device,
}

impl Gpu {
    /// Whether it is that device.
    pub(crate) fn is(&self, device: &OpenDevice) -> bool {
        self.device == *device.raw()
    }
}

/// The graphics devices of this machine, best first; none of them is opened. A card that two
/// backends reach is there twice, first under its maker's own interface.
pub fn gpus() -> Vec<Gpu> {
    kernel_cache::set_up();
    own_interfaces().into_iter().chain(through_wgpu()).collect()
}

/// What is found under the makers' own interfaces, none of which tells the kind.
fn own_interfaces() -> Vec<Gpu> {
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
    candidates(GpuKind::Discrete, DeviceKind::DiscreteGpu, MOST_GPUS)
        .chain(candidates(
            GpuKind::Virtual,
            DeviceKind::VirtualGpu,
            MOST_GPUS,
        ))
        .chain(candidates(
            GpuKind::Integrated,
            DeviceKind::IntegratedGpu,
            MOST_GPUS,
        ))
        .chain(candidates(GpuKind::Software, |_| DeviceKind::Cpu, 1))
        .filter(|gpu| present.contains(&gpu.device))
        .collect()
}

/// The devices of one backend. A broken driver may panic in the middle of being asked; then there
/// is none to use.
fn present(which: DeviceType) -> Vec<Device> {
    catch_unwind(|| Device::enumerate(which).into_vec()).unwrap_or_default()
}
