//! Sums of a step's gradients, in f32. Each gradient is added as soon as it is computed, so that no
//! second copy of all gradients exists.

use std::mem;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData, Transaction};
use half::{bf16, f16};
use rayon::prelude::*;
use weal_kernels::Layout;

/// The most gradient values read from the device at once.
const READ_AT_ONCE: usize = 1 << 24;

/// A sink that sums gradients up as they are computed.
pub(super) trait Accumulate: Sync {
    /// Adds gradients, each with the index of its tensor in the layout.
    fn add(&self, gradients: Vec<(usize, Tensor<2>)>);

    /// Adds `values`, in f32, to rows of one tensor's gradient.
    fn add_rows(&self, tensor: usize, rows: &Rows<'_>, values: Tensor<2>);
}

/// The row to which each row of some values is added. A row may come more than once.
pub(super) struct Rows<'a> {
    pub on_host: &'a [u32],
    /// `[rows]`
    pub on_device: &'a Tensor<1, Int>,
}

impl Rows<'_> {
    /// Adds a row of `values` to each of these rows of `sum`.
    pub(super) fn add_to(&self, sum: Tensor<2>, values: Tensor<2>) -> Tensor<2> {
        sum.select_assign(0, self.on_device.clone(), values, IndexingUpdateOp::Add)
    }
}

/// Sums in host memory, one slice for each tensor.
pub(super) struct HostSums<'a> {
    parts: Vec<Mutex<&'a mut [f32]>>,
}

impl<'a> HostSums<'a> {
    pub(super) fn new(layout: &Layout, mut sums: &'a mut [f32]) -> Self {
        let mut parts = Vec::new();
        for range in layout.ranges() {
            let (part, rest) = mem::take(&mut sums).split_at_mut(range.len());
            parts.push(Mutex::new(part));
            sums = rest;
        }
        Self { parts }
    }
}

impl Accumulate for HostSums<'_> {
    /// # Panics
    /// If the device fails, as burn's own reads do; the engine's guard catches it.
    #[allow(clippy::panic)]
    fn add(&self, gradients: Vec<(usize, Tensor<2>)>) {
        // Every read waits for the device, so several gradients share one; reading all of them at
        // once would hold a second copy of them on the device.
        let mut gradients = gradients.into_iter().peekable();
        while gradients.peek().is_some() {
            let (mut tensors, mut reading, mut count) = (Vec::new(), Transaction::default(), 0);
            while let Some((tensor, gradient)) = gradients.next_if(|(_, next)| {
                count += next.dims().iter().product::<usize>();
                tensors.is_empty() || count <= READ_AT_ONCE
            }) {
                tensors.push(tensor);
                reading = reading.register(gradient);
            }
            let read = reading
                .try_execute()
                .unwrap_or_else(|error| panic!("gradients cannot be read: {error}"));
            tensors
                .into_iter()
                .zip(read)
                .for_each(|(tensor, data)| self.add_data(tensor, &data));
        }
    }

    /// # Panics
    /// If the device fails.
    #[allow(clippy::panic)]
    fn add_rows(&self, tensor: usize, rows: &Rows<'_>, values: Tensor<2>) {
        let width = values.dims()[1];
        let read = values
            .try_into_vec_as::<f32>()
            .unwrap_or_else(|error| panic!("gradients cannot be read: {error}"));
        let mut sums = self.parts[tensor]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (row, values) in rows.on_host.iter().zip(read.chunks_exact(width)) {
            let start = *row as usize * width;
            let sums = &mut sums[start..start + width];
            sums.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += value);
        }
    }
}

impl HostSums<'_> {
    fn add_data(&self, tensor: usize, data: &TensorData) {
        let is_worker = rayon::current_thread_index().is_some();
        let mut sums = self.parts[tensor]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A rayon worker that waits for others runs other tasks meanwhile, and one of them may want
        // the same lock; so a worker adds the values alone.
        let size = if is_worker { usize::MAX } else { 1 << 16 };
        match data.dtype() {
            DType::F16 => add_part(&mut sums, values::<f16>(data), size, f16::to_f32),
            DType::BF16 => add_part(&mut sums, values::<bf16>(data), size, bf16::to_f32),
            _ => add_part(&mut sums, values::<f32>(data), size, |value| value),
        }
    }
}

#[allow(clippy::panic)] // the engine's guard catches it, as it does burn's own panics
fn values<T: burn::tensor::Element>(data: &TensorData) -> &[T] {
    data.as_slice()
        .unwrap_or_else(|error| panic!("a gradient cannot be read: {error:?}"))
}

fn add_part<T: Copy + Sync>(
    sums: &mut [f32],
    values: &[T],
    size: usize,
    widen: impl Fn(T) -> f32 + Sync,
) {
    let add = |sums: &mut [f32], values: &[T]| {
        sums.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += widen(*value));
    };
    if values.len() <= size {
        return add(sums, values);
    }
    sums.par_chunks_mut(size)
        .zip(values.par_chunks(size))
        .for_each(|(sums, values)| add(sums, values));
}

/// Sums on the device, one tensor for each tensor of the layout.
pub(super) struct DeviceSums<'a> {
    layout: &'a Layout,
    parts: Vec<Mutex<Option<Tensor<2>>>>,
}

impl<'a> DeviceSums<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            parts: layout.ranges().map(|_| Mutex::default()).collect(),
        }
    }

    /// One sum for each tensor; zeros for a tensor that the loss does not depend on.
    pub(super) fn into_tensors(self, weights: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let sums = self
            .parts
            .into_iter()
            .map(|sum| sum.into_inner().unwrap_or_else(PoisonError::into_inner));
        let zeros = |weight: &Tensor<2>| weight.zeros_like().cast(FloatDType::F32);
        sums.zip(weights)
            .map(|(sum, weight)| sum.unwrap_or_else(|| zeros(weight)))
            .collect()
    }
}

impl Accumulate for DeviceSums<'_> {
    fn add(&self, gradients: Vec<(usize, Tensor<2>)>) {
        for (tensor, gradient) in gradients {
            let gradient = gradient.cast(FloatDType::F32);
            let mut sum = self.parts[tensor]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *sum = Some(match sum.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
    }

    fn add_rows(&self, tensor: usize, rows: &Rows<'_>, values: Tensor<2>) {
        let mut sum = self.parts[tensor]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let width = values.dims()[1];
        let before = sum.take().unwrap_or_else(|| {
            let shape = [self.layout.range(tensor).len() / width, width];
            Tensor::zeros(shape, &values.device())
        });
        *sum = Some(rows.add_to(before, values));
    }
}
