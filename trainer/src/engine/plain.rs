//! The model's forward pass in plain loops and f64: slow, but short enough to check against the
//! papers.

use crate::features::{Activation, QueryKeyNorm};
use crate::spec::ModelSpec;
use crate::tensor_index::{BlockIndex, Projection, TensorIndex};

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
        let (width, features) = (self.spec.width, &self.spec.features);
        let embedding = self.tensors[self.index.embedding()];
        let factor = if features.scaled_embedding {
            (width as f64).sqrt()
        } else {
            1.0
        };
        let row = |token: &u32| {
            embedding[*token as usize * width..][..width]
                .iter()
                .map(|v| f64::from(*v) * factor)
                .collect()
        };
        let mut stream: Vec<Vector> = tokens.iter().map(row).collect();
        for layer in 0..self.spec.layers {
            let block = self.index.block(layer);
            let [before, after] = block.attention_norms;
            let attended = self.attention(layer, &self.normed(&stream, before));
            self.add(&mut stream, attended, after);
            let [before, after] = block.feed_forward_norms;
            let normed = self.normed(&stream, before);
            let fed = normed.iter().map(|x| self.feed_forward(block, x)).collect();
            self.add(&mut stream, fed, after);
        }
        let cap = features.logit_cap_ppm;
        stream
            .iter()
            .map(|x| self.product(self.index.head(), &self.norm(x, self.index.final_norm())))
            .map(|logits| logits.into_iter().map(|logit| capped(logit, cap)).collect())
            .collect()
    }

    fn normed(&self, stream: &[Vector], gain: Option<usize>) -> Vec<Vector> {
        let norm = |x: &Vector| gain.map_or(x.clone(), |gain| self.norm(x, gain));
        stream.iter().map(norm).collect()
    }

    fn add(&self, stream: &mut [Vector], to_add: Vec<Vector>, gain: Option<usize>) {
        for (x, y) in stream.iter_mut().zip(self.normed(&to_add, gain)) {
            add(x, &y);
        }
    }

    fn attention(&self, layer: usize, normed: &[Vector]) -> Vec<Vector> {
        let block = self.index.block(layer);
        let project = |projection| -> Vec<Vector> {
            normed.iter().map(|x| self.project(projection, x)).collect()
        };
        let (mut queries, mut keys, values) = (
            project(block.query),
            project(block.key),
            project(block.value),
        );
        let kind = self.spec.layer_kind(layer);
        for position in 0..normed.len() {
            if let Some((query_norm, key_norm)) = block.query_key_norms {
                queries[position] = self.norm_heads(&queries[position], query_norm);
                keys[position] = self.norm_heads(&keys[position], key_norm);
            }
            if !kind.unrotated {
                self.rotate(&mut queries[position], position, kind.windowed);
                self.rotate(&mut keys[position], position, kind.windowed);
            }
        }
        let window = self.spec.window(layer).unwrap_or(usize::MAX);
        let attend = |position: usize| {
            let seen = (position + 1).saturating_sub(window)..position + 1;
            self.attend(&queries[position], &keys[seen.clone()], &values[seen])
        };
        (0..normed.len())
            .map(|position| self.project(block.output, &attend(position)))
            .collect()
    }

    fn feed_forward(&self, block: BlockIndex, x: &[f64]) -> Vector {
        let (gate, up) = (self.project(block.gate, x), self.project(block.up, x));
        let activated = |g: f64| match self.spec.features.activation {
            Activation::Silu => g / (1.0 + (-g).exp()),
            Activation::GeluTanh => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * g * (1.0 + (root * (g + 0.044715 * g.powi(3))).tanh())
            }
        };
        let inner: Vector = gate
            .iter()
            .zip(&up)
            .map(|(g, u)| activated(*g) * u)
            .collect();
        self.project(block.down, &inner)
    }

    /// A matrix times a vector, plus the bias if there is one.
    fn project(&self, projection: Projection, x: &[f64]) -> Vector {
        let mut product = self.product(projection.matrix, x);
        if let Some(bias) = projection.bias {
            let bias: Vector = self.tensors[bias].iter().map(|b| f64::from(*b)).collect();
            add(&mut product, &bias);
        }
        product
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

    /// RMSNorm of each head separately, or of all together.
    fn norm_heads(&self, heads: &[f64], gain: usize) -> Vector {
        if self.spec.query_key_norm == QueryKeyNorm::Whole {
            return self.norm(heads, gain);
        }
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
    fn rotate(&self, heads: &mut [f64], position: usize, windowed: bool) {
        let half = self.spec.rotary_width() / 2;
        let own = self.spec.features.window_rope_theta.filter(|_| windowed);
        let theta = f64::from(own.unwrap_or(self.spec.rope_theta));
        let scaling = self.spec.rope_scaling.filter(|_| own.is_none());
        for head in heads.chunks_mut(self.spec.head_width()) {
            for i in 0..half {
                // The only scaling of the small models is linear; `rope.rs` has tests of its own.
                let factor = scaling.map_or(1.0, |scaling| f64::from(scaling.factor_ppm) / 1e6);
                let angle = position as f64 / factor * theta.powf(-(i as f64) / half as f64);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + half] = b * angle.cos() + a * angle.sin();
            }
        }
    }

    /// Softmax attention of one position; query heads in groups share a key head.
    fn attend(&self, query: &[f64], keys: &[Vector], values: &[Vector]) -> Vector {
        let (width, group) = (self.spec.head_width(), self.spec.heads / self.spec.kv_heads);
        let features = &self.spec.features;
        let divisor = features.score_divisor.map_or(width as f64, f64::from);
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
                .map(|key| capped(dot(key) / divisor.sqrt(), features.score_cap_ppm))
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

fn capped(score: f64, cap_ppm: Option<u32>) -> f64 {
    let cap = cap_ppm.map(|ppm| f64::from(ppm) / 1e6);
    cap.map_or(score, |cap| cap * (score / cap).tanh())
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
