//! The position of each of a model's tensors in its layout.

use std::ops::Range;

use crate::spec::ModelSpec;

/// The position of each tensor in the layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorIndex {
    layers: usize,
    per_block: usize,
    tied: bool,
}

/// The positions of one block's tensors in the layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockIndex {
    pub query: usize,
    pub key: usize,
    pub value: usize,
    pub output: usize,
    pub gate: usize,
    pub up: usize,
    pub down: usize,
    pub attention_norm: usize,
    pub feed_forward_norm: usize,
    /// Norms of the queries and the keys, in models with `query_key_norm`.
    pub query_key_norms: Option<(usize, usize)>,
}

impl BlockIndex {
    /// All tensors of the block.
    pub(crate) fn tensors(self) -> Range<usize> {
        let norms = if self.query_key_norms.is_some() { 2 } else { 0 };
        self.query..self.feed_forward_norm + 1 + norms
    }
}

impl TensorIndex {
    /// Tensors that every block has, in the order of [`BlockIndex`]'s fields.
    const ALWAYS: usize = 9;

    pub(crate) fn new(spec: &ModelSpec) -> Self {
        let per_block = Self::ALWAYS + if spec.query_key_norm { 2 } else { 0 };
        Self {
            layers: spec.layers,
            per_block,
            tied: spec.tied,
        }
    }

    pub(crate) fn embedding(self) -> usize {
        0
    }

    pub(crate) fn block(self, layer: usize) -> BlockIndex {
        let first = 1 + layer * self.per_block;
        BlockIndex {
            query: first,
            key: first + 1,
            value: first + 2,
            output: first + 3,
            gate: first + 4,
            up: first + 5,
            down: first + 6,
            attention_norm: first + 7,
            feed_forward_norm: first + 8,
            query_key_norms: (self.per_block > Self::ALWAYS).then_some((first + 9, first + 10)),
        }
    }

    pub(crate) fn final_norm(self) -> usize {
        1 + self.layers * self.per_block
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
            name(index.block(3).query),
            "model.layers.3.self_attn.q_proj.weight"
        );
        assert_eq!(
            name(index.block(0).down),
            "model.layers.0.mlp.down_proj.weight"
        );
        assert_eq!(
            name(index.block(1).feed_forward_norm),
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
            query_key_norm: true,
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
            found(index.query),
            ("model.layers.1.self_attn.q_proj.weight", vec![192, 128])
        );
        assert_eq!(
            found(index.output),
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
}
