//! Moves values between flat vectors in the layout's order and tensors on a device.
//!
//! Every tensor has two dimensions on the device: a norm's gain is `[1, width]`.

use burn::tensor::{DType, Device, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;
use weal_kernels::{Entries, Layout, TensorSpec};

use crate::compute_plan::Precision;
use crate::error::{Error, Result};

/// A device and the layout of the model on it.
pub(super) struct Transfer {
    layout: Layout,
    device: Device,
    device_name: String,
}

/// The type of matrix products.
pub(super) fn matrix_type(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    }
}

/// Whether a device computes with matrices of that precision.
pub(crate) fn supports(device: &Device, precision: Precision) -> bool {
    device.supports_dtype(FloatDType::from(matrix_type(precision)))
}

/// The type in which a tensor of the layout is computed with. Gains of norms are always f32.
pub(super) fn compute_type(tensor: &TensorSpec, precision: Precision) -> DType {
    if tensor.shape.len() == 2 {
        matrix_type(precision)
    } else {
        DType::F32
    }
}

impl Transfer {
    pub(super) fn new(layout: Layout, device: Device, device_name: String) -> Self {
        Self {
            layout,
            device,
            device_name,
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn device_name(&self) -> &str {
        &self.device_name
    }

    /// Whether the device is the CPU.
    pub(super) fn is_cpu(&self) -> bool {
        self.device == Device::flex()
    }

    /// The shape of a tensor of the layout in two dimensions.
    fn shape(&self, tensor: usize) -> [usize; 2] {
        match self.layout.tensors()[tensor].shape[..] {
            [rows, columns] => [rows, columns],
            _ => [1, self.layout.range(tensor).len()],
        }
    }

    /// Uploads one tensor of the layout, in the type in which it is computed with.
    pub(super) fn upload(&self, tensor: usize, values: &[f32], precision: Precision) -> Tensor<2> {
        let kind = compute_type(&self.layout.tensors()[tensor], precision);
        self.tensor(values, self.shape(tensor), kind)
    }

    /// A tensor of those values in f32, f16 or bf16.
    fn tensor<const D: usize>(&self, values: &[f32], shape: [usize; D], kind: DType) -> Tensor<D> {
        let data = match kind {
            DType::F16 => TensorData::new(rounded(values, f16::from_f32), shape),
            DType::BF16 => TensorData::new(rounded(values, bf16::from_f32), shape),
            _ => TensorData::new(values.to_vec(), shape),
        };
        Tensor::from_data(data, (&self.device, kind))
    }

    /// Sets single values of a tensor of the layout; in place if nothing else holds it.
    pub(super) fn assign(
        &self,
        tensor: usize,
        weight: Tensor<2>,
        entries: &Entries,
        precision: Precision,
    ) -> Tensor<2> {
        let (shape, count) = (self.shape(tensor), entries.places.len());
        let places: Vec<i32> = entries.places.iter().map(|place| *place as i32).collect();
        let places = TensorData::new(places, [count, 1]);
        let places: Tensor<2, Int> = Tensor::from_data(places, &self.device);
        let kind = compute_type(&self.layout.tensors()[tensor], precision);
        let values: Tensor<1> = self.tensor(&entries.values, [count], kind);
        let flat: Tensor<1> = weight.reshape([shape[0] * shape[1]]);
        let changed = flat.scatter_nd(places, values, IndexingUpdateOp::Assign);
        changed.reshape(shape)
    }

    /// Uploads every tensor of a flat vector.
    pub(super) fn upload_all(&self, values: &[f32], precision: Precision) -> Vec<Tensor<2>> {
        (0..self.layout.tensors().len())
            .map(|tensor| self.upload(tensor, &values[self.layout.range(tensor)], precision))
            .collect()
    }

    /// Uploads tokens, `[tokens]`.
    pub(super) fn upload_tokens(&self, tokens: impl Iterator<Item = u32>) -> Tensor<1, Int> {
        let tokens: Vec<i32> = tokens.map(|token| token as i32).collect();
        let length = tokens.len();
        Tensor::from_data(TensorData::new(tokens, [length]), &self.device)
    }

    /// Uploads a column of numbers, `[rows, 1]`.
    pub(super) fn upload_column(&self, column: Vec<f32>) -> Tensor<2> {
        let rows = column.len();
        Tensor::from_data(TensorData::new(column, [rows, 1]), &self.device)
    }

    /// Zeros in the shape of every tensor of the layout, in f32.
    pub(super) fn zeros(&self) -> Vec<Tensor<2>> {
        (0..self.layout.tensors().len())
            .map(|tensor| self.zeros_of(tensor))
            .collect()
    }

    /// Zeros in the shape of one tensor, in f32.
    pub(super) fn zeros_of(&self, tensor: usize) -> Tensor<2> {
        Tensor::zeros(self.shape(tensor), &self.device)
    }

    /// What stands for a second moment that a tensor does not have.
    pub(super) fn no_moment(&self) -> Tensor<2> {
        Tensor::zeros([1, 1], &self.device)
    }

    /// Reads a tensor back, in f32. `action` names the operation in an error.
    pub(super) fn read<const D: usize>(
        &self,
        tensor: Tensor<D>,
        action: &'static str,
    ) -> Result<Vec<f32>> {
        tensor
            .try_into_vec_as::<f32>()
            .map_err(|error| Error::Device {
                device: self.device_name.clone(),
                action,
                reason: error.to_string(),
            })
    }

    /// Reads back a tensor of one value.
    pub(super) fn read_scalar(&self, tensor: Tensor<1>, action: &'static str) -> Result<f32> {
        Ok(self
            .read(tensor, action)?
            .first()
            .copied()
            .unwrap_or(f32::NAN))
    }

    /// Reads tensors back into one flat vector.
    pub(super) fn read_all<const D: usize>(
        &self,
        tensors: &[Tensor<D>],
        action: &'static str,
    ) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.layout.parameters());
        for tensor in tensors {
            values.extend(self.read(tensor.clone(), action)?);
        }
        Ok(values)
    }
}

/// Values in a shorter type.
fn rounded<T: Send>(values: &[f32], round: impl Fn(f32) -> T + Sync) -> Vec<T> {
    values.par_iter().map(|value| round(*value)).collect()
}
