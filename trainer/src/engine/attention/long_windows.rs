//! A measurement: attention of long windows in blocks beside its definition, forward and backward.
//!
//! ```sh
//! cargo test -p weal-trainer attention_of_long_windows -- --ignored --nocapture
//! ```

use std::fs;
use std::time::Instant;

use burn::tensor::{Device, Tensor};

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
#[ignore = "a measurement; it asserts nothing"]
fn attention_of_long_windows() {
    let mut devices = vec![OpenDevice::cpu()];
    if !gpus().is_empty() {
        devices.push(OpenDevice::open(DeviceChoice::Gpu).unwrap());
    }
    for device in devices {
        // The plain form last: a GPU's allocator keeps what it once reserved.
        for is_plain in [false, true] {
            let form = if is_plain { "plain" } else { "in blocks" };
            for length in LENGTHS {
                let [seconds, bytes] = measure(device.raw(), length, is_plain);
                println!(
                    "{}: {length} tokens, {form}: {:.1} ms, {:.0} MiB",
                    device.name(),
                    1e3 * seconds,
                    bytes / f64::from(1 << 20)
                );
            }
        }
    }
}

/// Seconds of the fastest run, and bytes beyond those of the inputs.
fn measure(device: &Device, length: usize, is_plain: bool) -> [f64; 2] {
    let attention = Attention::new(device);
    let shape = |heads| [1, heads, length, HEAD_WIDTH];
    let inputs = [(QUERY_HEADS, 1), (KEY_HEADS, 2), (KEY_HEADS, 3)]
        .map(|(heads, seed)| random(shape(heads), seed, device));
    let mask = is_plain.then(|| mask(&attention, &inputs));
    let run = || forward_and_backward(&attention, inputs.clone(), mask.as_ref());
    device.memory_cleanup();
    let before = memory(device);
    run();
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    let seconds = seconds.fold(f64::INFINITY, f64::min);
    [seconds, (memory(device) - before).max(0.0)]
}

/// By definition if there is a mask.
fn forward_and_backward(attention: &Attention, inputs: Inputs, mask: Option<&Tensor<4>>) {
    let leaves = inputs.map(|input| input.autodiff().require_grad());
    let output = match mask {
        Some(mask) => plain_with(attention, leaves.clone(), mask),
        None => attention.attend(leaves.clone()),
    };
    let mut backward = output.sum().backward();
    for leaf in leaves {
        let gradient = leaf.grad_remove(&mut backward).unwrap();
        // Reading waits for the device.
        gradient.sum().try_into_vec_as::<f32>().unwrap();
    }
}

/// Bytes that the GPU's allocator has reserved, or the most memory of the process since the last
/// call.
fn memory(device: &Device) -> f64 {
    let bytes = gpu_client::memory_in_use(device).or_else(peak_resident_bytes);
    // Begins anew with what the process holds now.
    fs::write("/proc/self/clear_refs", "5").ok();
    bytes.unwrap_or(0) as f64
}
