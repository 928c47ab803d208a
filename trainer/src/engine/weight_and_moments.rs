//! One weight tensor with its optimiser state.

use burn::tensor::Tensor;

/// A weight tensor and what the optimiser remembers of it: AdamW's two moments, or Muon's momentum
/// in `first` and zeros in `second`.
#[derive(Clone, Debug)]
pub(super) struct WeightAndMoments {
    pub weight: Tensor<2>,
    pub first: Tensor<2>,
    pub second: Tensor<2>,
}
