//! Compares each operation with its definition, in f64.

#![allow(clippy::unwrap_used)]

use cubecl::client::Client;
use cubecl::prelude::*;
use weal_testing::{SplitMix64, require};

use super::{
    FlashAttention, Heads, NormGradients, SeenKeys, Values, adamw, attention_backward,
    attention_weights, cross_entropy, cross_entropy_backward, rms_norm, rms_norm_backward, rotate,
    rotate_backward, sum_of_squares, swiglu, swiglu_backward,
};
use crate::gpu::tests::client;
use crate::softmax::{CausalRows, causal_softmax};
use crate::testing::values;
use crate::update::{self, AdamW};

fn random(seed: u64, count: usize) -> Vec<f32> {
    values(seed, count)
        .iter()
        .map(|value| value * 200.0)
        .collect()
}

fn upload(client: &Client, values: &[f32]) -> Values {
    Values {
        handle: client.create_from_slice(f32::as_bytes(values)),
        length: values.len(),
    }
}

fn read(client: &Client, values: &Values) -> Vec<f32> {
    let bytes = client.read(vec![values.handle.clone()]).unwrap();
    f32::from_bytes(&bytes[0])[..values.length].to_vec()
}

fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        assert!(
            apart <= 1e-5 * (1.0 + expected.abs()),
            "{what}: {found} instead of {expected}, at {place}"
        );
    }
}

#[test]
fn a_step_of_adamw_is_the_processors() {
    let Some(client) = client("AdamW on a GPU") else {
        return;
    };
    let settings = AdamW {
        scale: 0.5,
        beta1: 0.9,
        beta2: 0.95,
        rate: 0.01,
        correction2: 3.0,
        epsilon: 1e-8,
        kept: 0.999,
    };
    for length in [1, 255, 256, 257, 70_000] {
        let [mut weights, mut first, gradients] = [1, 2, 3].map(|seed| random(seed, length));
        let mut second: Vec<f32> = random(4, length).iter().map(|value| value.abs()).collect();
        let on_gpu = [&weights, &first, &second].map(|values| upload(&client, values));
        let [on_weights, on_first, on_second] = &on_gpu;
        let on_gradients = upload(&client, &gradients);
        adamw(
            &client,
            [on_weights, on_first, on_second],
            &on_gradients,
            &settings,
        );
        update::adamw(&mut weights, &mut first, &mut second, &gradients, &settings);
        for (what, found, expected) in [
            ("weights", on_weights, weights),
            ("first moments", on_first, first),
            ("second moments", on_second, second),
        ] {
            let expected: Vec<f64> = expected.iter().map(|value| f64::from(*value)).collect();
            assert_close(what, &read(&client, found), &expected);
        }
    }
}

#[test]
fn squares_of_all_tensors_are_summed_up() {
    let Some(client) = client("sums of squares on a GPU") else {
        return;
    };
    let tensors = [1, 300, 65_536, 65_537, 200_000].map(|length| random(length, length as usize));
    let on_gpu: Vec<Values> = tensors
        .iter()
        .map(|tensor| upload(&client, tensor))
        .collect();
    let found: f64 = read(&client, &sum_of_squares(&client, &on_gpu))
        .iter()
        .map(|sum| f64::from(*sum))
        .sum();
    let expected: f64 = tensors
        .iter()
        .map(|tensor| update::sum_of_squares(tensor))
        .sum();
    assert!(
        (found / expected - 1.0).abs() < 1e-5,
        "{found} instead of {expected}"
    );
}

/// The norm of each row, and the gradients for `above`, in f64.
fn norm(input: &[f32], gain: &[f32], above: &[f32], epsilon: f64) -> [Vec<f64>; 3] {
    let width = gain.len();
    let (mut output, mut of_input) = (Vec::new(), Vec::new());
    let mut of_gain = vec![0.0; width];
    for (row, above) in input.chunks(width).zip(above.chunks(width)) {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|x| f64::from(*x)).collect() };
        let (row, above, gain) = (wide(row), wide(above), wide(gain));
        let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
        let factor = 1.0 / (mean + epsilon).sqrt();
        let along: f64 = (0..width).map(|at| row[at] * gain[at] * above[at]).sum();
        for at in 0..width {
            output.push(row[at] * factor * gain[at]);
            of_gain[at] += row[at] * factor * above[at];
            let shrink = along * factor.powi(3) / width as f64;
            of_input.push(factor * gain[at] * above[at] - row[at] * shrink);
        }
    }
    [output, of_input, of_gain]
}

#[test]
fn norms_and_their_gradients_follow_the_definition() {
    let Some(client) = client("norms on a GPU") else {
        return;
    };
    for (rows, width) in [(1, 1), (3, 5), (65, 256), (130, 300), (2, 2048)] {
        let [input, above] = [1, 2].map(|seed| random(seed, rows * width));
        let gain = random(3, width);
        let [on_input, on_gain, on_above] =
            [&input, &gain, &above].map(|values| upload(&client, values));
        let [output, factors] = rms_norm(&client, &on_input, &on_gain, 1e-5);
        let found = rms_norm_backward(&client, [&on_input, &on_gain], &factors, &on_above);
        let NormGradients {
            input: of_input,
            gain: of_gain,
        } = found;
        let mut summed = vec![0.0; width];
        for part in read(&client, &of_gain).chunks(width) {
            summed
                .iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
        let expected = norm(&input, &gain, &above, 1e-5);
        assert_close("outputs", &read(&client, &output), &expected[0]);
        assert_close("gradients", &read(&client, &of_input), &expected[1]);
        let scale = 1.0 / rows as f32;
        let mean: Vec<f32> = summed.iter().map(|sum| sum * scale).collect();
        let expected: Vec<f64> = expected[2].iter().map(|x| x / rows as f64).collect();
        assert_close("gradients of the gain", &mean, &expected);
    }
}

#[test]
fn gates_and_their_gradients_follow_the_definition() {
    let Some(client) = client("SwiGLU on a GPU") else {
        return;
    };
    for length in [1, 255, 3000] {
        let [mut gates, ups, above] = [1, 2, 3].map(|seed| random(seed, length));
        gates[0] = -200.0;
        let [on_gates, on_ups, on_above] =
            [&gates, &ups, &above].map(|values| upload(&client, values));
        let output = read(&client, &swiglu(&client, &on_gates, &on_ups));
        let of_gates = swiglu_backward(&client, &on_gates, &on_ups, &on_above);
        let terms = |at: usize| {
            let [gate, up, above] = [gates[at], ups[at], above[at]].map(f64::from);
            (gate, up, above, 1.0 / (1.0 + (-gate).exp()))
        };
        let all = |of: fn((f64, f64, f64, f64)) -> f64| -> Vec<f64> {
            (0..length).map(|at| of(terms(at))).collect()
        };
        assert_close(
            "outputs",
            &output,
            &all(|(gate, up, _, open)| gate * open * up),
        );
        assert_close(
            "gradients of the gates",
            &read(&client, &of_gates),
            &all(|(gate, up, above, open)| above * up * open * (1.0 + gate * (1.0 - open))),
        );
        assert_close(
            "gradients of the ups",
            &read(&client, &on_above),
            &all(|(gate, _, above, open)| above * gate * open),
        );
    }
}

#[test]
fn attention_weights_and_gradients_follow_the_definition() {
    let Some(client) = client("attention weights on a GPU") else {
        return;
    };
    for (keys, queries, groups, window) in [
        (1, 1, 2, usize::MAX),
        (7, 7, 3, usize::MAX),
        (300, 44, 2, usize::MAX),
        (300, 44, 2, 17),
        (5, 5, 1, 1),
    ] {
        // The last query is at the last key's position, as on the processor.
        let seen = SeenKeys {
            keys,
            queries,
            first_query: 10 + keys - queries,
            first_key: 10,
            window,
        };
        let rows = groups * queries;
        let [scores, above] = [1, 2].map(|seed| random(seed, rows * keys));
        let [on_scores, on_above] = [&scores, &above].map(|values| upload(&client, values));
        let again = upload(&client, &scores);
        let log_sums = attention_weights(&client, &on_scores, &seen);
        let mut weights = scores.clone();
        causal_softmax(
            &mut weights,
            &CausalRows {
                keys,
                queries,
                window,
            },
        );
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|x| f64::from(*x)).collect() };
        let expected = wide(&weights);
        assert_close("weights", &read(&client, &on_scores), &expected);
        let means: Vec<f32> = weights
            .chunks(keys)
            .zip(above.chunks(keys))
            .map(|(weights, above)| weights.iter().zip(above).map(|(p, g)| p * g).sum())
            .collect();
        let on_means = upload(&client, &means);
        attention_backward(&client, [&again, &on_above], [&log_sums, &on_means], &seen);
        assert_close("weights again", &read(&client, &again), &expected);
        let of_scores: Vec<f64> = (0..rows * keys)
            .map(|at| expected[at] * f64::from(above[at] - means[at / keys]))
            .collect();
        assert_close("gradients", &read(&client, &on_above), &of_scores);
    }
}

#[test]
fn a_rotation_and_its_gradient_follow_the_definition() {
    let Some(client) = client("rotary positions on a GPU") else {
        return;
    };
    for (sequences, heads, tokens, width, half) in
        [(1, 1, 1, 2, 1), (2, 3, 5, 8, 4), (2, 2, 3, 10, 2)]
    {
        let heads = Heads {
            sequences,
            heads,
            tokens,
            width,
            half,
        };
        let [rows, above] = [1, 2].map(|seed| random(seed, heads.values()));
        // Components that do not rotate have a sine of zero, as the caller's tables do.
        let cosines = random(3, tokens * width);
        let mut sines = random(4, tokens * width);
        for row in sines.chunks_mut(width) {
            row[2 * half..].fill(0.0);
        }
        let [on_rows, on_above, on_cosines, on_sines] =
            [&rows, &above, &cosines, &sines].map(|values| upload(&client, values));
        let tables = [&on_cosines, &on_sines];
        let found = read(&client, &rotate(&client, &on_rows, tables, &heads));
        let gradient = read(
            &client,
            &rotate_backward(&client, &on_above, tables, &heads),
        );
        let (mut expected, mut of_rows) = (vec![0.0; found.len()], vec![0.0; found.len()]);
        for sequence in 0..sequences {
            for token in 0..tokens {
                for head in 0..heads.heads {
                    let row = ((sequence * tokens + token) * heads.heads + head) * width;
                    let to = ((sequence * heads.heads + head) * tokens + token) * width;
                    for at in 0..width {
                        let [cosine, sine] =
                            [&cosines, &sines].map(|table| f64::from(table[token * width + at]));
                        let (other, sign) = match at {
                            at if at < half => (at + half, -1.0),
                            at if at < 2 * half => (at - half, 1.0),
                            at => (at, 0.0),
                        };
                        let x = |at: usize| f64::from(rows[row + at]);
                        expected[to + at] = x(at) * cosine + sign * x(other) * sine;
                        let above = f64::from(above[to + at]);
                        of_rows[row + at] += above * cosine;
                        of_rows[row + other] += sign * above * sine;
                    }
                }
            }
        }
        assert_close("heads", &found, &expected);
        assert_close("gradients", &gradient, &of_rows);
    }
}

#[test]
fn losses_and_their_gradients_follow_the_definition() {
    let Some(client) = client("cross-entropy on a GPU") else {
        return;
    };
    for (rows, columns) in [(1, 1), (3, 7), (5, 256), (4, 1000)] {
        let scores = random(1, rows * columns);
        let above = random(2, rows);
        let targets: Vec<i32> = (0..rows).map(|row| (row * 31 % columns) as i32).collect();
        let on_targets = Values {
            handle: client.create_from_slice(i32::as_bytes(&targets)),
            length: rows,
        };
        let [on_scores, on_above] = [&scores, &above].map(|values| upload(&client, values));
        let [losses, log_sums] = cross_entropy(&client, &on_scores, &on_targets);
        let (mut expected, mut of_scores) = (Vec::new(), Vec::new());
        for (row, scores) in scores.chunks(columns).enumerate() {
            let target = targets[row] as usize;
            let sum: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
            expected.push(sum.ln() - f64::from(scores[target]));
            of_scores.extend(scores.iter().enumerate().map(|(column, score)| {
                let wanted = if column == target { 1.0 } else { 0.0 };
                f64::from(above[row]) * (f64::from(*score).exp() / sum - wanted)
            }));
        }
        assert_close("losses", &read(&client, &losses), &expected);
        cross_entropy_backward(&client, &on_scores, &on_targets, [&log_sums, &on_above]);
        assert_close("gradients", &read(&client, &on_scores), &of_scores);
    }
}

/// Attention's output and the gradients of queries, keys and values, by definition, in f64.
fn attention(flash: &FlashAttention, [q, k, v]: [&[f32]; 3], above: &[f32]) -> [Vec<f64>; 4] {
    let width = flash.width;
    let wide = |x: f32| f64::from(x);
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| wide(*a) * wide(*b)).sum() };
    let mut found = [q, q, k, v].map(|like| vec![0.0; like.len()]);
    for head in 0..flash.sequences * flash.heads {
        let key_head = head / (flash.heads / flash.key_heads);
        for query in 0..flash.queries {
            let row = (head * flash.queries + query) * width;
            let (own, above) = (&q[row..row + width], &above[row..row + width]);
            let last = flash.first_query + query;
            let seen = (last + 1).saturating_sub(flash.window)..last + 1;
            let place = |key: usize| (key_head * flash.keys + key) * width;
            let rows = seen.clone().map(place);
            let scores: Vec<f64> = rows
                .clone()
                .map(|at| {
                    let score = dot(own, &k[at..at + width]);
                    flash
                        .softcap
                        .map_or(score, |cap| wide(cap) * (score / wide(cap)).tanh())
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            let weights: Vec<f64> = scores
                .iter()
                .map(|score| (score - largest).exp() / sum)
                .collect();
            let of_weights: Vec<f64> = rows
                .clone()
                .map(|at| dot(above, &v[at..at + width]))
                .collect();
            let mean: f64 = weights.iter().zip(&of_weights).map(|(p, g)| p * g).sum();
            for (seen, at) in rows.enumerate() {
                let (weight, of_weight) = (weights[seen], of_weights[seen]);
                let slope = flash
                    .softcap
                    .map_or(1.0, |cap| 1.0 - (scores[seen] / wide(cap)).powi(2));
                let of_score = weight * (of_weight - mean) * slope;
                for component in 0..width {
                    found[0][row + component] += weight * wide(v[at + component]);
                    found[1][row + component] += of_score * wide(k[at + component]);
                    found[2][at + component] += of_score * wide(own[component]);
                    found[3][at + component] += weight * wide(above[component]);
                }
            }
        }
    }
    found
}

#[test]
fn flash_attention_and_its_gradients_follow_the_definition() {
    let Some(client) = client("flash attention on a GPU") else {
        return;
    };
    let shape = |sequences, [heads, key_heads]: [usize; 2], [queries, keys]: [usize; 2], width| {
        FlashAttention {
            sequences,
            heads,
            key_heads,
            queries,
            keys,
            width,
            first_query: keys - queries,
            window: usize::MAX,
            softcap: None,
        }
    };
    // Each width is three kernels to compile: seconds on a software GPU.
    let widths: &[usize] = if require::full() {
        &[1, 5, 16, 80, 128]
    } else {
        &[33]
    };
    let plain = widths.iter().flat_map(|width| {
        [
            shape(1, [1, 1], [1, 1], *width),
            shape(2, [4, 2], [70, 70], *width),
            shape(1, [2, 2], [64, 128], *width),
            shape(1, [3, 1], [65, 200], *width),
        ]
    });
    let seen = |window, softcap| FlashAttention {
        window,
        softcap,
        ..shape(1, [2, 1], [150, 220], 33)
    };
    let limited = [
        seen(1, None),
        seen(17, None),
        seen(64, Some(0.7)),
        seen(usize::MAX, Some(2.0)),
    ];
    for flash in plain.chain(limited) {
        assert!(flash.runs_on(&client), "{flash:?}");
        let [of_queries, of_keys] = [flash.heads * flash.queries, flash.key_heads * flash.keys]
            .map(|rows| flash.sequences * rows * flash.width);
        let spread = (flash.width as f32).sqrt();
        let unit = |seed, count| -> Vec<f32> {
            let mut random = SplitMix64(seed);
            (0..count)
                .map(|_| (random.next() as f32 / u64::MAX as f32 - 0.5) * 4.0 / spread.sqrt())
                .collect()
        };
        let [queries, above] = [1, 2].map(|seed| unit(seed, of_queries));
        let [keys, values] = [3, 4].map(|seed| unit(seed, of_keys));
        let expected = attention(&flash, [&queries, &keys, &values], &above);
        let [on_queries, on_keys, on_values, on_above] =
            [&queries, &keys, &values, &above].map(|values| upload(&client, values));
        let inputs = [&on_queries, &on_keys, &on_values];
        let [output, log_sums] = flash.forward(&client, inputs);
        let found = flash.backward(&client, inputs, [&output, &log_sums], &on_above);
        let [of_queries, of_keys, of_values] = &found;
        for (what, found, expected) in [
            ("output", &output, &expected[0]),
            ("queries", of_queries, &expected[1]),
            ("keys", of_keys, &expected[2]),
            ("values", of_values, &expected[3]),
        ] {
            assert_close(
                &format!("{what} of {flash:?}"),
                &read(&client, found),
                expected,
            );
        }
    }
}
