//! Decoding with a KV cache: the keys and values of the text so far are kept, so each token goes
//! through the model once.
//!
//! A GPU compiles and tunes kernels for each shape, so shapes are few: the cache grows in powers of
//! two, and tokens are read in groups of a power of two. Padding at the end of a group is masked,
//! and overwritten by the next group.

use std::mem;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::engine::attention::Attention;
use crate::engine::model::Model;
use crate::engine::rope::Rotations;
use crate::spec::ModelSpec;

/// The most tokens read at once.
pub(super) const GROUP: usize = 128;
/// The most tokens read at once if memory is short.
pub(super) const LEAST_GROUP: usize = 8;
/// The smallest capacity of the cache, in tokens.
const LEAST: usize = 64;

/// The cached text of one model.
pub(super) struct Decoder {
    context: usize,
    /// For every position of the cache.
    rotations: Rotations,
    attention: Attention,
    /// One entry per block, each `[1, kv heads, capacity, head width]`.
    layers: Vec<KeysAndValues>,
    /// Tokens that the cache can hold now.
    capacity: usize,
    /// Tokens read so far.
    read: usize,
    /// The most tokens to read at once.
    pub group: usize,
}

struct KeysAndValues {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl Decoder {
    /// An empty cache for a model whose matrices are of type `kind`.
    pub(super) fn new(spec: &ModelSpec, kind: DType, device: &Device) -> Self {
        let capacity = LEAST.min(spec.context);
        let empty = || {
            Tensor::zeros(
                [1, spec.kv_heads, capacity, spec.head_width()],
                (device, kind),
            )
        };
        Self {
            context: spec.context,
            rotations: Rotations::new(spec, capacity, device),
            attention: Attention::new(device),
            layers: (0..spec.layers)
                .map(|_| KeysAndValues {
                    keys: empty(),
                    values: empty(),
                })
                .collect(),
            capacity,
            read: 0,
            group: GROUP,
        }
    }

    /// Tokens read so far.
    #[cfg(test)]
    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// Appends `tokens` to the text and returns the scores of the next token, `[1, vocabulary]`.
    /// `tokens` must not be empty, and the whole text must fit the context.
    pub(super) fn advance(
        &mut self,
        model: &Model,
        weights: &[Tensor<2>],
        tokens: &[u32],
        device: &Device,
    ) -> Tensor<2> {
        let mut last = None;
        for tokens in tokens.chunks(self.group) {
            let stream = self.read_group(model, weights, tokens, device);
            last = Some(stream.narrow(0, tokens.len() - 1, 1));
        }
        let last = last.unwrap_or_else(|| Tensor::zeros([1, model.spec().width], device));
        model.logits(weights, last)
    }

    fn read_group(
        &mut self,
        model: &Model,
        weights: &[Tensor<2>],
        tokens: &[u32],
        device: &Device,
    ) -> Tensor<2> {
        let (from, count) = (
            self.read,
            tokens
                .len()
                .next_power_of_two()
                .min(self.context - self.read),
        );
        self.reserve(from + count, model.spec(), device);
        let padded = tokens
            .iter()
            .copied()
            .chain(std::iter::repeat(0))
            .take(count);
        let inputs: Vec<i32> = padded.map(|token| token as i32).collect();
        let inputs = Tensor::<1, Int>::from_data(TensorData::new(inputs, [count]), device);
        let rotations = self.rotations.part(from, count);
        let attention = self.attention.starting_at(from);
        let capacity = self.capacity;
        let embedded = model.embed(weights, inputs);
        let stream = model.blocks(weights, embedded, |layer, normed| {
            let [query, key, value] = model.heads(weights, layer, normed, &rotations);
            // Taken out of the list, so that each tensor has one owner and is updated in place.
            let KeysAndValues { keys, values } = self.layers.remove(layer);
            let [_, heads, _, width] = key.dims();
            let place = [0..1, 0..heads, from..from + count, 0..width];
            let cache = KeysAndValues {
                keys: keys.slice_assign(place.clone(), key),
                values: values.slice_assign(place, value),
            };
            debug_assert_eq!(cache.keys.dims()[2], capacity);
            let (keys, values) = (cache.keys.clone(), cache.values.clone());
            self.layers.insert(layer, cache);
            let attention = model.attention_of(layer, &attention);
            let attended = attention.attend([query, keys, values]);
            model.attended(weights, layer, attended)
        });
        self.read += tokens.len();
        stream
    }

    fn reserve(&mut self, tokens: usize, spec: &ModelSpec, device: &Device) {
        if tokens <= self.capacity {
            return;
        }
        let capacity = tokens.next_power_of_two().min(self.context);
        let longer = |old: Tensor<4>| {
            let [one, heads, had, width] = old.dims();
            let zeros = Tensor::zeros([one, heads, capacity - had, width], (device, old.dtype()));
            Tensor::cat(vec![old, zeros], 2)
        };
        let layers = mem::take(&mut self.layers).into_iter();
        self.layers = layers
            .map(|KeysAndValues { keys, values }| KeysAndValues {
                keys: longer(keys),
                values: longer(values),
            })
            .collect();
        self.rotations = Rotations::new(spec, capacity, device);
        self.capacity = capacity;
    }
}
