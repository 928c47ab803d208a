//! The error feedback, and compressing the pseudo-gradient where it is: on a GPU by the kernel, on
//! the CPU by the reference implementation, to the same bytes.
//!
//! The error feedback stays with the engine from round to round. On a GPU it is one buffer per
//! tensor, as the weights are. The kernel runs on the same client and stream as burn's own work
//! there, so nothing has to wait and only the records leave the device.

use std::ops::Range;

use burn::backend::Cube;
use burn::tensor::Tensor;
use rayon::prelude::*;
use weal_kernels::{Bf16, Change, Compression, Entries, Layout, Stored, compress_in_place, gpu};

use crate::compute_plan::ErrorFormat;
use crate::engine::transfer::Transfer;
use crate::error::Result;
use crate::gpu_client::{CubeTensor, buffer};

type KernelResult<T> = std::result::Result<T, weal_kernels::Error>;

/// The error feedback: one value for every parameter. All zeros if it is neither here nor there.
#[derive(Default)]
pub(super) struct ErrorFeedback {
    /// In host memory, flat.
    host: Option<HostError>,
    /// On the device, one flat tensor for each tensor of the layout.
    device: Vec<Tensor<1>>,
}

/// An error feedback in host memory.
pub(crate) enum HostError {
    /// In f32.
    Full(Vec<f32>),
    /// In 16 bits.
    Short(Vec<Bf16>),
}

impl HostError {
    fn of(values: Vec<f32>, format: ErrorFormat) -> Self {
        match format {
            ErrorFormat::F32 => Self::Full(values),
            ErrorFormat::Bf16 => Self::Short(narrowed(&values)),
        }
    }

    fn zeros(count: usize, format: ErrorFormat) -> Self {
        match format {
            ErrorFormat::F32 => Self::Full(vec![0.0; count]),
            ErrorFormat::Bf16 => Self::Short(vec![Bf16::default(); count]),
        }
    }

    fn in_format(self, format: ErrorFormat) -> Self {
        match (self, format) {
            (Self::Full(values), ErrorFormat::Bf16) => Self::Short(narrowed(&values)),
            (Self::Short(values), ErrorFormat::F32) => Self::Full(widened(&values)),
            (same, _) => same,
        }
    }

    /// Whether all values at a range are finite.
    pub(crate) fn is_finite(&self, range: Range<usize>) -> bool {
        match self {
            Self::Full(values) => values[range].iter().all(|value| value.is_finite()),
            Self::Short(values) => values[range].iter().all(|value| value.widen().is_finite()),
        }
    }

    /// The values at a range.
    fn part(&self, range: Range<usize>) -> Vec<f32> {
        match self {
            Self::Full(values) => values[range].to_vec(),
            Self::Short(values) => widened(&values[range]),
        }
    }

    /// Whether adding to single values of one tensor, which begins at `start`, gives finite sums.
    fn can_add(&self, start: usize, entries: &Entries) -> bool {
        let mut both = entries.places.iter().zip(&entries.values);
        let value = |place: usize| match self {
            Self::Full(values) => values[place],
            Self::Short(values) => values[place].widen(),
        };
        both.all(|(place, more)| (value(start + place) + more).is_finite())
    }

    fn add(&mut self, start: usize, entries: &Entries) {
        match self {
            Self::Full(values) => add(&mut values[start..], entries),
            Self::Short(values) => add(&mut values[start..], entries),
        }
    }

    fn clean(&mut self) -> usize {
        match self {
            Self::Full(values) => clean(values),
            Self::Short(values) => clean(values),
        }
    }
}

fn narrowed(values: &[f32]) -> Vec<Bf16> {
    values
        .par_iter()
        .map(|value| Bf16::narrow(*value))
        .collect()
}

fn widened(values: &[Bf16]) -> Vec<f32> {
    values.par_iter().map(|value| value.widen()).collect()
}

fn add<E: Stored>(values: &mut [E], entries: &Entries) {
    for (place, more) in entries.places.iter().zip(&entries.values) {
        let value = &mut values[*place];
        *value = E::narrow(value.widen() + more);
    }
}

/// Zeroes values that are not finite. Returns how many.
fn clean<E: Stored>(values: &mut [E]) -> usize {
    let bad = values.iter_mut().filter(|value| !value.widen().is_finite());
    bad.map(|value| *value = E::narrow(0.0)).count()
}

impl ErrorFeedback {
    /// Values in host memory.
    pub(super) fn on_the_host(values: HostError) -> Self {
        Self {
            host: Some(values),
            device: Vec::new(),
        }
    }

    /// Whether it is on the device.
    pub(super) fn is_on_device(&self) -> bool {
        !self.device.is_empty()
    }

    /// The values, if they are in host memory.
    pub(super) fn host(&self) -> Option<&HostError> {
        self.host.as_ref()
    }

    /// The values, flat, in the layout's order.
    pub(super) fn flat(&self, transfer: &Transfer, action: &'static str) -> Result<Vec<f32>> {
        let parameters = transfer.layout().parameters();
        match &self.host {
            Some(error) => Ok(error.part(0..parameters)),
            None if self.device.is_empty() => Ok(vec![0.0; parameters]),
            None => transfer.read_all(&self.device, action),
        }
    }

    /// Passes the values at one range of the flat vector for each tensor, inside the tensor, to
    /// `visit`.
    pub(super) fn visit(
        &self,
        ranges: &[Range<usize>],
        transfer: &Transfer,
        action: &'static str,
        visit: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let tensors = transfer.layout().ranges().zip(ranges).enumerate();
        for (index, (whole, range)) in tensors {
            let values = match (&self.host, self.device.get(index)) {
                (Some(error), _) => error.part(range.clone()),
                (None, Some(tensor)) if !range.is_empty() => {
                    let inside = range.start - whole.start..range.end - whole.start;
                    transfer.read(tensor.clone().slice([inside]), action)?
                }
                _ => vec![0.0; range.len()],
            };
            visit(&values)?;
        }
        Ok(())
    }

    /// Keeps the values in a format from now on, if they are in host memory.
    pub(super) fn change_format(&mut self, format: ErrorFormat) {
        self.host = self.host.take().map(|error| error.in_format(format));
    }

    /// Adds to single values of each tensor. If a sum is not finite it changes nothing, and returns
    /// the number of the tensor.
    pub(super) fn add(
        &mut self,
        entries: &[Entries],
        transfer: &Transfer,
        format: ErrorFormat,
    ) -> Result<Option<usize>> {
        let error = self.bring_to_host(transfer, format)?;
        let tensors = || transfer.layout().ranges().zip(entries).enumerate();
        let mut unfit =
            tensors().filter(|(_, (range, entries))| !error.can_add(range.start, entries));
        if let Some((index, _)) = unfit.next() {
            return Ok(Some(index));
        }
        for (_, (range, entries)) in tensors() {
            error.add(range.start, entries);
        }
        Ok(None)
    }

    /// Zeroes values that are not finite. Returns how many.
    pub(super) fn clean(&mut self, transfer: &Transfer, format: ErrorFormat) -> Result<usize> {
        Ok(self.bring_to_host(transfer, format)?.clean())
    }

    /// The values in host memory, where they are from now on.
    fn bring_to_host(
        &mut self,
        transfer: &Transfer,
        format: ErrorFormat,
    ) -> Result<&mut HostError> {
        if !self.device.is_empty() {
            let values = transfer.read_all(&self.device, "reading the error feedback back")?;
            *self = Self::on_the_host(HostError::of(values, format));
        }
        let zeros = || HostError::zeros(transfer.layout().parameters(), format);
        Ok(self.host.get_or_insert_with(zeros))
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
        let parts = layout.ranges();
        let error: Vec<Tensor<1>> = match &self.host {
            Some(error) => parts.map(|part| upload(&error.part(part))).collect(),
            None if self.device.is_empty() => parts
                .map(|part| Tensor::zeros([part.len()], device))
                .collect(),
            None => self.device.clone(),
        };
        let delta = layout.ranges().zip(weights).map(|(part, weight)| {
            upload(&base[part.clone()]) - weight.clone().reshape([part.len()])
        });
        let (body, left) = compress_tensors(layout, compression, error, delta.collect())?;
        (self.host, self.device) = (None, left);
        Ok(body)
    }

    /// Compresses the pseudo-gradient on the CPU. On an error the error feedback stays as it is.
    pub(super) fn compress_on_host(
        &mut self,
        transfer: &Transfer,
        compression: &Compression,
        change: &Change<'_>,
        format: ErrorFormat,
    ) -> Result<KernelResult<Vec<u8>>> {
        let layout = transfer.layout();
        Ok(match self.bring_to_host(transfer, format)? {
            HostError::Full(error) => compress_in_place(layout, compression, error, change),
            HostError::Short(error) => compress_in_place(layout, compression, error, change),
        })
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
