//! The optimiser's step: AdamW (Loshchilov and Hutter, 2019, algorithm 2), or Muon for the matrices
//! within the blocks.

use burn::tensor::{Tensor, TensorData};
use weal_kernels::TensorSpec;
use weal_kernels::moments8::Moments8;
use weal_kernels::update::AdamW;

use crate::engine::fused;
use crate::engine::weight_and_moments::WeightAndMoments;

/// Added to the root of the second moment.
const ADAM_EPSILON: f32 = 1e-8;

/// Coefficients of the Newton–Schulz iteration, chosen to grow small singular values fastest
/// (Jordan et al., 2024, <https://kellerjordan.github.io/posts/muon/>).
const NEWTON_SCHULZ: [f32; 3] = [3.4445, -4.775, 2.0315];
/// Iterations of a step.
const NEWTON_SCHULZ_STEPS: usize = 5;
/// A smaller norm counts as this, so that a zero matrix stays zero.
const MUON_EPSILON: f32 = 1e-7;
/// Root mean square of AdamW's usual step, to which Muon's is scaled (Liu et al., 2025,
/// <https://arxiv.org/abs/2502.16982>, section 2.2), so that one learning rate serves both.
const ADAM_RMS: f64 = 0.2;

/// The settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Update {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// Weight decay of matrices, as a share of the learning rate.
    pub decay: f64,
    /// The largest global gradient norm; `None` does not clip.
    pub clip: Option<f64>,
    /// Updates that the moments have seen before this one.
    pub updates_before: u64,
    /// Muon's momentum; `None` uses AdamW for everything.
    pub muon: Option<f64>,
}

impl Update {
    /// Bias correction of the first moment.
    fn correction1(&self) -> f64 {
        correction(self.beta1, self.updates_before)
    }

    /// Bias correction of the second moment.
    fn correction2(&self) -> f64 {
        correction(self.beta2, self.updates_before)
    }

    /// The factor that clips a gradient of global norm `norm`.
    pub(crate) fn clip_factor(&self, norm: f64) -> f64 {
        match self.clip {
            Some(clip) if norm > clip => clip / norm,
            _ => 1.0,
        }
    }

    /// The factor that weight decay leaves of a weight. Gains of norms do not decay.
    pub(super) fn kept(&self, tensor: &TensorSpec) -> f32 {
        if tensor.shape.len() == 2 {
            (1.0 - self.learning_rate * self.decay) as f32
        } else {
            1.0
        }
    }

    /// The learning rate of a matrix's orthogonal step.
    pub(super) fn muon_rate(&self, tensor: &TensorSpec) -> f32 {
        let longer = tensor.shape.iter().copied().max().unwrap_or(1) as f64;
        (self.learning_rate * ADAM_RMS * longer.sqrt()) as f32
    }

    /// Draws how a tensor's moments are rounded after this update, where they are kept in eight
    /// bits.
    pub(super) fn rounding_seed(&self, tensor: usize) -> u64 {
        (self.updates_before << 16) + tensor as u64
    }

    /// The coefficients of AdamW's update of a tensor by a gradient scaled by `clip`.
    pub(super) fn adamw(&self, tensor: &TensorSpec, clip: f32) -> AdamW {
        AdamW {
            scale: clip,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rate: (self.learning_rate * self.correction1()) as f32,
            correction2: self.correction2() as f32,
            epsilon: ADAM_EPSILON,
            kept: self.kept(tensor),
        }
    }
}

fn correction(beta: f64, updates_before: u64) -> f64 {
    let updates = i32::try_from(updates_before + 1).unwrap_or(i32::MAX);
    1.0 / (1.0 - beta.powi(updates))
}

/// Updates a weight by a gradient scaled by `clip`.
pub(super) fn step(
    state: WeightAndMoments,
    tensor: &TensorSpec,
    gradient: Tensor<2>,
    update: &Update,
    clip: f32,
) -> WeightAndMoments {
    match update.muon {
        Some(momentum) if is_block_matrix(tensor) => {
            muon(state, tensor, gradient.mul_scalar(clip), update, momentum)
        }
        _ => fused::adamw(state, gradient, &update.adamw(tensor, clip)),
    }
}

/// What [`step`] does, on the CPU, to a weight whose moments are kept in eight bits. `seed` draws
/// how they are rounded.
pub(super) fn step_short(
    weight: Tensor<2>,
    moments: &mut Moments8,
    tensor: &TensorSpec,
    gradient: Tensor<2>,
    (update, clip, seed): (&Update, f32, u64),
) -> Tensor<2> {
    let Some(momentum) = update.muon.filter(|_| is_block_matrix(tensor)) else {
        let numbers = update.adamw(tensor, clip);
        return fused::cpu::adamw_short(weight, moments, gradient, (&numbers, seed));
    };
    let shape = weight.dims();
    let first = TensorData::new(moments.first(), shape);
    let state = WeightAndMoments {
        second: Tensor::zeros([1, 1], &weight.device()),
        first: Tensor::from_data(first, &weight.device()),
        weight,
    };
    let state = muon(state, tensor, gradient.mul_scalar(clip), update, momentum);
    fused::cpu::with_values(state.first, |first| moments.set_first(first, seed));
    state.weight
}

/// Nesterov momentum, orthogonalised, as `torch.optim.Muon` with `match_rms_adamw`.
fn muon(
    state: WeightAndMoments,
    tensor: &TensorSpec,
    gradient: Tensor<2>,
    update: &Update,
    momentum: f64,
) -> WeightAndMoments {
    let mu = momentum as f32;
    let first = state.first.mul_scalar(mu) + gradient.clone().mul_scalar(1.0 - mu);
    let ahead = gradient.mul_scalar(1.0 - mu) + first.clone().mul_scalar(mu);
    let step = orthogonalise(ahead).mul_scalar(update.muon_rate(tensor));
    let weight = state.weight.mul_scalar(update.kept(tensor)) - step;
    WeightAndMoments {
        weight,
        first,
        second: state.second,
    }
}

/// Whether a tensor is a matrix within a block. The embedding and the output projection, whose rows
/// stand for tokens, are not.
pub(super) fn is_block_matrix(tensor: &TensorSpec) -> bool {
    tensor.shape.len() == 2
        && !matches!(
            tensor.name.as_str(),
            "model.embed_tokens.weight" | "lm_head.weight"
        )
}

/// Replaces the singular values of U S Vᵗ by values near one: five steps of
/// X ← aX + (bA + cA²)X with A = XXᵗ.
pub(super) fn orthogonalise(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    let wide = |matrix: Tensor<2>| {
        if rows > columns {
            matrix.transpose()
        } else {
            matrix
        }
    };
    let norm = matrix
        .clone()
        .square()
        .sum()
        .sqrt()
        .clamp_min(MUON_EPSILON)
        .reshape([1, 1]);
    let [a, b, c] = NEWTON_SCHULZ;
    let mut x = wide(matrix / norm);
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let gram = x.clone().matmul(x.clone().transpose());
        let change = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
        x = x.clone().mul_scalar(a) + change.matmul(x);
    }
    wide(x)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde::Deserialize;
    use weal_testing::require;

    use super::*;
    use crate::gpus::gpus;

    /// PyTorch's steps, recorded by `docs/bench/optimisers.py`.
    #[derive(Deserialize)]
    struct Recorded {
        rate: f64,
        decay: f64,
        beta1: f64,
        beta2: f64,
        momentum: f64,
        adamw: Vec<Trajectory>,
        muon: Vec<Trajectory>,
    }

    #[derive(Deserialize)]
    struct Trajectory {
        shape: Vec<usize>,
        weight: Vec<f32>,
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        gradient: Vec<f32>,
        weight: Vec<f32>,
    }

    fn recorded() -> Recorded {
        serde_json::from_str(include_str!("../../tests/data/optimisers.json")).unwrap()
    }

    /// The largest difference from PyTorch's weights after each step.
    fn differences(trajectory: &Trajectory, update: &Update, device: &Device) -> Vec<f32> {
        let shape = match trajectory.shape[..] {
            [rows, columns] => [rows, columns],
            _ => [1, trajectory.weight.len()],
        };
        let tensor = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let spec = TensorSpec {
            name: "model.layers.0.mlp.up_proj.weight".into(),
            shape: trajectory.shape.clone(),
        };
        let zeros = tensor(&vec![0.0; trajectory.weight.len()]);
        let mut state = WeightAndMoments {
            weight: tensor(&trajectory.weight),
            first: zeros.clone(),
            second: zeros,
        };
        let step = |(number, step): (usize, &Step)| {
            let update = Update {
                updates_before: number as u64,
                ..*update
            };
            state = super::step(state.clone(), &spec, tensor(&step.gradient), &update, 1.0);
            let ours = state.weight.clone().try_into_vec_as::<f32>().unwrap();
            ours.iter()
                .zip(&step.weight)
                .fold(0.0, |worst: f32, (ours, theirs)| {
                    worst.max((ours - theirs).abs())
                })
        };
        trajectory.steps.iter().enumerate().map(step).collect()
    }

    #[test]
    fn every_step_matches_pytorch() {
        let recorded = recorded();
        let Recorded {
            rate,
            decay,
            beta1,
            beta2,
            ..
        } = recorded;
        let adamw = Update {
            learning_rate: rate,
            beta1,
            beta2,
            decay,
            clip: None,
            updates_before: 0,
            muon: None,
        };
        let muon = Update {
            muon: Some(recorded.momentum),
            ..adamw
        };
        let gpu = gpus().into_iter().next().map(|gpu| gpu.device);
        if gpu.is_none() {
            require::skip("AdamW on a GPU", "it has no GPU, not even a software one");
        }
        let mut cases = vec![
            (&recorded.adamw, adamw, Device::flex()),
            (&recorded.muon, muon, Device::flex()),
        ];
        cases.extend(gpu.map(|gpu| (&recorded.adamw, adamw, gpu)));
        for (trajectories, update, device) in cases {
            for trajectory in trajectories {
                for (step, difference) in differences(trajectory, &update, &device)
                    .into_iter()
                    .enumerate()
                {
                    let shape = &trajectory.shape;
                    assert!(
                        difference < 2e-6,
                        "{update:?}, {shape:?}, step {step}: off by {difference}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_orthogonalised_matrix_has_singular_values_near_one() {
        // Singular values of 3, 1 and 0.4.
        let values = vec![
            3.0_f32, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0,
        ];
        let matrix =
            Tensor::<2>::from_data(TensorData::new(values.clone(), [4, 3]), &Device::flex());
        let found = orthogonalise(matrix).try_into_vec_as::<f32>().unwrap();
        for (value, before) in found.iter().zip(values) {
            let is_right = if before > 0.0 {
                (0.6..1.3).contains(value)
            } else {
                value.abs() < 1e-5
            };
            assert!(is_right, "{found:?}");
        }
    }

    #[test]
    fn muon_takes_only_the_matrices_within_the_blocks() {
        let is = |name: &str, shape: &[usize]| {
            is_block_matrix(&TensorSpec {
                name: name.into(),
                shape: shape.to_vec(),
            })
        };
        assert!(is("model.layers.0.self_attn.q_proj.weight", &[4, 4]));
        assert!(!is("model.embed_tokens.weight", &[4, 4]) && !is("lm_head.weight", &[4, 4]));
        assert!(!is("model.norm.weight", &[4]));
    }
}
