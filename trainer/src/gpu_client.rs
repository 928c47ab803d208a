//! The CubeCL client behind a GPU: its buffers, its memory, its connection.
//!
//! burn hides these behind [`Device`]; a tensor of one element gives access to them.

use burn::backend::{BackendTypes, Cube};
use burn::tensor::{DType, Device, Tensor};
use cubecl::ir::{ElemType, FloatKind};
use weal_kernels::gpu::{self, Connection};

use crate::compute_plan::Precision;

/// A tensor on a GPU, with its client and its buffer.
pub(crate) type CubeTensor = <Cube as BackendTypes>::FloatTensorPrimitive;

/// The buffer of a tensor, if it is contiguous f32 on a GPU.
pub(crate) fn buffer(tensor: Tensor<1>) -> Option<CubeTensor> {
    let primitive = tensor.try_into_primitive::<Cube>().ok()?;
    (primitive.dtype == DType::F32 && primitive.meta.strides()[..] == [1]).then_some(primitive)
}

/// Bytes of GPU memory that the allocator of this process has reserved; `None` on the CPU.
pub(crate) fn memory_in_use(device: &Device) -> Option<u64> {
    Some(gpu::memory_bytes(&probe(device)?.client))
}

/// Bytes of memory that a GPU has, if its driver reports them; `None` on the CPU.
pub(crate) fn memory_capacity(device: &Device) -> Option<u64> {
    probe(device)?.client.properties().memory.max_memory()
}

/// Bytes of the largest buffer that a GPU's driver allocates; `None` on the CPU.
pub(crate) fn largest_buffer(device: &Device) -> Option<u64> {
    Some(probe(device)?.client.properties().memory.max_page_size)
}

/// Whether a GPU has units that multiply matrices of that precision: drivers may emulate what they
/// have no units for. False on the CPU.
pub(crate) fn multiplies(device: &Device, precision: Precision) -> bool {
    let kind = ElemType::Float(match precision {
        Precision::F32 => FloatKind::F32,
        Precision::F16 => FloatKind::F16,
        Precision::Bf16 => FloatKind::BF16,
    });
    probe(device).is_some_and(|probe| {
        let units = &probe.client.properties().features.matmul;
        units
            .cmma
            .iter()
            .chain(&units.mma)
            .any(|unit| unit.a_type == kind)
    })
}

/// The connection to a GPU, if the backend can open a new one; `None` on the CPU.
pub(crate) fn connection(device: &Device) -> Option<Connection> {
    Connection::of(&probe(device)?.client)
}

fn probe(device: &Device) -> Option<CubeTensor> {
    if *device == Device::flex() {
        return None;
    }
    buffer(Tensor::zeros([1], device))
}
