//! Compares the kernel with [`crate::compress`], on any GPU present, a software one included.

#![allow(clippy::unwrap_used)]

use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use proptest::prelude::*;
use weal_testing::{SplitMix64, require};

use super::compress;
use crate::testing::{bits, layout, settings, values};
use crate::{Compression, Error};

/// A client of the GPU, or `None` if there is none and tests may be skipped.
pub(super) fn client(test: &str) -> Option<Client> {
    let open = || {
        cubecl::Device::wgpu(cubecl::device::WgpuDeviceKind::DefaultDevice)
            .map(|device| device.client())
    };
    match std::panic::catch_unwind(open) {
        Ok(Ok(client)) => Some(client),
        _ => {
            require::skip(test, "no GPU found, not even a software one");
            None
        }
    }
}

/// A round's settings and buffers.
#[derive(Debug, Clone)]
struct Round {
    lengths: Vec<usize>,
    compression: Compression,
    error: Vec<f32>,
    delta: Vec<f32>,
}

/// The body, and the bits of the next error feedback.
type Outcome = Result<(Vec<u8>, Vec<u32>), Error>;

impl Round {
    fn on_processor(&self) -> Outcome {
        let mut delta = self.delta.clone();
        let body = crate::compress(
            &layout(&self.lengths),
            &self.compression,
            &self.error,
            &mut delta,
        )?;
        Ok((body, bits(&delta)))
    }

    fn on_gpu(&self, client: &Client) -> Outcome {
        let layout = layout(&self.lengths);
        let upload = |values: &[f32]| -> Vec<Handle> {
            layout
                .ranges()
                .map(|range| client.create_from_slice(f32::as_bytes(&values[range])))
                .collect()
        };
        let (error, delta) = (upload(&self.error), upload(&self.delta));
        let body = compress(client, &layout, &self.compression, &error, &delta)?;
        let left = client.read(delta).unwrap();
        Ok((
            body,
            left.iter()
                .flat_map(|tensor| u32::from_bytes(tensor).to_vec())
                .collect(),
        ))
    }

    fn check(&self, client: &Client) {
        let (expected, got) = (self.on_processor(), self.on_gpu(client));
        if let (Ok((body, left)), Ok((expected_body, expected_left))) = (&got, &expected) {
            let first = left
                .iter()
                .zip(expected_left)
                .position(|(left, expected)| left != expected);
            let differs = first.map(|place| {
                (
                    place,
                    f32::from_bits(left[place]),
                    f32::from_bits(expected_left[place]),
                )
            });
            assert_eq!(
                differs, None,
                "the error feedback with {:?} of {:?}",
                self.compression, self.lengths
            );
            assert_eq!(
                body, expected_body,
                "the body with {:?} of {:?}",
                self.compression, self.lengths
            );
        }
        assert!(
            got == expected,
            "{:?} instead of {:?}",
            got.err(),
            expected.err()
        );
    }
}

/// Random values, with `percent` % replaced by values from `special`.
fn spoilt(seed: u64, count: usize, percent: usize, special: &[f32]) -> Vec<f32> {
    let mut random = SplitMix64(seed);
    let mut values = values(seed, count);
    for value in &mut values {
        if random.below(100) < percent {
            *value = special[random.below(special.len())];
        }
    }
    values
}

fn round(lengths: &[usize], compression: Compression, percent: usize, special: &[f32]) -> Round {
    let count = lengths.iter().sum();
    let [error, delta] = [1, 2].map(|seed| spoilt(seed, count, percent, special));
    Round {
        lengths: lengths.to_vec(),
        compression,
        error,
        delta,
    }
}

#[test]
fn random_values_give_the_same_body_and_error_feedback() {
    let Some(client) = client("the kernel on random values") else {
        return;
    };
    for keep in [32, 64] {
        round(&[3 * 4096 + 65, 1, 4096, 31], settings(4096, keep), 0, &[]).check(&client);
    }
    for (chunk, keep) in [(1, 1), (33, 7), (64, 64), (1000, 40), (4096, 4000)] {
        round(
            &[3 * chunk, chunk + chunk.div_ceil(3), 1],
            settings(chunk, keep),
            0,
            &[],
        )
        .check(&client);
    }
}

#[test]
fn chunks_too_long_for_registers_give_the_same() {
    let Some(client) = client("the kernel on long chunks") else {
        return;
    };
    for (chunk, keep) in [(5000, 1), (16_384, 9000), (32_768, 500), (32_768, 32_768)] {
        round(&[2 * chunk + 77], settings(chunk, keep), 0, &[]).check(&client);
    }
}

#[test]
fn ties_and_zeros_go_to_the_lower_index() {
    let Some(client) = client("the kernel on ties") else {
        return;
    };
    for percent in [50, 99, 100] {
        for special in [
            &[0.0][..],
            &[0.0, -0.0],
            &[0.01, -0.01],
            &[1e-9, -1e-9, 0.0],
            &[0.25, 0.5, -0.5, 1e30],
        ] {
            for (chunk, keep) in [(64, 3), (512, 300), (4096, 32), (4096, 64)] {
                round(
                    &[2 * chunk + 40, 7],
                    settings(chunk, keep),
                    percent,
                    special,
                )
                .check(&client);
            }
        }
    }
}

#[test]
fn scales_of_all_octaves_are_the_same() {
    let Some(client) = client("the kernel on large and small values") else {
        return;
    };
    for (chunk, keep) in [(4, 3), (512, 400)] {
        let mut round = round(&[200 * chunk], settings(chunk, keep), 0, &[]);
        for (number, values) in round.delta.chunks_mut(chunk).enumerate() {
            // Scaled from around 1/256: from far below the least scale to far above the largest.
            values
                .iter_mut()
                .for_each(|value| *value *= 2f32.powi(number as i32 / 3 - 30));
        }
        round.error.fill(0.0);
        round.check(&client);
    }
}

#[test]
fn denormals_are_compared_exactly_and_kept() {
    let Some(client) = client("the kernel on denormals") else {
        return;
    };
    let tiny = [
        f32::from_bits(1),
        -f32::from_bits(77),
        f32::MIN_POSITIVE,
        -1.5 * f32::MIN_POSITIVE,
    ];
    for percent in [10, 90, 100] {
        round(&[700], settings(256, 16), percent, &tiny).check(&client);
    }
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    let Some(client) = client("the kernel on values that are not finite") else {
        return;
    };
    for poison in [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
    ] {
        for (place, tensor) in [(3, "t0"), (4999, "t0"), (5003, "t1")] {
            for (in_error, in_delta) in [(true, false), (false, true), (true, true)] {
                let mut round = round(
                    &[5000, 10],
                    Compression {
                        decay_ppm: 1_000_000,
                        ..Compression::default()
                    },
                    0,
                    &[],
                );
                if in_error {
                    round.error[place] = poison;
                }
                if in_delta {
                    round.delta[place] = poison;
                }
                round.check(&client);
                if poison != f32::MAX || in_error && in_delta {
                    assert!(
                        round
                            .on_gpu(&client)
                            .unwrap_err()
                            .to_string()
                            .contains(tensor)
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn any_settings_and_any_lengths(
        (chunk, keep) in (1usize..3000).prop_flat_map(|chunk| (Just(chunk), 1..=chunk)),
        lengths in prop::collection::vec(1usize..7000, 1..4),
        percent in 0usize..101,
        decay_ppm in 0u32..=1_000_000,
    ) {
        let Some(client) = client("the kernel on random settings") else { return Ok(()) };
        let special = [0.0, 1.0, -1.0, 0.001, 3e-7, 1e20];
        round(&lengths, Compression { chunk, keep, decay_ppm }, percent, &special).check(&client);
    }
}
