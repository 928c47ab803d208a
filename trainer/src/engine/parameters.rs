//! The weights that an engine computes with, and what the optimiser keeps beside them: f32 weights
//! where those are shorter, and the moments. Nothing is allocated before it is needed, so an engine
//! that only evaluates holds the weights alone.

use std::mem;
use std::ops::Range;

use burn::tensor::{FloatDType, Tensor};
use rayon::prelude::*;
use weal_kernels::update::sum_of_squares;
use weal_kernels::{Entries, TensorSpec};

use crate::compute_plan::{Precision, StatePlacement};
use crate::engine::host::HostStates;
use crate::engine::norm::norm;
use crate::engine::optimiser::{self, Update};
use crate::engine::seconds::Seconds;
use crate::engine::transfer::{Transfer, compute_type};
use crate::engine::weight_and_moments::WeightAndMoments;
use crate::error::Result;

/// The optimiser's moments, flat, in the layout's order: AdamW's two, or Muon's momentum. Tensors
/// that Muon updates are left out of the second.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MomentVectors {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

/// See the module.
pub(super) struct Parameters {
    /// The weights that are computed with, one tensor each; empty until weights are loaded.
    weights: Vec<Tensor<2>>,
    precision: Precision,
    states: States,
}

enum States {
    Device(DeviceStates),
    Host(HostStates),
}

/// States on the device, one tensor each; empty until they are needed.
#[derive(Default)]
struct DeviceStates {
    /// The weights in f32, where those that are computed with are shorter.
    masters: Vec<Tensor<2>>,
    first: Vec<Tensor<2>>,
    /// A single zero for a tensor that has none.
    second: Vec<Tensor<2>>,
    seconds: Seconds,
}

impl Parameters {
    pub(super) fn new(placement: StatePlacement, precision: Precision, seconds: Seconds) -> Self {
        Self {
            weights: Vec::new(),
            precision,
            states: match placement {
                StatePlacement::Device => States::Device(DeviceStates {
                    seconds,
                    ..DeviceStates::default()
                }),
                StatePlacement::Host => States::Host(HostStates {
                    seconds,
                    ..HostStates::default()
                }),
            },
        }
    }

    /// The weights that are computed with.
    pub(super) fn weights(&self) -> &[Tensor<2>] {
        &self.weights
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn placement(&self) -> StatePlacement {
        match self.states {
            States::Device(_) => StatePlacement::Device,
            States::Host(_) => StatePlacement::Host,
        }
    }

    /// Which tensors have a second moment.
    pub(super) fn seconds(&self) -> &Seconds {
        match &self.states {
            States::Device(states) => &states.seconds,
            States::Host(states) => &states.seconds,
        }
    }

    /// The states in host memory, if that is where they are.
    pub(super) fn host(&self) -> Option<&HostStates> {
        match &self.states {
            States::Device(_) => None,
            States::Host(states) => Some(states),
        }
    }

    pub(super) fn host_mut(&mut self) -> Option<&mut HostStates> {
        match &mut self.states {
            States::Device(_) => None,
            States::Host(states) => Some(states),
        }
    }

    /// Loads a flat vector of weights.
    pub(super) fn load(&mut self, weights: &[f32], transfer: &Transfer) {
        // Free the old tensors first: the device may not have room for both.
        self.weights.clear();
        match &mut self.states {
            States::Host(states) => states.set_weights(weights),
            States::Device(states) => states.masters.clear(),
        }
        let computed_with = transfer.upload_all(weights, self.precision);
        if let States::Device(states) = &mut self.states
            && self.precision != Precision::F32
        {
            states.masters = transfer.upload_all(weights, Precision::F32);
        }
        self.weights = computed_with;
    }

    /// Loads zeros if no weights were loaded yet.
    pub(super) fn ensure_loaded(&mut self, transfer: &Transfer) {
        if self.weights.is_empty() {
            self.load(&vec![0.0; transfer.layout().parameters()], transfer);
        }
    }

    /// The weights, flat, in f32.
    pub(super) fn flat(&self, transfer: &Transfer, action: &'static str) -> Result<Vec<f32>> {
        match &self.states {
            States::Host(states) => Ok(states.masters.clone()),
            States::Device(_) => transfer.read_all(self.masters(), action),
        }
    }

    /// Sets some of the weights that are computed with, tensor by tensor.
    pub(super) fn assign(&mut self, entries: &[Entries], transfer: &Transfer) {
        // Taken out, so that nothing else holds the tensors and they change in place.
        let weights = mem::take(&mut self.weights).into_iter().enumerate();
        self.weights = weights
            .map(|(index, weight)| match entries.get(index) {
                Some(entries) if !entries.places.is_empty() => {
                    transfer.assign(index, weight, entries, self.precision)
                }
                _ => weight,
            })
            .collect();
    }

    /// The weights, in f32, at one range of the flat vector for each tensor.
    pub(super) fn parts(
        &self,
        ranges: &[Range<usize>],
        transfer: &Transfer,
        action: &'static str,
    ) -> Result<Vec<Vec<f32>>> {
        if let States::Host(states) = &self.states {
            let part = |range: &Range<usize>| states.masters[range.clone()].to_vec();
            return Ok(ranges.iter().map(part).collect());
        }
        let tensors = self.masters().iter().zip(transfer.layout().ranges());
        tensors
            .zip(ranges)
            .map(|((tensor, whole), range)| match range.is_empty() {
                true => Ok(Vec::new()),
                false => {
                    let inside = range.start - whole.start..range.end - whole.start;
                    let flat: Tensor<1> = tensor.clone().reshape([whole.len()]);
                    transfer.read(flat.slice([inside]), action)
                }
            })
            .collect()
    }

    /// The tensors on the device that the optimiser updates.
    pub(super) fn masters(&self) -> &[Tensor<2>] {
        match &self.states {
            States::Device(states) if !states.masters.is_empty() => &states.masters,
            _ => &self.weights,
        }
    }

    /// The global norm of the weights.
    pub(super) fn norm(&self, transfer: &Transfer) -> Result<f64> {
        match &self.states {
            States::Host(states) => Ok(sum_of_squares(&states.masters).sqrt()),
            States::Device(_) => norm(self.masters(), transfer),
        }
    }

    /// Whether any update or restored moments came before.
    pub(super) fn has_moments(&self) -> bool {
        match &self.states {
            States::Device(states) => !states.first.is_empty(),
            States::Host(states) => !states.first.is_empty(),
        }
    }

    /// Passes the two moments, flat, to `look`: zeros before the first update.
    pub(super) fn with_moments<T>(
        &self,
        transfer: &Transfer,
        action: &'static str,
        look: impl FnOnce(&[f32], &[f32]) -> T,
    ) -> Result<T> {
        let [first, second] = match &self.states {
            States::Host(states) if !states.first.is_empty() => {
                return Ok(look(&states.first, &states.second));
            }
            States::Device(states) if !states.first.is_empty() => [
                transfer.read_all(&states.first, action)?,
                transfer.read_all(&states.second_moments(), action)?,
            ],
            _ => {
                [transfer.layout().parameters(), self.seconds().len()].map(|count| vec![0.0; count])
            }
        };
        Ok(look(&first, &second))
    }

    pub(super) fn set_moments(&mut self, moments: &MomentVectors, transfer: &Transfer) {
        match &mut self.states {
            States::Host(states) => {
                states.first = moments.first.clone();
                states.second = moments.second.clone();
            }
            States::Device(states) => {
                states.first = transfer.upload_all(&moments.first, Precision::F32);
                let (seconds, second) = (&states.seconds, &moments.second);
                states.second = seconds.each(
                    |index| transfer.upload(index, &second[seconds.range(index)], Precision::F32),
                    || transfer.no_moment(),
                );
            }
        }
    }

    /// Updates weights and moments by a step's gradients, scaled by `clip`. States in host memory
    /// have their gradient sums there already, and take no tensors.
    pub(super) fn update(
        &mut self,
        gradients: Vec<Tensor<2>>,
        update: &Update,
        clip: f32,
        transfer: &Transfer,
    ) -> Result<()> {
        match &mut self.states {
            States::Host(states) => {
                let uploaded = (&mut self.weights[..], self.precision);
                states.update(update, clip, transfer, uploaded)
            }
            States::Device(states) => {
                let step = |tensor: &TensorSpec, state, gradient| {
                    optimiser::step(state, tensor, gradient, update, clip)
                };
                states.update(&mut self.weights, self.precision, gradients, transfer, step);
                Ok(())
            }
        }
    }
}

impl DeviceStates {
    /// The second moments of the tensors that have one.
    fn second_moments(&self) -> Vec<Tensor<2>> {
        let has_one = |index: &usize| !self.seconds.range(*index).is_empty();
        let indices = (0..self.second.len()).filter(has_one);
        indices.map(|index| self.second[index].clone()).collect()
    }

    /// Replaces every weight and its moments by what `step` makes of them and their gradient.
    fn update(
        &mut self,
        weights: &mut Vec<Tensor<2>>,
        precision: Precision,
        gradients: Vec<Tensor<2>>,
        transfer: &Transfer,
        step: impl Fn(&TensorSpec, WeightAndMoments, Tensor<2>) -> WeightAndMoments + Sync,
    ) {
        if self.first.is_empty() {
            self.first = transfer.zeros();
            let some = |index: usize| transfer.zeros_of(index);
            self.second = self.seconds.each(some, || transfer.no_moment());
        }
        let has_masters = !self.masters.is_empty();
        let old = mem::take(if has_masters {
            &mut self.masters
        } else {
            weights
        });
        let moments = mem::take(&mut self.first)
            .into_iter()
            .zip(mem::take(&mut self.second));
        let tensors = transfer.layout().tensors();
        let work: Vec<_> = tensors
            .iter()
            .zip(old.into_iter().zip(gradients).zip(moments))
            .collect();
        let one = |(spec, ((weight, gradient), (first, second))): (&TensorSpec, _)| {
            let state = WeightAndMoments {
                weight,
                first,
                second,
            };
            step(spec, state, gradient)
        };
        // The CPU's threads share the tensors out; a GPU takes its work from one thread.
        let updated: Vec<WeightAndMoments> = if transfer.is_cpu() {
            work.into_par_iter().map(one).collect()
        } else {
            work.into_iter().map(one).collect()
        };
        for (index, state) in updated.into_iter().enumerate() {
            if has_masters {
                let kind = compute_type(&tensors[index], precision);
                weights[index] = state.weight.clone().cast(FloatDType::from(kind));
                self.masters.push(state.weight);
            } else {
                weights.push(state.weight);
            }
            self.first.push(state.first);
            self.second.push(state.second);
        }
    }
}
