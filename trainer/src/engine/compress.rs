//! What was learnt, compressed where it lives: on a GPU by the kernel, on the processor by the
//! reference, to the same bytes.
//!
//! The error feedback stays with the engine from round to round. On a GPU it is one buffer a
//! tensor, as the weights are; the kernel runs on the same client and stream as everything else
//! that burn does there, so that nothing has to wait and only the records leave the device.

use std::mem;
use std::time::Instant;

use burn::backend::Cube;
use burn::tensor::{DType, Device, Tensor};
use weal_kernels::{Compression, Layout, gpu, pseudo_gradient};

use crate::engine::states::States;
use crate::engine::tensors::Engine;
use crate::error::{Error, Result};

/// The error feedback, one value for every parameter.
pub(super) enum ErrorFeedback {
    /// Nothing was compressed yet: all zeros.
    Zeros,
    /// On the processor, flat.
    Host(Vec<f32>),
    /// On the device, flat, for each tensor of the layout.
    Device(Vec<Tensor<1>>),
}

impl Engine {
    /// Compresses the pseudo-gradient, `base` minus the engine's weights, to the body of a
    /// contribution, and makes what is left of it the error feedback. On an error the error
    /// feedback stays as it is.
    pub fn compress(&mut self, compression: &Compression, base: &[f32]) -> Result<Vec<u8>> {
        self.guarded("compressed what was learnt", |engine| {
            engine.ensure_weights();
            if engine.device == Device::flex() || matches!(engine.states, States::Host(_)) {
                return engine.compress_on_host(compression, base);
            }
            match engine.compress_on_device(compression, base) {
                Err(weal_kernels::Error::Device { why }) => {
                    tracing::warn!(why, "compressing on the processor");
                    engine.compress_on_host(compression, base)
                }
                done => done.map_err(Error::Compress),
            }
        })
    }

    /// The error feedback, flat.
    pub fn error_feedback(&mut self) -> Result<Vec<f32>> {
        let action = "read the error feedback back";
        self.guarded(action, |engine| match &engine.error {
            ErrorFeedback::Zeros => Ok(vec![0.0; engine.layout.parameters()]),
            ErrorFeedback::Host(error) => Ok(error.clone()),
            ErrorFeedback::Device(tensors) => engine.join(tensors, action),
        })
    }

    /// Takes over an error feedback.
    pub fn set_error_feedback(&mut self, error: Vec<f32>) {
        self.error = ErrorFeedback::Host(error);
    }

    /// Whether the last call of [`Self::compress`] was done on a GPU.
    #[cfg(test)]
    pub fn compresses_on_device(&self) -> bool {
        matches!(self.error, ErrorFeedback::Device(_))
    }

    fn compress_on_device(
        &mut self,
        compression: &Compression,
        base: &[f32],
    ) -> std::result::Result<Vec<u8>, weal_kernels::Error> {
        let parts = || self.layout.ranges();
        let upload = |values: &[f32]| Tensor::<1>::from_data(values, &self.device);
        let error: Vec<Tensor<1>> = match &self.error {
            ErrorFeedback::Zeros => parts()
                .map(|part| Tensor::zeros([part.len()], &self.device))
                .collect(),
            ErrorFeedback::Host(error) => parts().map(|part| upload(&error[part])).collect(),
            ErrorFeedback::Device(tensors) => tensors.clone(),
        };
        let weights = parts().zip(self.learnt_weights());
        let delta = weights.map(|(part, weight)| {
            upload(&base[part.clone()]) - weight.clone().reshape([part.len()])
        });
        let (body, left) = compress_tensors(&self.layout, compression, error, delta.collect())?;
        self.error = ErrorFeedback::Device(left);
        Ok(body)
    }

    fn compress_on_host(&mut self, compression: &Compression, base: &[f32]) -> Result<Vec<u8>> {
        let mut delta = match &mut self.states {
            // Between two steps nothing is added up: its memory serves for this.
            States::Host(states) => states.copy_of_weights(),
            States::Device(_) => self.join(self.learnt_weights(), "read the weights back")?,
        };
        pseudo_gradient(base, &mut delta).map_err(Error::Compress)?;
        if let ErrorFeedback::Device(tensors) = &self.error {
            self.error = ErrorFeedback::Host(self.join(tensors, "read the error feedback back")?);
        }
        let error = match mem::replace(&mut self.error, ErrorFeedback::Zeros) {
            ErrorFeedback::Host(error) => error,
            _ => vec![0.0; delta.len()],
        };
        let body = weal_kernels::compress(&self.layout, compression, &error, &mut delta);
        let (kept, spare) = if body.is_ok() {
            (delta, error)
        } else {
            (error, delta)
        };
        self.error = ErrorFeedback::Host(kept);
        if let States::Host(states) = &mut self.states {
            states.gradients = spare;
        }
        body.map_err(Error::Compress)
    }
}

/// Compresses the pseudo-gradient `delta` by the kernel; returns the body and what is left, which
/// is where `delta` was.
fn compress_tensors(
    layout: &Layout,
    compression: &Compression,
    error: Vec<Tensor<1>>,
    delta: Vec<Tensor<1>>,
) -> std::result::Result<(Vec<u8>, Vec<Tensor<1>>), weal_kernels::Error> {
    let primitives = |tensors: Vec<Tensor<1>>| {
        tensors
            .into_iter()
            .map(primitive)
            .collect::<Option<Vec<_>>>()
    };
    let unfit = || weal_kernels::Error::Device {
        why: "its tensors are no plain buffers of f32".to_owned(),
    };
    let (error, delta) = (
        primitives(error).ok_or_else(unfit)?,
        primitives(delta).ok_or_else(unfit)?,
    );
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
    Ok((
        body,
        delta
            .into_iter()
            .map(Tensor::from_primitive::<Cube>)
            .collect(),
    ))
}

/// How fast a GPU compresses, next to how fast it copies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompressSpeed {
    /// From pseudo-gradient to body, in seconds: the kernel, its records on their way out, and the
    /// body put together.
    pub compress_seconds: f64,
    /// Copying as many values on the device, in seconds.
    pub copy_seconds: f64,
}

/// Measures on `device`, a GPU: the best of `runs`.
pub(crate) fn compress_speed(
    device: &Device,
    compression: &Compression,
    layout: &Layout,
    (error, delta): (&[f32], &[f32]),
    runs: usize,
) -> std::result::Result<CompressSpeed, String> {
    let upload = |values: &[f32]| -> Vec<Tensor<1>> {
        layout
            .ranges()
            .map(|part| Tensor::from_data(&values[part], device))
            .collect()
    };
    let (mut error, mut delta) = (upload(error), upload(delta));
    let synced = || device.sync().map_err(|error| error.to_string());
    let mut speed = CompressSpeed {
        compress_seconds: f64::INFINITY,
        copy_seconds: f64::INFINITY,
    };
    // The first run compiles.
    for _ in 0..=runs {
        synced()?;
        let start = Instant::now();
        let compressed = compress_tensors(layout, compression, error, delta.clone());
        let (_, left) = compressed.map_err(|error| error.to_string())?;
        synced()?;
        speed.compress_seconds = speed.compress_seconds.min(start.elapsed().as_secs_f64());
        // What is left is the next error feedback, and its copy as good a pseudo-gradient as any.
        error = left;
        let start = Instant::now();
        delta = error
            .iter()
            .map(|tensor| tensor.clone().add_scalar(0.0))
            .collect();
        synced()?;
        speed.copy_seconds = speed.copy_seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(speed)
}

/// Bytes of a GPU's memory that are set aside for this process; `None` on the processor.
pub(crate) fn memory_in_use(device: &Device) -> Option<u64> {
    if *device == Device::flex() {
        return None;
    }
    Some(gpu::memory_bytes(
        &primitive(Tensor::zeros([1], device))?.client,
    ))
}

/// The connection to a GPU, where it can be made anew; `None` on the processor, which needs none.
pub(crate) fn connection(device: &Device) -> Option<gpu::Connection> {
    if *device == Device::flex() {
        return None;
    }
    gpu::Connection::of(&primitive(Tensor::zeros([1], device))?.client)
}

/// Bytes of memory that a GPU has, where its driver tells; `None` on the processor.
pub(crate) fn memory_capacity(device: &Device) -> Option<u64> {
    if *device == Device::flex() {
        return None;
    }
    primitive(Tensor::zeros([1], device))?
        .client
        .properties()
        .memory
        .max_memory()
}

type CubeTensor = <Cube as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// A tensor's buffer, if it is a plain one on a GPU.
fn primitive(tensor: Tensor<1>) -> Option<CubeTensor> {
    let primitive = tensor.try_into_primitive::<Cube>().ok()?;
    (primitive.dtype == DType::F32 && primitive.meta.strides()[..] == [1]).then_some(primitive)
}
