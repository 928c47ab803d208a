//! Optimiser states where the device computes, one tensor each. On the CPU the moments may be kept
//! in eight bits.

use std::mem;

use burn::tensor::{FloatDType, Tensor};
use rayon::prelude::*;
use weal_kernels::TensorSpec;
use weal_kernels::moments8::Moments8;

use crate::compute_plan::{MomentFormat, Precision};
use crate::engine::moments::{MomentsRef, TensorMoments};
use crate::engine::optimiser::{self, Update};
use crate::engine::seconds::Seconds;
use crate::engine::transfer::{Transfer, compute_type};
use crate::engine::weight_and_moments::WeightAndMoments;
use crate::error::Result;

/// Empty until they are needed.
#[derive(Default)]
pub(super) struct DeviceStates {
    /// The weights in f32, where those that are computed with are shorter.
    pub masters: Vec<Tensor<2>>,
    moments: DeviceMoments,
    pub seconds: Seconds,
    /// How moments are kept; in eight bits on the CPU alone.
    pub format: MomentFormat,
}

#[derive(Default)]
enum DeviceMoments {
    /// There was no update yet.
    #[default]
    None,
    Full {
        first: Vec<Tensor<2>>,
        /// A single zero for a tensor that has none.
        second: Vec<Tensor<2>>,
    },
    Short(Vec<Moments8>),
}

/// A tensor's moments on the way through an update.
#[allow(clippy::large_enum_variant)] // one for each tensor, and only for a moment
enum Moments {
    Full(Tensor<2>, Tensor<2>),
    Short(Moments8),
}

impl DeviceStates {
    pub(super) fn new(seconds: Seconds, format: MomentFormat) -> Self {
        Self {
            seconds,
            format,
            ..Self::default()
        }
    }

    /// Whether any update or restored moments came before.
    pub(super) fn has_moments(&self) -> bool {
        !matches!(self.moments, DeviceMoments::None)
    }

    pub(super) fn forget_moments(&mut self) {
        self.moments = DeviceMoments::None;
    }

    /// Passes each tensor's moments to `visit`; nothing if there are none yet.
    pub(super) fn visit_moments(
        &self,
        transfer: &Transfer,
        action: &'static str,
        visit: &mut dyn FnMut(MomentsRef<'_>) -> Result<()>,
    ) -> Result<()> {
        match &self.moments {
            DeviceMoments::None => Ok(()),
            DeviceMoments::Short(moments) => moments
                .iter()
                .try_for_each(|moments| visit(MomentsRef::Short(moments))),
            DeviceMoments::Full { first, second } => {
                let mut both = first.iter().zip(second).enumerate();
                both.try_for_each(|(index, (first, second))| {
                    let first = transfer.read(first.clone(), action)?;
                    let second = match self.seconds.range(index).is_empty() {
                        true => Vec::new(),
                        false => transfer.read(second.clone(), action)?,
                    };
                    visit(MomentsRef::Full {
                        first: &first,
                        second: &second,
                    })
                })
            }
        }
    }

    /// Replaces all moments by what `next` returns for each tensor.
    pub(super) fn restore_moments(
        &mut self,
        transfer: &Transfer,
        next: &mut dyn FnMut(usize) -> Result<TensorMoments>,
    ) -> Result<()> {
        let tensors = 0..transfer.layout().tensors().len();
        if self.format == MomentFormat::Bits8 {
            let short = |index: usize| match next(index)?.in_format(MomentFormat::Bits8) {
                TensorMoments::Short(moments) => Ok(moments),
                TensorMoments::Full { first, second } => Ok(Moments8::of(&first, &second, 0)),
            };
            self.moments = DeviceMoments::Short(tensors.map(short).collect::<Result<_>>()?);
            return Ok(());
        }
        let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
        for index in tensors {
            let moments = next(index)?;
            let [first, second] = moments.borrowed().values();
            firsts.push(transfer.upload(index, &first, Precision::F32));
            seconds.push(match second.is_empty() {
                true => transfer.no_moment(),
                false => transfer.upload(index, &second, Precision::F32),
            });
        }
        self.moments = DeviceMoments::Full {
            first: firsts,
            second: seconds,
        };
        Ok(())
    }

    /// Takes the moments out, zeros if there are none yet.
    fn take_moments(&mut self, transfer: &Transfer) -> Vec<Moments> {
        let layout = transfer.layout();
        match (mem::take(&mut self.moments), self.format) {
            (DeviceMoments::Full { first, second }, _) => {
                let both = first.into_iter().zip(second);
                both.map(|(first, second)| Moments::Full(first, second))
                    .collect()
            }
            (DeviceMoments::Short(moments), _) => moments.into_iter().map(Moments::Short).collect(),
            (DeviceMoments::None, MomentFormat::Bits8) => {
                let tensors = layout.ranges().enumerate();
                tensors
                    .map(|(index, range)| {
                        let has_second = !self.seconds.range(index).is_empty();
                        Moments::Short(Moments8::zeros(range.len(), has_second))
                    })
                    .collect()
            }
            (DeviceMoments::None, MomentFormat::F32) => {
                let second = self.seconds.each(
                    |index: usize| transfer.zeros_of(index),
                    || transfer.no_moment(),
                );
                let both = transfer.zeros().into_iter().zip(second);
                both.map(|(first, second)| Moments::Full(first, second))
                    .collect()
            }
        }
    }

    fn put_back(&mut self, moments: Vec<Moments>) {
        let (mut firsts, mut seconds, mut short) = (Vec::new(), Vec::new(), Vec::new());
        for moments in moments {
            match moments {
                Moments::Full(first, second) => {
                    firsts.push(first);
                    seconds.push(second);
                }
                Moments::Short(moments) => short.push(moments),
            }
        }
        self.moments = if short.is_empty() {
            DeviceMoments::Full {
                first: firsts,
                second: seconds,
            }
        } else {
            DeviceMoments::Short(short)
        };
    }

    /// Updates every weight and its moments by their gradient, scaled by `clip`.
    pub(super) fn update(
        &mut self,
        weights: &mut Vec<Tensor<2>>,
        precision: Precision,
        gradients: Vec<Tensor<2>>,
        transfer: &Transfer,
        (update, clip): (&Update, f32),
    ) {
        let moments = self.take_moments(transfer);
        let has_masters = !self.masters.is_empty();
        let old = mem::take(if has_masters {
            &mut self.masters
        } else {
            weights
        });
        let tensors = transfer.layout().tensors();
        let work: Vec<_> = tensors
            .iter()
            .zip(old.into_iter().zip(gradients).zip(moments))
            .enumerate()
            .collect();
        let one = |(index, (spec, ((weight, gradient), moments)))| {
            step(index, spec, (weight, gradient, moments), (update, clip))
        };
        // The CPU's threads share the tensors out; a GPU takes its work from one thread.
        let updated: Vec<(Tensor<2>, Moments)> = if transfer.is_cpu() {
            work.into_par_iter().map(one).collect()
        } else {
            work.into_iter().map(one).collect()
        };
        let (updated, moments): (Vec<_>, Vec<_>) = updated.into_iter().unzip();
        self.put_back(moments);
        if !has_masters {
            *weights = updated;
            return;
        }
        for (index, weight) in updated.into_iter().enumerate() {
            let kind = compute_type(&tensors[index], precision);
            weights[index] = weight.clone().cast(FloatDType::from(kind));
            self.masters.push(weight);
        }
    }
}

/// What becomes of one weight and its moments.
fn step(
    index: usize,
    spec: &TensorSpec,
    (weight, gradient, moments): (Tensor<2>, Tensor<2>, Moments),
    (update, clip): (&Update, f32),
) -> (Tensor<2>, Moments) {
    match moments {
        Moments::Full(first, second) => {
            let state = WeightAndMoments {
                weight,
                first,
                second,
            };
            let state = optimiser::step(state, spec, gradient, update, clip);
            (state.weight, Moments::Full(state.first, state.second))
        }
        Moments::Short(mut moments) => {
            let of_step = (update, clip, update.rounding_seed(index));
            let weight = optimiser::step_short(weight, &mut moments, spec, gradient, of_step);
            (weight, Moments::Short(moments))
        }
    }
}
