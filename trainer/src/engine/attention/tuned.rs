//! Attention on a GPU: in blocks of queries, or in a few kernels that keep their scores to
//! themselves ([`FlashAttention`]).
//!
//! Which is faster depends on the card and its driver. So CubeCL measures both for each shape, as
//! it does for matrix products, and keeps the answer beside theirs.

use burn::backend::Cube;
use burn::tensor::Tensor;
use cubecl::client::Client;
use cubecl::tune::{AutotuneOutput, LocalTuner, Tunable, TunableSet, anchor, local_tuner};
use weal_kernels::gpu::training::FlashAttention;

use super::{Attention, Inputs, wide};
use crate::engine::fused::{self, gpu};

/// Fewer queries than a tile of the kernels has are left to blocks: text is generated one token at
/// a time, and each length would be measured.
const LEAST_QUERIES: usize = 64;

/// What the forward pass finds.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Attended {
    /// In the shape of the queries.
    pub output: Tensor<4>,
    /// The logarithm of each query's sum of exponentials, `[sequences, heads, tokens, 1]`.
    pub log_sums: Tensor<4>,
}

impl AutotuneOutput for Attended {}

/// The gradients of queries, keys and values.
#[derive(Debug)]
struct Gradients(Inputs);

impl AutotuneOutput for Gradients {}

type ForwardInputs = (Attention, Inputs);
type BackwardInputs = (Attention, Inputs, Attended, Tensor<4>);

/// Names a device, and a shape on it.
type Tuner = LocalTuner<String, String>;

pub(super) fn forward(attention: &Attention, inputs: &Inputs) -> Attended {
    static TUNER: Tuner = local_tuner!("forward");
    let Some(card) = Card::that_runs(attention, inputs) else {
        return attention.forward_in_blocks(inputs);
    };
    let set = TUNER.init(&card.name, || {
        TunableSet::<_, ForwardInputs, _>::new_cloning_inputs(
            |(attention, inputs): &ForwardInputs| shape(attention, inputs),
        )
        .with(Tunable::new(
            "blocks",
            |(attention, inputs): ForwardInputs| found(attention.forward_in_blocks(&inputs)),
        ))
        .with(Tunable::new(
            "flash",
            |(attention, inputs): ForwardInputs| found(attention.forward_at_once(&inputs)),
        ))
    });
    let inputs = (attention.clone(), inputs.clone());
    TUNER.execute(&card.name, &card.client, set, inputs)
}

/// The gradients of queries, keys and values, given that of the output.
pub(super) fn backward(
    attention: &Attention,
    inputs: &Inputs,
    kept: &Attended,
    above: &Tensor<4>,
) -> Inputs {
    static TUNER: Tuner = local_tuner!("backward");
    let Some(card) = Card::that_runs(attention, inputs) else {
        return attention.backward_in_blocks(inputs, kept, above);
    };
    let set = TUNER.init(&card.name, || {
        TunableSet::<_, BackwardInputs, _>::new_cloning_inputs(
            |(attention, inputs, ..): &BackwardInputs| shape(attention, inputs),
        )
        .with(Tunable::new(
            "blocks",
            |(attention, inputs, kept, above): BackwardInputs| {
                found(Gradients(
                    attention.backward_in_blocks(&inputs, &kept, &above),
                ))
            },
        ))
        .with(Tunable::new(
            "flash",
            |(attention, inputs, kept, above): BackwardInputs| {
                found(Gradients(
                    attention.backward_at_once(&inputs, &kept, &above),
                ))
            },
        ))
    });
    let inputs = (
        attention.clone(),
        inputs.clone(),
        kept.clone(),
        above.clone(),
    );
    TUNER.execute(&card.name, &card.client, set, inputs).0
}

/// As the tuner takes it: no form fails.
fn found<T>(result: T) -> Result<T, String> {
    Ok(result)
}

/// The shapes for which one measurement counts.
fn shape(attention: &Attention, [query, key, _]: &Inputs) -> String {
    let [sequences, heads, queries, width] = query.dims();
    let [_, key_heads, keys, _] = key.dims();
    let [rows, queries, keys] =
        [sequences * heads, queries, keys].map(|size| anchor(size, None, None, None));
    let group = heads / key_heads;
    let kind = query.dtype();
    let (is_windowed, is_capped) = (attention.window < keys, attention.softcap.is_some());
    format!(
        "{rows} heads in groups of {group}, {queries} of {keys} tokens, {width} wide, {kind:?}, \
         window {is_windowed}, cap {is_capped}"
    )
}

/// The device of some tensors.
struct Card {
    client: Client,
    name: String,
}

impl Card {
    /// The inputs' device, if it measures, there are enough queries, and the kernels run there.
    fn that_runs(attention: &Attention, inputs: &Inputs) -> Option<Self> {
        let flash = attention.flash(inputs);
        if !attention.measures || flash.queries < LEAST_QUERIES {
            return None;
        }
        let query = fused::expected(inputs[0].clone().try_into_primitive::<Cube>());
        flash.runs_on(&query.client).then(|| Self {
            name: format!("{:?}", query.device),
            client: query.client,
        })
    }
}

impl Attention {
    fn flash(&self, [query, key, _]: &Inputs) -> FlashAttention {
        let [sequences, heads, queries, width] = query.dims();
        let [_, key_heads, keys, _] = key.dims();
        FlashAttention {
            sequences,
            heads,
            key_heads,
            queries,
            keys,
            width,
            first_query: self.from,
            window: self.window,
            softcap: self.softcap,
        }
    }

    pub(super) fn forward_at_once(&self, inputs: &Inputs) -> Attended {
        let kind = inputs[0].dtype();
        let [output, log_sums] =
            gpu::flash_attention(&self.flash(inputs), inputs.clone().map(wide));
        Attended {
            output: output.cast(kind),
            log_sums,
        }
    }

    pub(super) fn backward_at_once(
        &self,
        inputs: &Inputs,
        kept: &Attended,
        above: &Tensor<4>,
    ) -> Inputs {
        let kind = inputs[0].dtype();
        let found = gpu::flash_attention_backward(
            &self.flash(inputs),
            inputs.clone().map(wide),
            [wide(kept.output.clone()), kept.log_sums.clone()],
            wide(above.clone()),
        );
        found.map(|gradient| gradient.cast(kind))
    }
}
