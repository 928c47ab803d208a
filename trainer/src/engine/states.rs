//! What an engine keeps beside the weights that it computes with, and where: the weights in f32
//! where those are shorter, and the optimiser's moments. Nothing is allocated before it is needed,
//! so that an engine that only measures holds weights alone.

use std::mem;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use rayon::prelude::*;
use weal_kernels::{Layout, TensorSpec};

use crate::compute::{ComputePlan, Place, Precision};
use crate::engine::host::HostStates;
use crate::engine::optimiser::Learnt;
use crate::engine::tensors::{Engine, shape};
use crate::engine::{MomentVectors, Update};
use crate::error::{Error, Result};

/// See the module.
pub(super) enum States {
    Device(DeviceStates),
    Host(HostStates),
}

/// What lies on the device, a tensor each; empty before it is needed.
#[derive(Default)]
pub(super) struct DeviceStates {
    /// The weights in f32, where those that are computed with are shorter.
    pub masters: Vec<Tensor<2>>,
    pub first: Vec<Tensor<2>>,
    pub second: Vec<Tensor<2>>,
}

impl States {
    pub fn new(place: Place) -> Self {
        match place {
            Place::Device => Self::Device(DeviceStates::default()),
            Place::Host => Self::Host(HostStates::default()),
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Device(_) => Place::Device,
            Self::Host(_) => Place::Host,
        }
    }
}

/// What matrices are computed with.
pub(super) fn matrix_type(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// What a tensor of the layout is computed with: norms' gains are always f32.
pub(super) fn compute_type(tensor: &TensorSpec, precision: Precision) -> DType {
    if tensor.shape.len() == 2 {
        matrix_type(precision)
    } else {
        DType::F32
    }
}

/// A tensor with as many zeros as each of the layout.
fn zeros(layout: &Layout, device: &Device) -> Vec<Tensor<2>> {
    (0..layout.tensors().len())
        .map(|tensor| Tensor::zeros(shape(layout, tensor), device))
        .collect()
}

impl Engine {
    /// Uses the device as a plan says; what was learnt so far moves where it belongs.
    pub fn arrange(&mut self, plan: &ComputePlan) -> Result<()> {
        self.thrift.sequences = plan.micro_batch.unwrap_or(usize::MAX);
        self.thrift.recompute = plan.recompute;
        if plan.precision == Precision::Bf16 && !self.device.supports_dtype(FloatDType::BF16) {
            return Err(Error::Precision {
                precision: plan.precision.to_string(),
                device: self.device_name.clone(),
            });
        }
        if (plan.states, plan.precision) == (self.states.place(), self.precision) {
            return Ok(());
        }
        let weights = if self.weights.is_empty() {
            None
        } else {
            Some(self.weights()?)
        };
        let moments = if self.has_moments() {
            Some(self.moments()?)
        } else {
            None
        };
        self.weights.clear();
        self.states = States::new(plan.states);
        self.precision = plan.precision;
        weights.map_or(Ok(()), |weights| self.load(&weights))?;
        moments.map_or(Ok(()), |moments| self.set_moments(&moments))
    }

    fn has_moments(&self) -> bool {
        match &self.states {
            States::Device(states) => !states.first.is_empty(),
            States::Host(states) => !states.first.is_empty(),
        }
    }

    /// Takes over a flat vector of weights.
    pub fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.guarded("took over weights", |engine| {
            engine.take_weights(weights);
            Ok(())
        })
    }

    /// Weights of zero, where none were taken over yet.
    pub(super) fn ensure_weights(&mut self) {
        if self.weights.is_empty() {
            self.take_weights(&vec![0.0; self.layout.parameters()]);
        }
    }

    fn take_weights(&mut self, weights: &[f32]) {
        self.decoder = None;
        // The old ones go first: there may not be room for both.
        self.weights.clear();
        match &mut self.states {
            States::Host(states) => states.set_weights(weights),
            States::Device(states) => states.masters.clear(),
        }
        let tensors = 0..self.layout.tensors().len();
        let upload = |tensor: usize| {
            self.upload_tensor(tensor, &weights[self.layout.range(tensor)], self.precision)
        };
        let computed_with: Vec<_> = tensors.clone().map(upload).collect();
        if self.precision != Precision::F32 && matches!(self.states, States::Device(_)) {
            let upload = |tensor| {
                self.upload_tensor(tensor, &weights[self.layout.range(tensor)], Precision::F32)
            };
            let masters = tensors.map(upload).collect();
            self.states = match mem::replace(&mut self.states, States::new(Place::Device)) {
                States::Device(states) => States::Device(DeviceStates { masters, ..states }),
                host => host,
            };
        }
        self.weights = computed_with;
    }

    /// The weights, flat, in f32.
    pub fn weights(&mut self) -> Result<Vec<f32>> {
        let action = "read the weights back";
        self.guarded(action, |engine| {
            engine.ensure_weights();
            match &engine.states {
                States::Host(states) => Ok(states.masters.clone()),
                States::Device(_) => engine.join(engine.learnt_weights(), action),
            }
        })
    }

    /// The tensors that are updated, where they are on the device.
    pub(super) fn learnt_weights(&self) -> &[Tensor<2>] {
        match &self.states {
            States::Device(states) if !states.masters.is_empty() => &states.masters,
            _ => &self.weights,
        }
    }

    /// Shows the optimiser's two moments, flat: zeros before the first update.
    pub fn with_moments<T>(&mut self, look: impl FnOnce(&[f32], &[f32]) -> T) -> Result<T> {
        let action = "read the moments back";
        self.guarded(action, |engine| {
            let [first, second] = match &engine.states {
                States::Host(states) if !states.first.is_empty() => {
                    return Ok(look(&states.first, &states.second));
                }
                States::Device(states) if !states.first.is_empty() => [
                    engine.join(&states.first, action)?,
                    engine.join(&states.second, action)?,
                ],
                _ => [(); 2].map(|()| vec![0.0; engine.layout.parameters()]),
            };
            Ok(look(&first, &second))
        })
    }

    /// A copy of the optimiser's moments.
    pub fn moments(&mut self) -> Result<MomentVectors> {
        self.with_moments(|first, second| MomentVectors {
            first: first.to_vec(),
            second: second.to_vec(),
        })
    }

    /// Takes over moments.
    pub fn set_moments(&mut self, moments: &MomentVectors) -> Result<()> {
        self.guarded("took over moments", |engine| {
            let (first, second) = (&moments.first, &moments.second);
            if let States::Host(states) = &mut engine.states {
                (states.first, states.second) = (first.clone(), second.clone());
                return Ok(());
            }
            let [first, second] = [first, second].map(|values| {
                let upload = |tensor| {
                    engine.upload_tensor(
                        tensor,
                        &values[engine.layout.range(tensor)],
                        Precision::F32,
                    )
                };
                (0..engine.layout.tensors().len()).map(upload).collect()
            });
            if let States::Device(states) = &mut engine.states {
                (states.first, states.second) = (first, second);
            }
            Ok(())
        })
    }

    /// One update of what lies on the device.
    pub(super) fn update_on_device(
        &mut self,
        gradients: Vec<Tensor<2>>,
        update: &Update,
        clip: f32,
    ) {
        let States::Device(states) = &mut self.states else {
            return;
        };
        if states.first.is_empty() {
            states.first = zeros(&self.layout, &self.device);
            states.second = zeros(&self.layout, &self.device);
        }
        let has_masters = !states.masters.is_empty();
        let weights = mem::take(if has_masters {
            &mut states.masters
        } else {
            &mut self.weights
        });
        let moments = mem::take(&mut states.first)
            .into_iter()
            .zip(mem::take(&mut states.second));
        let work: Vec<_> = self
            .layout
            .tensors()
            .iter()
            .zip(weights.into_iter().zip(gradients).zip(moments))
            .collect();
        let step = |(spec, ((weight, gradient), (first, second))): (&TensorSpec, _)| {
            Learnt {
                weight,
                first,
                second,
            }
            .update(spec, gradient, update, clip)
        };
        // On the processor tensors are shared out among the threads; a GPU is given its work by
        // one.
        let learnt: Vec<Learnt> = match self.device == Device::flex() {
            true => work.into_par_iter().map(step).collect(),
            false => work.into_iter().map(step).collect(),
        };
        for (
            index,
            Learnt {
                weight,
                first,
                second,
            },
        ) in learnt.into_iter().enumerate()
        {
            if has_masters {
                let kind = compute_type(&self.layout.tensors()[index], self.precision);
                self.weights[index] = weight.clone().cast(FloatDType::from(kind));
                states.masters.push(weight);
            } else {
                self.weights.push(weight);
            }
            states.first.push(first);
            states.second.push(second);
        }
    }
}
