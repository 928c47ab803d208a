//! The error feedback, and compressing the pseudo-gradient where it is: on a GPU by the kernel, on
//! the CPU by the reference implementation, to the same bytes.
//!
//! The error feedback stays with the engine from round to round. On a GPU it is one buffer per
//! tensor, as the weights are. The kernel runs on the same client and stream as burn's own work
//! there, so nothing has to wait and only the records leave the device.

use std::mem;

use burn::backend::Cube;
use burn::tensor::Tensor;
use weal_kernels::{Compression, Layout, gpu};

use crate::engine::transfer::Transfer;
use crate::error::Result;
use crate::gpu_client::{CubeTensor, buffer};

type KernelResult<T> = std::result::Result<T, weal_kernels::Error>;

/// The error feedback: one value for every parameter.
pub(super) enum ErrorFeedback {
    /// Nothing was compressed yet: all zeros.
    Zeros,
    /// In host memory, flat.
    Host(Vec<f32>),
    /// On the device, one flat tensor for each tensor of the layout.
    Device(Vec<Tensor<1>>),
}

impl ErrorFeedback {
    /// The values, flat, in the layout's order.
    pub(super) fn flat(&self, transfer: &Transfer, action: &'static str) -> Result<Vec<f32>> {
        match self {
            Self::Zeros => Ok(vec![0.0; transfer.layout().parameters()]),
            Self::Host(error) => Ok(error.clone()),
            Self::Device(tensors) => transfer.read_all(tensors, action),
        }
    }

    /// Compresses the pseudo-gradient, `base` minus `weights`, on the GPU. On an error the error
    /// feedback stays as it is.
    pub(super) fn compress_on_device(
        &mut self,
        transfer: &Transfer,
        compression: &Compression,
        base: &[f32],
        weights: &[Tensor<2>],
    ) -> KernelResult<Vec<u8>> {
        let (layout, device) = (transfer.layout(), transfer.device());
        let upload = |values: &[f32]| Tensor::<1>::from_data(values, device);
        let error: Vec<Tensor<1>> = match self {
            Self::Zeros => layout
                .ranges()
                .map(|part| Tensor::zeros([part.len()], device))
                .collect(),
            Self::Host(error) => layout.ranges().map(|part| upload(&error[part])).collect(),
            Self::Device(tensors) => tensors.clone(),
        };
        let delta = layout.ranges().zip(weights).map(|(part, weight)| {
            upload(&base[part.clone()]) - weight.clone().reshape([part.len()])
        });
        let (body, left) = compress_tensors(layout, compression, error, delta.collect())?;
        *self = Self::Device(left);
        Ok(body)
    }

    /// Compresses the pseudo-gradient `delta` on the CPU. Also returns a vector that is no longer
    /// needed, for reuse. On an error the error feedback stays as it is.
    pub(super) fn compress_on_host(
        &mut self,
        transfer: &Transfer,
        compression: &Compression,
        mut delta: Vec<f32>,
    ) -> Result<(KernelResult<Vec<u8>>, Vec<f32>)> {
        if let Self::Device(tensors) = self {
            *self = Self::Host(transfer.read_all(tensors, "reading the error feedback back")?);
        }
        let error = match mem::replace(self, Self::Zeros) {
            Self::Host(error) => error,
            _ => vec![0.0; delta.len()],
        };
        let body = weal_kernels::compress(transfer.layout(), compression, &error, &mut delta);
        let (kept, spare) = if body.is_ok() {
            (delta, error)
        } else {
            (error, delta)
        };
        *self = Self::Host(kept);
        Ok((body, spare))
    }
}

/// Compresses the pseudo-gradient `delta` with the GPU kernel. Returns the body of the contribution
/// and the new error feedback, which takes the place of `delta`.
pub(crate) fn compress_tensors(
    layout: &Layout,
    compression: &Compression,
    error: Vec<Tensor<1>>,
    delta: Vec<Tensor<1>>,
) -> KernelResult<(Vec<u8>, Vec<Tensor<1>>)> {
    let buffers =
        |tensors: Vec<Tensor<1>>| tensors.into_iter().map(buffer).collect::<Option<Vec<_>>>();
    let unfit = || weal_kernels::Error::Device {
        why: "its tensors are not contiguous f32 buffers".to_owned(),
    };
    let error = buffers(error).ok_or_else(unfit)?;
    let delta = buffers(delta).ok_or_else(unfit)?;
    let handles = |tensors: &[CubeTensor]| -> Vec<_> {
        tensors.iter().map(|tensor| tensor.handle.clone()).collect()
    };
    let client = &delta.first().ok_or_else(unfit)?.client;
    let body = gpu::compress(
        client,
        layout,
        compression,
        &handles(&error),
        &handles(&delta),
    )?;
    let left = delta.into_iter().map(Tensor::from_primitive::<Cube>);
    Ok((body, left.collect()))
}
