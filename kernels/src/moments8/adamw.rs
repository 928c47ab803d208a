//! One step of AdamW.

use rayon::prelude::*;

use super::codes::{
    BLOCK, BLOCKS_AT_A_TIME, decode_first, decode_second, encode_first, encode_second, key_of,
    mixed, random, reciprocal,
};
use super::moments::Moments8;
use crate::flush::flush;
use crate::simd::multiversion;
use crate::update::{AdamW, LEAST_FIRST, LEAST_SECOND};

/// Does what [`crate::update::adamw`] does, on moments in eight bits. `seed` draws how the new
/// moments are rounded; it must differ from step to step.
///
/// # Panics
/// If weights, moments and gradients differ in number.
pub fn adamw(
    weights: &mut [f32],
    moments: &mut Moments8,
    gradients: &[f32],
    settings: &AdamW,
    seed: u64,
) {
    let count = weights.len();
    let Moments8 { first, second } = moments;
    assert!(
        first.codes.len() == count && second.codes.len() == count && gradients.len() == count,
        "a gradient and two moments for every weight"
    );
    let key = mixed(seed);
    let first = first.codes.par_chunks_mut(BLOCK).zip(&mut first.scales);
    let second = second.codes.par_chunks_mut(BLOCK).zip(&mut second.scales);
    let weights = weights
        .par_chunks_mut(BLOCK)
        .zip(gradients.par_chunks(BLOCK));
    weights
        .zip(first.zip(second))
        .enumerate()
        .with_min_len(BLOCKS_AT_A_TIME)
        .for_each(|(block, ((weights, gradients), (first, second)))| {
            let block = Block {
                weights,
                gradients,
                first,
                second,
                key: key_of(key, block),
            };
            adamw_block(block, settings);
        });
}

/// The values of one block.
pub(super) struct Block<'a> {
    pub(super) weights: &'a mut [f32],
    pub(super) gradients: &'a [f32],
    pub(super) first: (&'a mut [u8], &'a mut f32),
    pub(super) second: (&'a mut [u8], &'a mut f32),
    pub(super) key: u32,
}

multiversion! {
    /// See [`adamw`].
    pub(super) fn adamw_block(block: Block<'_>, settings: &AdamW) -> () = adamw_any
}

#[inline(always)]
pub(super) fn adamw_any(block: Block<'_>, settings: &AdamW) {
    let Block {
        weights,
        gradients,
        first: (first, first_scale),
        second: (second, second_scale),
        key,
    } = block;
    let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
    for (m, code) in m.iter_mut().zip(first.iter()) {
        *m = decode_first(*code, *first_scale);
    }
    for (v, code) in v.iter_mut().zip(second.iter()) {
        *v = decode_second(*code, *second_scale);
    }
    let (one, two) = (1.0 - settings.beta1, 1.0 - settings.beta2);
    let moments = m.iter_mut().zip(&mut v);
    for ((weight, gradient), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
        let gradient = gradient * settings.scale;
        *m = flush(*m * settings.beta1 + gradient * one, LEAST_FIRST);
        *v = flush(
            *v * settings.beta2 + gradient * gradient * two,
            LEAST_SECOND,
        );
        let root = (*v * settings.correction2).sqrt() + settings.epsilon;
        *weight = *weight * settings.kept - *m * settings.rate / root;
    }
    *first_scale = largest(&m);
    *second_scale = largest(&v);
    let (of_first, of_second) = (reciprocal(*first_scale), reciprocal(*second_scale));
    let codes = first.iter_mut().zip(second).zip(m.iter().zip(&v));
    for (place, ((first, second), (m, v))) in codes.enumerate() {
        let [one, two] = random(key, place);
        *first = encode_first(*m, of_first, one);
        *second = encode_second(*v, of_second, two);
    }
}

/// The largest magnitude of a block.
#[inline(always)]
fn largest(values: &[f32; BLOCK]) -> f32 {
    // Eight at a time, which compilers vectorise.
    let mut most = [0.0_f32; 8];
    for eight in values.chunks_exact(8) {
        for (most, value) in most.iter_mut().zip(eight) {
            *most = if value.abs() > *most {
                value.abs()
            } else {
                *most
            };
        }
    }
    most.iter().fold(0.0, |one, other| one.max(*other))
}
