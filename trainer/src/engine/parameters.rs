//! The weights that an engine computes with, and what the optimiser keeps beside them: f32 weights
//! where those are shorter, and the moments. Nothing is allocated before it is needed, so an engine
//! that only evaluates holds the weights alone.

use std::mem;
use std::ops::Range;

use burn::tensor::Tensor;
use weal_kernels::update::sum_of_squares;
use weal_kernels::{Entries, Layout};

use crate::compute_plan::{MomentFormat, Precision, StatePlacement};
use crate::engine::device_states::DeviceStates;
use crate::engine::fused;
use crate::engine::host::HostStates;
use crate::engine::moments::{MomentsRef, TensorMoments};
use crate::engine::norm::norm;
use crate::engine::optimiser::Update;
use crate::engine::seconds::Seconds;
use crate::engine::transfer::Transfer;
use crate::error::Result;

/// Where states are, and in what formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Formats {
    /// Where f32 weights and moments are.
    pub placement: StatePlacement,
    /// Of the weights that are computed with.
    pub precision: Precision,
    /// Of the moments.
    pub moments: MomentFormat,
}

/// See the module.
pub(super) struct Parameters {
    /// The weights that are computed with, one tensor each; empty until weights are loaded.
    weights: Vec<Tensor<2>>,
    formats: Formats,
    states: States,
}

enum States {
    Device(DeviceStates),
    Host(HostStates),
}

impl Parameters {
    pub(super) fn new(formats: Formats, seconds: Seconds) -> Self {
        Self {
            weights: Vec::new(),
            formats,
            states: match formats.placement {
                StatePlacement::Device => {
                    States::Device(DeviceStates::new(seconds, formats.moments))
                }
                StatePlacement::Host => States::Host(HostStates::new(seconds, formats.moments)),
            },
        }
    }

    /// The weights that are computed with.
    pub(super) fn weights(&self) -> &[Tensor<2>] {
        &self.weights
    }

    pub(super) fn precision(&self) -> Precision {
        self.formats.precision
    }

    pub(super) fn formats(&self) -> Formats {
        self.formats
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
        let computed_with = transfer.upload_all(weights, self.formats.precision);
        if let States::Device(states) = &mut self.states
            && self.formats.precision != Precision::F32
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

    /// Passes the weights, in f32, to `look`, one slice for each tensor; without a copy if they
    /// are in host memory.
    pub(super) fn with_weights<T>(
        &self,
        transfer: &Transfer,
        action: &'static str,
        look: impl FnOnce(&[&[f32]]) -> T,
    ) -> Result<T> {
        let layout = transfer.layout();
        match &self.states {
            States::Host(states) => Ok(look(&slices(layout, &states.masters))),
            States::Device(_) if transfer.is_cpu() => {
                Ok(fused::cpu::with_all_values(self.masters(), look))
            }
            States::Device(_) => {
                let flat = transfer.read_all(self.masters(), action)?;
                Ok(look(&slices(layout, &flat)))
            }
        }
    }

    /// Sets some of the weights that are computed with, tensor by tensor.
    pub(super) fn assign(&mut self, entries: &[Entries], transfer: &Transfer) {
        // Taken out, so that nothing else holds the tensors and they change in place.
        let weights = mem::take(&mut self.weights).into_iter().enumerate();
        self.weights = weights
            .map(|(index, weight)| match entries.get(index) {
                Some(entries) if !entries.places.is_empty() => {
                    transfer.assign(index, weight, entries, self.formats.precision)
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
            States::Device(states) => states.has_moments(),
            States::Host(states) => !states.moments.is_empty(),
        }
    }

    /// Passes each tensor's moments to `visit`; nothing if there are none yet.
    pub(super) fn visit_moments(
        &self,
        transfer: &Transfer,
        action: &'static str,
        visit: &mut dyn FnMut(MomentsRef<'_>) -> Result<()>,
    ) -> Result<()> {
        match &self.states {
            States::Device(states) => states.visit_moments(transfer, action, visit),
            States::Host(states) => {
                let mut tensors = states.moments.iter();
                tensors.try_for_each(|moments| visit(moments.borrowed()))
            }
        }
    }

    /// Replaces all moments by what `next` returns for each tensor. On an error they stay.
    pub(super) fn restore_moments(
        &mut self,
        transfer: &Transfer,
        next: &mut dyn FnMut(usize) -> Result<TensorMoments>,
    ) -> Result<()> {
        match &mut self.states {
            States::Device(states) => states.restore_moments(transfer, next)?,
            States::Host(states) => {
                let format = states.format;
                let tensors = 0..transfer.layout().tensors().len();
                let moments = tensors.map(|index| Ok(next(index)?.in_format(format)));
                states.moments = moments.collect::<Result<_>>()?;
            }
        }
        Ok(())
    }

    /// Drops all moments: the next update starts from zeros.
    pub(super) fn forget_moments(&mut self) {
        match &mut self.states {
            States::Device(states) => states.forget_moments(),
            States::Host(states) => states.moments.clear(),
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
        let precision = self.formats.precision;
        match &mut self.states {
            States::Host(states) => {
                let uploaded = (&mut self.weights[..], precision);
                states.update(update, clip, transfer, uploaded)
            }
            States::Device(states) => {
                let settings = (update, clip);
                states.update(&mut self.weights, precision, gradients, transfer, settings);
                Ok(())
            }
        }
    }
}

/// One slice of a flat vector for each tensor.
fn slices<'a>(layout: &Layout, flat: &'a [f32]) -> Vec<&'a [f32]> {
    layout.ranges().map(|range| &flat[range]).collect()
}
