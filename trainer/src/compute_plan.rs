//! How a learner uses its device: the precision, the micro-batch, recomputation, and where the
//! optimiser's states live.

use std::fmt;

/// Where a learner keeps what it needs only once a step: f32 weights, gradient sums, the
/// optimiser's moments, the error feedback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatePlacement {
    /// In the memory of the device that computes.
    #[default]
    Device,
    /// In host memory, where the CPU updates them. The device holds only the weights it computes
    /// with.
    Host,
}

/// The type of matrix products. Norms, softmax, losses, sums and updates are always in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with 11 bits of precision and a small range: losses are scaled, so that gradients
    /// stay within it. The weights that the optimiser updates stay in f32.
    F16,
    /// 16 bits with the range of f32. The weights that the optimiser updates stay in f32.
    Bf16,
}

impl Precision {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// How the optimiser's moments are kept. Only states in host memory, and the CPU, can have them in
/// eight bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentFormat {
    /// 32 bits each.
    #[default]
    F32,
    /// Eight bits each, and a scale for each block of them (see [`weal_kernels::moments8`]).
    Bits8,
}

impl MomentFormat {
    /// Bytes of a moment, scales included.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bits8 => 1.0 + 4.0 / 256.0,
        }
    }
}

impl fmt::Display for MomentFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Bits8 => "8-bit",
        })
    }
}

/// How the error feedback is kept in host memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
}

impl ErrorFormat {
    /// Bytes of a value.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bf16 => 2.0,
        }
    }
}

impl fmt::Display for ErrorFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// How a learner uses its device. All plans of one precision learn the same, up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComputePlan {
    /// The most sequences of a step that go through the model at once; `None` for the whole batch.
    /// A smaller micro-batch needs less memory for activations.
    pub micro_batch: Option<usize>,
    /// Recompute activations in the backward pass instead of storing them: slower, far less
    /// memory.
    pub recompute: bool,
    /// With `recompute`: take all micro-batches of a step through a block before the next block
    /// begins. Gradients cross to host memory once a step then, and not once a micro-batch; the
    /// inputs of all blocks are stored for the whole batch.
    pub by_block: bool,
    /// Where f32 weights, gradient sums and moments live.
    pub states: StatePlacement,
    /// The type of matrix products.
    pub precision: Precision,
    /// How moments are kept, where they may be kept in eight bits.
    pub moments: MomentFormat,
    /// How the error feedback is kept in host memory.
    pub error_feedback: ErrorFormat,
}

impl fmt::Display for ComputePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.micro_batch {
            Some(sequences) => write!(formatter, "micro-batch {sequences}")?,
            None => formatter.write_str("whole batches")?,
        }
        let recompute = match (self.recompute, self.by_block) {
            (true, true) => "block by block",
            (true, false) => "on",
            (false, _) => "off",
        };
        let states = match self.states {
            StatePlacement::Device => "on the device",
            StatePlacement::Host => "in host memory",
        };
        write!(
            formatter,
            ", recompute {recompute}, states {states}, {}",
            self.precision
        )?;
        if self.moments != MomentFormat::F32 {
            write!(formatter, ", {} moments", self.moments)?;
        }
        if self.error_feedback != ErrorFormat::F32 {
            write!(formatter, ", {} error feedback", self.error_feedback)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_prints_all_its_settings() {
        let plan = ComputePlan {
            micro_batch: Some(4),
            recompute: true,
            states: StatePlacement::Host,
            precision: Precision::Bf16,
            ..ComputePlan::default()
        };
        assert_eq!(
            plan.to_string(),
            "micro-batch 4, recompute on, states in host memory, bf16"
        );
        let short = ComputePlan {
            moments: MomentFormat::Bits8,
            error_feedback: ErrorFormat::Bf16,
            ..plan
        };
        assert_eq!(
            short.to_string(),
            format!("{plan}, 8-bit moments, bf16 error feedback")
        );
        let by_block = ComputePlan {
            by_block: true,
            ..plan
        };
        let expected = "micro-batch 4, recompute block by block, states in host memory, bf16";
        assert_eq!(by_block.to_string(), expected);
        let plain = "whole batches, recompute off, states on the device, f32";
        assert_eq!(ComputePlan::default().to_string(), plain);
    }
}
