//! How a learner uses its device: what lies where, in how many bits it multiplies, and what time it
//! gives for memory.

use std::fmt;

use crate::device::OpenDevice;

/// Where what is only needed once a step lies: weights in f32, sums of gradients, the optimiser's
/// moments, error feedback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the device that computes.
    #[default]
    Device,
    /// In the machine's memory, where the processor updates it; the device holds the weights that
    /// it computes with.
    Host,
}

/// What matrices are multiplied in. Norms, softmax, losses, sums and updates are always in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32; the weights that are updated stay in f32.
    Bf16,
}

impl Precision {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// How a learner uses its device. What is learnt is the same under every plan of one precision, but
/// for the last bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComputePlan {
    /// The most sequences of a step that are differentiated at once; `None` for all.
    pub micro_batch: Option<usize>,
    /// Whether what a block needs for its gradient is computed again instead of kept.
    pub recompute: bool,
    /// Where what is only needed once a step lies.
    pub states: Place,
    /// What matrices are multiplied in.
    pub precision: Precision,
}

impl fmt::Display for ComputePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.micro_batch {
            Some(sequences) => write!(formatter, "micro-batch {sequences}")?,
            None => formatter.write_str("whole batches")?,
        }
        let recompute = if self.recompute { "on" } else { "off" };
        let states = match self.states {
            Place::Device => "on the device",
            Place::Host => "in host memory",
        };
        write!(
            formatter,
            ", recompute {recompute}, states {states}, {}",
            self.precision
        )
    }
}

impl OpenDevice {
    /// Whether it multiplies in that precision by itself. The processor can imitate bf16, for
    /// tests, but gains nothing by it.
    pub fn supports(&self, precision: Precision) -> bool {
        match precision {
            Precision::F32 => true,
            Precision::Bf16 => self.raw().supports_dtype(burn::tensor::FloatDType::BF16),
        }
    }

    /// bf16 on a GPU that has it, else f32.
    pub fn best_precision(&self) -> Precision {
        if self.is_gpu() && self.supports(Precision::Bf16) {
            Precision::Bf16
        } else {
            Precision::F32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_it_is() {
        let plan = ComputePlan {
            micro_batch: Some(4),
            recompute: true,
            states: Place::Host,
            precision: Precision::Bf16,
        };
        assert_eq!(
            plan.to_string(),
            "micro-batch 4, recompute on, states in host memory, bf16"
        );
        let plain = "whole batches, recompute off, states on the device, f32";
        assert_eq!(ComputePlan::default().to_string(), plain);
    }

    #[test]
    fn the_processor_computes_in_f32_unless_told() {
        let processor = OpenDevice::cpu();
        assert_eq!(processor.best_precision(), Precision::F32);
        assert!(processor.supports(Precision::F32));
    }
}
