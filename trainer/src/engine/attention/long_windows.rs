//! Attention of long windows in blocks beside its definition, forward and backward: gradients, time
//! and memory. In full it measures all lengths on every device:
//!
//! ```sh
//! WEAL_FULL=1 cargo test -p weal-trainer attention_of_long_windows -- --nocapture
//! ```

use std::fs;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use weal_testing::require::full;

use super::tests::{mask, plain_with, random};
use super::{Attention, Inputs};
use crate::device::{DeviceChoice, OpenDevice};
use crate::gpu_client;
use crate::gpus::gpus;
use crate::speed::peak_resident_bytes;

const LENGTHS: [usize; 4] = [512, 1024, 2048, 4096];
/// As in the preset `small`.
const QUERY_HEADS: usize = 8;
const KEY_HEADS: usize = 4;
const HEAD_WIDTH: usize = 64;
const RUNS: usize = 3;

#[test]
fn attention_of_long_windows() {
    let mut devices = vec![OpenDevice::cpu()];
    if full() && !gpus().is_empty() {
        devices.push(OpenDevice::open(DeviceChoice::Gpu).unwrap());
    }
    let lengths = if full() { &LENGTHS[..] } else { &LENGTHS[..1] };
    for device in devices {
        // The plain form last: a GPU's allocator keeps what it once reserved.
        let found = [false, true].map(|is_plain| {
            let measured = lengths.iter().map(|length| {
                let found = measure(device.raw(), *length, is_plain);
                println!(
                    "{}: {length} tokens, {}: {:.1} ms, {:.0} MiB",
                    device.name(),
                    if is_plain { "plain" } else { "in blocks" },
                    1e3 * found.seconds,
                    found.bytes / f64::from(1 << 20)
                );
                found.gradients
            });
            measured.collect::<Vec<_>>()
        });
        let [blocks, plain] = found;
        for (blocks, plain) in blocks.concat().iter().zip(plain.concat()) {
            assert!(
                (blocks - plain).abs() <= 1e-3 * plain.abs(),
                "{blocks} instead of {plain}"
            );
        }
    }
}

struct Measured {
    /// Of the fastest run.
    seconds: f64,
    /// Beyond those of the inputs.
    bytes: f64,
    /// The sum of the squares of each input's gradient.
    gradients: [f32; 3],
}

fn measure(device: &Device, length: usize, is_plain: bool) -> Measured {
    let attention = Attention::new(device);
    let shape = |heads| [1, heads, length, HEAD_WIDTH];
    let inputs = [(QUERY_HEADS, 1), (KEY_HEADS, 2), (KEY_HEADS, 3)]
        .map(|(heads, seed)| random(shape(heads), seed, device));
    let mask = is_plain.then(|| mask(&attention, &inputs));
    let run = || forward_and_backward(&attention, inputs.clone(), mask.as_ref());
    device.memory_cleanup();
    let before = memory(device);
    let gradients = run();
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    Measured {
        seconds: seconds.fold(f64::INFINITY, f64::min),
        bytes: (memory(device) - before).max(0.0),
        gradients,
    }
}

/// By definition if there is a mask. Returns the sum of the squares of each gradient.
fn forward_and_backward(
    attention: &Attention,
    inputs: Inputs,
    mask: Option<&Tensor<4>>,
) -> [f32; 3] {
    let leaves = inputs.map(|input| input.autodiff().require_grad());
    let output = match mask {
        Some(mask) => plain_with(attention, leaves.clone(), mask),
        None => attention.attend(leaves.clone()),
    };
    let mut backward = (output.clone() * output).sum().backward();
    leaves.map(|leaf| {
        let gradient = leaf.grad_remove(&mut backward).unwrap();
        // Reading waits for the device.
        let squares = gradient.powi_scalar(2).sum();
        squares.try_into_vec_as::<f32>().unwrap()[0]
    })
}

/// Bytes that the GPU's allocator has reserved, or the most memory of the process since the last
/// call.
fn memory(device: &Device) -> f64 {
    let bytes = gpu_client::memory_in_use(device).or_else(peak_resident_bytes);
    // Begins anew with what the process holds now.
    fs::write("/proc/self/clear_refs", "5").ok();
    bytes.unwrap_or(0) as f64
}
