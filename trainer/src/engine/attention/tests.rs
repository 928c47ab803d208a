use burn::tensor::TensorData;

use super::*;
use crate::device::{DeviceChoice, OpenDevice};
use crate::gpus::{GpuKind, gpus};
use weal_testing::{SplitMix64, require};

/// The seed of the factors by which a loss weighs outputs.
const FACTORS: u64 = 99;
/// Added to the score of a masked token.
const HIDDEN: f32 = -1e9;

/// Attention by its definition, over all scores at once, differentiated by burn.
fn plain(attention: &Attention, inputs: Inputs) -> Tensor<4> {
    let mask = mask(attention, &inputs);
    plain_with(attention, inputs, &mask)
}

/// The same, with the mask of these inputs.
pub(super) fn plain_with(
    attention: &Attention,
    [query, key, value]: Inputs,
    mask: &Tensor<4>,
) -> Tensor<4> {
    let (heads, kv_heads) = (query.dims()[1], key.dims()[1]);
    let shared = |x: Tensor<4>| {
        let copies = (0..heads).map(|head| x.clone().narrow(1, head / (heads / kv_heads), 1));
        Tensor::cat(copies.collect(), 1)
    };
    let scores = query.matmul(shared(key).swap_dims(2, 3));
    let scores = match attention.softcap {
        Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
        None => scores,
    };
    let mask = if scores.is_autodiff() {
        Tensor::autodiff(mask.clone())
    } else {
        mask.clone()
    };
    burn::tensor::activation::softmax(scores + mask, 3).matmul(shared(value))
}

/// What is added to all scores, `[1, 1, queries, keys]`.
pub(super) fn mask(attention: &Attention, [query, key, _]: &Inputs) -> Tensor<4> {
    let (queries, keys) = (query.dims()[2], key.dims()[2]);
    let hidden = |query: usize, key: usize| {
        let at = attention.from + query;
        key > at || at - key >= attention.window
    };
    let mask: Vec<f32> = (0..queries * keys)
        .map(|place| {
            if hidden(place / keys, place % keys) {
                HIDDEN
            } else {
                0.0
            }
        })
        .collect();
    let device = query.clone().inner().device();
    Tensor::from_data(TensorData::new(mask, [1, 1, queries, keys]), &device)
}

pub(super) fn random(shape: [usize; 4], seed: u64, device: &Device) -> Tensor<4> {
    let mut random = SplitMix64(seed);
    let unit = |bits: u64| (bits as f32 / u64::MAX as f32 - 0.5) * 4.0;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| unit(random.next()))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The output and the gradients of queries, keys and values, for a loss that weighs every output.
fn results(inputs: &Inputs, attend: impl Fn(Inputs) -> Tensor<4>) -> Vec<Vec<f32>> {
    let leaves = inputs.clone().map(|input| input.autodiff().require_grad());
    let output = attend(leaves.clone());
    let factors = random(output.dims(), FACTORS, &inputs[0].device());
    let mut backward = (output.clone() * factors.autodiff()).sum().backward();
    let mut found = vec![output.inner()];
    found.extend(
        leaves
            .iter()
            .map(|leaf| leaf.grad_remove(&mut backward).unwrap()),
    );
    found.extend([attend(inputs.clone())]);
    found
        .into_iter()
        .map(|tensor| tensor.try_into_vec_as::<f32>().unwrap())
        .collect()
}

/// How far queries see, and how their scores are limited.
type Sight = (usize, Option<f32>);

const SIGHTS: [Sight; 4] = [
    (usize::MAX, None),
    (5, None),
    (usize::MAX, Some(1.5)),
    (40, Some(2.0)),
];

fn assert_blocks_change_nothing(
    device: &Device,
    lengths: &[usize],
    blocks: &[usize],
    sights: &[Sight],
) {
    for length in lengths.iter().copied() {
        let inputs = inputs(length, device);
        for (window, softcap) in sights.iter().copied() {
            let attention = Attention {
                window,
                softcap,
                ..Attention::new(device)
            };
            let expected = results(&inputs, |inputs| plain(&attention, inputs));
            for block in blocks.iter().copied() {
                let attention = Attention {
                    block,
                    ..attention.clone()
                };
                let found = results(&inputs, |inputs| attention.attend(inputs));
                assert_close(&found, &expected);
            }
        }
    }
}

/// Queries of four heads, and keys and values of two, in two sequences.
fn inputs(length: usize, device: &Device) -> Inputs {
    let shape = |heads| [2, heads, length, 3];
    [(4, 1), (2, 2), (2, 3)].map(|(heads, seed)| random(shape(heads), seed, device))
}

#[track_caller]
fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 2e-5 * (1.0 + expected.abs()),
                "{found} instead of {expected}"
            );
        }
    }
}

#[test]
fn blocks_of_queries_change_neither_output_nor_gradients() {
    assert_blocks_change_nothing(
        &Device::flex(),
        &[1, 2, 7, 64, 70],
        &[1, 3, 16, 64, usize::MAX],
        &SIGHTS,
    );
}

#[test]
fn blocks_of_queries_change_nothing_on_a_gpu() {
    if gpus().is_empty() {
        return require::skip(
            "attention on a GPU",
            "it has no GPU, not even a software one",
        );
    }
    let gpu = OpenDevice::open(DeviceChoice::Gpu).unwrap();
    // Each shape is a kernel to tune: minutes on a software GPU.
    let is_software = gpus().iter().all(|gpu| gpu.kind == GpuKind::Software);
    let sights = if is_software { &SIGHTS[3..] } else { &SIGHTS };
    assert_blocks_change_nothing(gpu.raw(), &[300], &[100], sights);
    assert_at_once_changes_nothing(gpu.raw(), 300, sights[0]);
}

/// The same for the kernels that do without blocks, and for the choice between both.
fn assert_at_once_changes_nothing(device: &Device, length: usize, (window, softcap): Sight) {
    let inputs = inputs(length, device);
    let attention = Attention {
        window,
        softcap,
        block: 100,
        measures: true,
        ..Attention::new(device)
    };
    let expected = results(&inputs, |inputs| plain(&attention, inputs));
    assert_close(
        &results(&inputs, |inputs| attention.attend(inputs)),
        &expected,
    );
    let kept = attention.forward_at_once(&inputs);
    let above = random(kept.output.dims(), FACTORS, device);
    let gradients = attention.backward_at_once(&inputs, &kept, &above);
    let found: Vec<_> = [kept.output]
        .into_iter()
        .chain(gradients)
        .map(|tensor| tensor.try_into_vec_as::<f32>().unwrap())
        .collect();
    assert_close(&found, &expected[..4]);
}

#[test]
fn later_queries_see_the_keys_before_them() {
    let device = Device::flex();
    for (from, window) in [(0, usize::MAX), (9, usize::MAX), (9, 4), (20, 30)] {
        let attention = Attention {
            from,
            window,
            block: 3,
            ..Attention::new(&device)
        };
        let inputs = [([1, 4, 8, 3], 1), ([1, 2, 40, 3], 2), ([1, 2, 40, 3], 3)]
            .map(|(shape, seed)| random(shape, seed, &device));
        let [found, expected] = [attention.attend(inputs.clone()), plain(&attention, inputs)]
            .map(|tensor| tensor.try_into_vec_as::<f32>().unwrap());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{found} instead of {expected}"
            );
        }
    }
}

#[test]
fn blocks_of_long_windows_are_small() {
    assert_eq!(queries_at_once(32, 2048), 256);
    assert_eq!(queries_at_once(32, 131_072), 16);
    assert_eq!(queries_at_once(1 << 30, 1 << 18), 1);
    let block = |window| {
        let attention = Attention {
            window,
            ..Attention::new(&Device::flex())
        };
        let inputs = [4, 2, 2].map(|heads| Tensor::zeros([1, heads, 1000, 2], &Device::flex()));
        attention.blocks(&inputs)
    };
    let all = block(usize::MAX);
    assert_eq!(
        all[1],
        Block {
            queries: 256..512,
            keys: 0..512
        }
    );
    assert_eq!(
        all[3],
        Block {
            queries: 768..1000,
            keys: 0..1000
        }
    );
    assert_eq!(
        block(10)[1],
        Block {
            queries: 256..512,
            keys: 247..512
        }
    );
}
