//! How a moment becomes eight bits, and which way it is rounded.

/// Values with a common scale.
pub(super) const BLOCK: usize = 256;
/// Blocks per parallel task.
pub(super) const BLOCKS_AT_A_TIME: usize = 64;
/// Steps of a first moment's code on either side of zero.
const FIRST_STEPS: f32 = 127.0;
/// Steps of a second moment's code.
const SECOND_STEPS: f32 = 255.0;

#[inline(always)]
pub(super) fn reciprocal(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

#[inline(always)]
pub(super) fn decode_first(code: u8, scale: f32) -> f32 {
    let root = f32::from(code as i8) / FIRST_STEPS;
    root * root.abs() * scale
}

/// `random` is from 0 up to 1, and 0.5 rounds to the nearest.
#[inline(always)]
pub(super) fn encode_first(value: f32, of_scale: f32, random: f32) -> u8 {
    let root = (value.abs() * of_scale).sqrt() * FIRST_STEPS;
    let steps = (root + random).min(FIRST_STEPS) as i32;
    (if value < 0.0 { -steps } else { steps }) as i8 as u8
}

#[inline(always)]
pub(super) fn decode_second(code: u8, scale: f32) -> f32 {
    let root = f32::from(code) / SECOND_STEPS;
    root * root * (root * root) * scale
}

/// Never 0 for a value that is not.
#[inline(always)]
pub(super) fn encode_second(value: f32, of_scale: f32, random: f32) -> u8 {
    let root = (value * of_scale).sqrt().sqrt() * SECOND_STEPS;
    let least = if value > 0.0 { 1.0 } else { 0.0 };
    (root + random).clamp(least, SECOND_STEPS) as i32 as u8
}

/// A key from a seed.
pub(super) fn mixed(seed: u64) -> u32 {
    hashed(seed as u32 ^ hashed((seed >> 32) as u32 ^ 0x9e37_79b9))
}

/// A block's key.
pub(super) fn key_of(key: u32, block: usize) -> u32 {
    hashed(key ^ hashed(block as u32))
}

/// Two random numbers from 0 up to 1, for a place in a block.
#[inline(always)]
pub(super) fn random(key: u32, place: usize) -> [f32; 2] {
    let bits = hashed(key.wrapping_add((place as u32).wrapping_mul(0x9e37_79b9)));
    [bits & 0xffff, bits >> 16].map(|half| half as i32 as f32 / 65_536.0)
}

/// The last step of MurmurHash3.
#[inline(always)]
fn hashed(mut bits: u32) -> u32 {
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x85eb_ca6b);
    bits ^= bits >> 13;
    bits = bits.wrapping_mul(0xc2b2_ae35);
    bits ^ (bits >> 16)
}
