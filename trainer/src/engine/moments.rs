//! The moments of one tensor in host memory: in f32, or in eight bits.

use std::borrow::Cow;

use weal_kernels::Layout;
use weal_kernels::moments8::Moments8;

use crate::compute_plan::MomentFormat;
use crate::engine::seconds::Seconds;
use crate::error::{Error, Result};

/// All moments, flat, in the layout's order: AdamW's two, or Muon's momentum. Tensors that Muon
/// updates are left out of the second.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MomentVectors {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TensorMoments {
    /// In f32; the second is empty if there is none.
    Full { first: Vec<f32>, second: Vec<f32> },
    /// In eight bits.
    Short(Moments8),
}

/// The same, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MomentsRef<'a> {
    Full { first: &'a [f32], second: &'a [f32] },
    Short(&'a Moments8),
}

impl TensorMoments {
    pub(super) fn zeros(format: MomentFormat, count: usize, has_second: bool) -> Self {
        match format {
            MomentFormat::F32 => Self::Full {
                first: vec![0.0; count],
                second: vec![0.0; if has_second { count } else { 0 }],
            },
            MomentFormat::Bits8 => Self::Short(Moments8::zeros(count, has_second)),
        }
    }

    /// Moments of zero for all tensors.
    pub(super) fn all_zeros(format: MomentFormat, layout: &Layout, seconds: &Seconds) -> Vec<Self> {
        let tensors = layout.ranges().enumerate();
        tensors
            .map(|(index, range)| {
                Self::zeros(format, range.len(), !seconds.range(index).is_empty())
            })
            .collect()
    }

    pub(crate) fn borrowed(&self) -> MomentsRef<'_> {
        match self {
            Self::Full { first, second } => MomentsRef::Full { first, second },
            Self::Short(moments) => MomentsRef::Short(moments),
        }
    }

    /// The same moments in a format.
    pub(super) fn in_format(self, format: MomentFormat) -> Self {
        match (self, format) {
            (Self::Full { first, second }, MomentFormat::Bits8) => {
                // Which way a number is rounded is drawn; any seed will do for a single time.
                Self::Short(Moments8::of(&first, &second, first.len() as u64))
            }
            (Self::Short(moments), MomentFormat::F32) => Self::Full {
                first: moments.first(),
                second: moments.second(),
            },
            (same, _) => same,
        }
    }
}

impl<'a> MomentsRef<'a> {
    /// Both moments in f32.
    pub(crate) fn values(self) -> [Cow<'a, [f32]>; 2] {
        match self {
            Self::Full { first, second } => [first.into(), second.into()],
            Self::Short(moments) => [moments.first().into(), moments.second().into()],
        }
    }

    pub(crate) fn to_owned(self) -> TensorMoments {
        match self {
            Self::Full { first, second } => TensorMoments::Full {
                first: first.to_vec(),
                second: second.to_vec(),
            },
            Self::Short(moments) => TensorMoments::Short(moments.clone()),
        }
    }

    /// Checks that the optimiser can continue from every value.
    pub(crate) fn check(self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Moments(reason.to_owned()));
        let (first, second) = match self {
            Self::Full { first, second } => (first, second),
            Self::Short(moments) if moments.are_finite() => return Ok(()),
            Self::Short(_) => return refuse("a scale is not finite"),
        };
        if !first.iter().all(|value| value.is_finite()) {
            return refuse("a first moment is not finite");
        }
        let is_usable = |value: &f32| value.is_finite() && *value >= 0.0;
        if !second.iter().all(is_usable) {
            return refuse("a second moment is negative or not finite");
        }
        Ok(())
    }
}
