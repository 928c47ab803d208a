//! The model's forward pass in tensors of the burn framework, for automatic differentiation on any device.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::engine::rope::RotaryTable;
use crate::spec::{BlockIndex, ModelSpec, TensorIndex};

/// What is added to the score of a token that must not be seen: its weight becomes zero, and nothing becomes NaN.
const HIDDEN: f32 = -1e9;

/// The parts of the model that are not learnt, on a device, for windows of one length.
pub(super) struct Model {
    spec: ModelSpec,
    index: TensorIndex,
    length: usize,
    /// `[1, 1, length, head width / 2]`
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// 0 where a query may see a key, [`HIDDEN`] elsewhere; `[1, 1, group · length, length]`.
    mask: Tensor<4>,
}

impl Model {
    /// The model for windows of `length` tokens.
    pub fn new(spec: &ModelSpec, length: usize, device: &Device) -> Self {
        let rotary = RotaryTable::new(spec);
        let table = |values: &[f32]| {
            let values = values[..length * rotary.half].to_vec();
            Tensor::from_data(TensorData::new(values, [1, 1, length, rotary.half]), device)
        };
        let group = spec.heads / spec.kv_heads;
        let mask: Vec<f32> = (0..group * length)
            .flat_map(|row| (0..length).map(move |column| if column <= row % length { 0.0 } else { HIDDEN }))
            .collect();
        Self {
            index: TensorIndex::new(spec),
            length,
            cos: table(&rotary.cos),
            sin: table(&rotary.sin),
            mask: Tensor::from_data(TensorData::new(mask, [1, 1, group * length, length]), device),
            spec: spec.clone(),
        }
    }

    /// Tokens of the windows that this was made for.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The normed stream after the last block, `[sequences · length, width]`, for `inputs` of `[sequences · length]`.
    pub fn stream(&self, weights: &[Tensor<2>], inputs: Tensor<1, Int>) -> Tensor<2> {
        let mut stream = weights[self.index.embedding()].clone().select(0, inputs);
        for layer in 0..self.spec.layers {
            let index = self.index.block(layer);
            let normed = self.norm(stream.clone(), &weights[index.attention_norm]);
            stream = stream + self.attention(weights, index, normed);
            let normed = self.norm(stream.clone(), &weights[index.feed_forward_norm]);
            stream = stream + feed_forward(weights, index, normed);
        }
        self.norm(stream, &weights[self.index.final_norm()])
    }

    /// The scores of every next token, `[rows, vocabulary]`, for a normed stream of `[rows, width]`.
    pub fn logits(&self, weights: &[Tensor<2>], stream: Tensor<2>) -> Tensor<2> {
        project(stream, &weights[self.index.head()])
    }

    /// The sum of −log p of `targets`, `[1]`; `inputs` and `targets` are `[sequences · length]`.
    pub fn loss(&self, weights: &[Tensor<2>], inputs: Tensor<1, Int>, targets: Tensor<1, Int>) -> Tensor<1> {
        let logits = self.logits(weights, self.stream(weights, inputs));
        let log_probabilities = activation::log_softmax(logits, 1);
        log_probabilities.gather(1, targets.unsqueeze_dim(1)).sum().neg()
    }

    fn norm(&self, x: Tensor<2>, gain: &Tensor<2>) -> Tensor<2> {
        let root = x.clone().square().mean_dim(1).add_scalar(self.spec.norm_epsilon()).sqrt();
        x / root * gain.clone()
    }

    fn attention(&self, weights: &[Tensor<2>], index: BlockIndex, normed: Tensor<2>) -> Tensor<2> {
        let spec = &self.spec;
        let rows = normed.dims()[0];
        let sequences = rows / self.length;
        let heads =
            |x: Tensor<2>, heads: usize| x.reshape([sequences, self.length, heads, spec.head_width()]).swap_dims(1, 2);
        let query = self.rotate(heads(project(normed.clone(), &weights[index.query]), spec.heads));
        let key = self.rotate(heads(project(normed.clone(), &weights[index.key]), spec.kv_heads));
        let value = heads(project(normed, &weights[index.value]), spec.kv_heads);

        // The queries that share a key head stand one below the other, so that no key is copied.
        let grouped = [sequences, spec.kv_heads, spec.heads / spec.kv_heads * self.length, spec.head_width()];
        let scale = 1.0 / (spec.head_width() as f32).sqrt();
        let scores = query.mul_scalar(scale).reshape(grouped).matmul(key.swap_dims(2, 3)) + self.mask.clone();
        let attended = activation::softmax(scores, 3).matmul(value);
        let attended = attended
            .reshape([sequences, spec.heads, self.length, spec.head_width()])
            .swap_dims(1, 2)
            .reshape([rows, spec.width]);
        project(attended, &weights[index.output])
    }

    /// Turns `[sequences, heads, length, head width]` by the angles of its positions.
    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.spec.head_width() / 2;
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 3)
    }
}

fn feed_forward(weights: &[Tensor<2>], index: BlockIndex, normed: Tensor<2>) -> Tensor<2> {
    let gate = activation::silu(project(normed.clone(), &weights[index.gate]));
    let up = project(normed, &weights[index.up]);
    project(gate * up, &weights[index.down])
}

/// x · weightᵗ, where the weight is `[out, in]`.
fn project(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    x.matmul(weight.clone().transpose())
}
