//! The model's forward pass in plain loops and f64: slow, but short enough to check against the
//! papers.

use crate::spec::ModelSpec;
use crate::tensor_index::TensorIndex;

type Vector = Vec<f64>;

/// A model and its weights.
pub(super) struct Plain<'a> {
    spec: &'a ModelSpec,
    index: TensorIndex,
    tensors: Vec<&'a [f32]>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(spec: &'a ModelSpec, weights: &'a [f32]) -> Self {
        let layout = spec.layout().unwrap();
        let tensors = layout.ranges().map(|range| &weights[range]).collect();
        Self {
            spec,
            index: TensorIndex::new(spec),
            tensors,
        }
    }

    /// Scores of every token after each of `tokens`, `[tokens][vocabulary]`.
    pub(super) fn logits(&self, tokens: &[u32]) -> Vec<Vector> {
        let width = self.spec.width;
        let embedding = self.tensors[self.index.embedding()];
        let row = |token: &u32| {
            embedding[*token as usize * width..][..width]
                .iter()
                .map(|v| f64::from(*v))
                .collect()
        };
        let mut stream: Vec<Vector> = tokens.iter().map(row).collect();
        for layer in 0..self.spec.layers {
            let block = self.index.block(layer);
            let normed: Vec<_> = stream
                .iter()
                .map(|x| self.norm(x, block.attention_norm))
                .collect();
            let project = |tensor| -> Vec<Vector> {
                normed.iter().map(|x| self.product(tensor, x)).collect()
            };
            let (mut queries, mut keys, values) = (
                project(block.query),
                project(block.key),
                project(block.value),
            );
            for position in 0..tokens.len() {
                if let Some((query_norm, key_norm)) = block.query_key_norms {
                    queries[position] = self.norm_heads(&queries[position], query_norm);
                    keys[position] = self.norm_heads(&keys[position], key_norm);
                }
                self.rotate(&mut queries[position], position);
                self.rotate(&mut keys[position], position);
            }
            for position in 0..tokens.len() {
                let mixed = self.attend(&queries[position], &keys[..=position], &values);
                add(&mut stream[position], &self.product(block.output, &mixed));
            }
            for x in &mut stream {
                let normed = self.norm(x, block.feed_forward_norm);
                let (gate, up) = (
                    self.product(block.gate, &normed),
                    self.product(block.up, &normed),
                );
                let inner: Vector = gate
                    .iter()
                    .zip(&up)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                add(x, &self.product(block.down, &inner));
            }
        }
        stream
            .iter()
            .map(|x| self.product(self.index.head(), &self.norm(x, self.index.final_norm())))
            .collect()
    }

    /// RMSNorm: x / sqrt(mean(x²) + ε), times the gain.
    fn norm(&self, x: &[f64], gain: usize) -> Vector {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.spec.norm_epsilon())).sqrt();
        x.iter()
            .zip(self.tensors[gain])
            .map(|(v, g)| v * scale * f64::from(*g))
            .collect()
    }

    /// RMSNorm of each head separately.
    fn norm_heads(&self, heads: &[f64], gain: usize) -> Vector {
        heads
            .chunks(self.spec.head_width())
            .flat_map(|head| self.norm(head, gain))
            .collect()
    }

    /// A matrix `[out, in]` times a vector.
    fn product(&self, tensor: usize, x: &[f64]) -> Vector {
        let rows = self.tensors[tensor].chunks(x.len());
        rows.map(|row| row.iter().zip(x).map(|(w, v)| f64::from(*w) * v).sum())
            .collect()
    }

    /// RoPE: component i of a head rotates with component i + half by position · θ^(−i / half).
    fn rotate(&self, heads: &mut [f64], position: usize) {
        let half = self.spec.head_width() / 2;
        for head in heads.chunks_mut(2 * half) {
            for i in 0..half {
                let angle = position as f64
                    * f64::from(self.spec.rope_theta).powf(-(i as f64) / half as f64);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + half] = b * angle.cos() + a * angle.sin();
            }
        }
    }

    /// Softmax attention of one position; query heads in groups share a key head.
    fn attend(&self, query: &[f64], keys: &[Vector], values: &[Vector]) -> Vector {
        let (width, group) = (self.spec.head_width(), self.spec.heads / self.spec.kv_heads);
        let mut mixed = Vec::new();
        for (head, query) in query.chunks(width).enumerate() {
            let shared = head / group * width..head / group * width + width;
            let dot = |key: &Vector| {
                key[shared.clone()]
                    .iter()
                    .zip(query)
                    .map(|(k, q)| k * q)
                    .sum::<f64>()
            };
            let scores: Vector = keys
                .iter()
                .map(|key| dot(key) / (width as f64).sqrt())
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            mixed.extend(shared.map(|i| {
                let weighted = scores
                    .iter()
                    .zip(values)
                    .map(|(score, value)| (score - most).exp() * value[i]);
                weighted.sum::<f64>() / total
            }));
        }
        mixed
    }
}

/// Cross-entropy of one prediction, in nats.
pub(super) fn loss(logits: &[f64], target: u32) -> f64 {
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    most + logits
        .iter()
        .map(|logit| (logit - most).exp())
        .sum::<f64>()
        .ln()
        - logits[target as usize]
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
