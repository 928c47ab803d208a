//! The position of each of a model's tensors in its layout.

use std::ops::Range;

use crate::features::{NormPlacement, QueryKeyNorm};
use crate::spec::ModelSpec;

/// The position of each tensor in the layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorIndex {
    layers: usize,
    /// The positions in the first block.
    first: BlockIndex,
    tied: bool,
}

/// A projection: its matrix, and its bias if it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Projection {
    pub matrix: usize,
    pub bias: Option<usize>,
}

/// The positions of one block's tensors in the layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockIndex {
    pub query: Projection,
    pub key: Projection,
    pub value: Projection,
    pub output: Projection,
    pub gate: Projection,
    pub up: Projection,
    pub down: Projection,
    /// The norm of what enters attention, and of what leaves it.
    pub attention_norms: [Option<usize>; 2],
    /// The norm of what enters the feed-forward, and of what leaves it.
    pub feed_forward_norms: [Option<usize>; 2],
    /// Norms of the queries and the keys.
    pub query_key_norms: Option<(usize, usize)>,
    end: usize,
}

impl BlockIndex {
    /// The first block's tensors, which begin after the embedding.
    fn first(spec: &ModelSpec) -> Self {
        let mut next = 1;
        let mut take = || {
            next += 1;
            next - 1
        };
        let matrices: [usize; 7] = std::array::from_fn(|_| take());
        let (before, after) = match spec.features.norm_placement {
            NormPlacement::Before => (true, false),
            NormPlacement::After => (false, true),
            NormPlacement::Both => (true, true),
        };
        let mut norms = || [before.then(&mut take), after.then(&mut take)];
        let (attention_norms, feed_forward_norms) = (norms(), norms());
        let has_norms = spec.query_key_norm != QueryKeyNorm::None;
        let query_key_norms = has_norms.then(|| (take(), take()));
        let biases = spec.features.biases;
        let mut biases_of = |has: bool| has.then(&mut take);
        let [query, key, value] = [(); 3].map(|()| biases_of(biases.query_key_value));
        let output = biases_of(biases.output);
        let [gate, up, down] = [(); 3].map(|()| biases_of(biases.feed_forward));
        let projection = |index: usize, bias| Projection {
            matrix: matrices[index],
            bias,
        };
        Self {
            query: projection(0, query),
            key: projection(1, key),
            value: projection(2, value),
            output: projection(3, output),
            gate: projection(4, gate),
            up: projection(5, up),
            down: projection(6, down),
            attention_norms,
            feed_forward_norms,
            query_key_norms,
            end: next,
        }
    }

    /// The same tensors `by` positions later.
    fn later(self, by: usize) -> Self {
        let projection = |projection: Projection| Projection {
            matrix: projection.matrix + by,
            bias: projection.bias.map(|bias| bias + by),
        };
        let norms = |norms: [Option<usize>; 2]| norms.map(|norm| norm.map(|norm| norm + by));
        Self {
            query: projection(self.query),
            key: projection(self.key),
            value: projection(self.value),
            output: projection(self.output),
            gate: projection(self.gate),
            up: projection(self.up),
            down: projection(self.down),
            attention_norms: norms(self.attention_norms),
            feed_forward_norms: norms(self.feed_forward_norms),
            query_key_norms: self
                .query_key_norms
                .map(|(query, key)| (query + by, key + by)),
            end: self.end + by,
        }
    }

    /// All tensors of the block.
    pub(crate) fn tensors(self) -> Range<usize> {
        self.query.matrix..self.end
    }
}

impl TensorIndex {
    pub(crate) fn new(spec: &ModelSpec) -> Self {
        Self {
            layers: spec.layers,
            first: BlockIndex::first(spec),
            tied: spec.tied,
        }
    }

    pub(crate) fn embedding(self) -> usize {
        0
    }

    pub(crate) fn block(self, layer: usize) -> BlockIndex {
        self.first.later(layer * self.first.tensors().len())
    }

    pub(crate) fn final_norm(self) -> usize {
        1 + self.layers * self.first.tensors().len()
    }

    /// The output projection; the embedding itself if they are tied.
    pub(crate) fn head(self) -> usize {
        if self.tied {
            self.embedding()
        } else {
            self.final_norm() + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Biases, Features};

    #[test]
    fn the_index_points_at_the_tensors_it_names() {
        let spec = ModelSpec {
            tied: false,
            ..ModelSpec::preset("nano").unwrap()
        };
        let layout = spec.layout().unwrap();
        let name = |index: usize| layout.tensors()[index].name.as_str();
        let index = TensorIndex::new(&spec);
        assert_eq!(name(index.embedding()), "model.embed_tokens.weight");
        assert_eq!(
            name(index.block(3).query.matrix),
            "model.layers.3.self_attn.q_proj.weight"
        );
        assert_eq!(
            name(index.block(0).down.matrix),
            "model.layers.0.mlp.down_proj.weight"
        );
        assert_eq!(
            name(index.block(1).feed_forward_norms[0].unwrap()),
            "model.layers.1.post_attention_layernorm.weight"
        );
        assert_eq!(name(index.final_norm()), "model.norm.weight");
        assert_eq!(name(index.head()), "lm_head.weight");
        assert_eq!(layout.tensors().len(), index.head() + 1);
    }

    #[test]
    fn heads_may_have_their_own_width_and_norms() {
        let spec = ModelSpec {
            head_width: Some(48),
            query_key_norm: QueryKeyNorm::Head,
            ..ModelSpec::preset("nano").unwrap()
        };
        let layout = spec.layout().unwrap();
        let index = TensorIndex::new(&spec).block(1);
        let (query_norm, key_norm) = index.query_key_norms.unwrap();
        let found = |index: usize| {
            (
                layout.tensors()[index].name.as_str(),
                layout.tensors()[index].shape.clone(),
            )
        };
        assert_eq!(
            found(index.query.matrix),
            ("model.layers.1.self_attn.q_proj.weight", vec![192, 128])
        );
        assert_eq!(
            found(index.output.matrix),
            ("model.layers.1.self_attn.o_proj.weight", vec![128, 192])
        );
        assert_eq!(
            found(query_norm),
            ("model.layers.1.self_attn.q_norm.weight", vec![48])
        );
        assert_eq!(
            found(key_norm),
            ("model.layers.1.self_attn.k_norm.weight", vec![48])
        );
        assert_eq!(
            found(TensorIndex::new(&spec).final_norm()),
            ("model.norm.weight", vec![128])
        );
    }

    #[test]
    fn every_feature_has_its_tensors_in_the_order_of_the_layout() {
        let spec = ModelSpec {
            query_key_norm: QueryKeyNorm::Whole,
            features: Features {
                biases: Biases {
                    query_key_value: true,
                    output: true,
                    feed_forward: true,
                },
                norm_placement: NormPlacement::Both,
                ..Features::default()
            },
            ..ModelSpec::preset("nano").unwrap()
        };
        let layout = spec.layout().unwrap();
        let index = TensorIndex::new(&spec);
        let block = index.block(1);
        let (query_norm, key_norm) = block.query_key_norms.unwrap();
        let positions = [
            (block.attention_norms[0], "input_layernorm.weight"),
            (block.attention_norms[1], "post_attention_layernorm.weight"),
            (
                block.feed_forward_norms[0],
                "pre_feedforward_layernorm.weight",
            ),
            (
                block.feed_forward_norms[1],
                "post_feedforward_layernorm.weight",
            ),
            (Some(query_norm), "self_attn.q_norm.weight"),
            (Some(key_norm), "self_attn.k_norm.weight"),
            (block.query.bias, "self_attn.q_proj.bias"),
            (block.value.bias, "self_attn.v_proj.bias"),
            (block.output.bias, "self_attn.o_proj.bias"),
            (block.gate.bias, "mlp.gate_proj.bias"),
            (block.down.bias, "mlp.down_proj.bias"),
        ];
        for (position, name) in positions {
            let found = &layout.tensors()[position.unwrap()].name;
            assert_eq!(*found, format!("model.layers.1.{name}"));
        }
        assert_eq!(
            layout.tensors()[index.final_norm()].name,
            "model.norm.weight"
        );
        assert_eq!(block.tensors().end, index.block(2).tensors().start);
    }
}
