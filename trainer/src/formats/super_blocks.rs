//! GGML's super-blocks of 256 values ("K-quants"): q4_k, q5_k and q6_k.
//!
//! A super-block holds a scale, and small whole numbers that multiply it for each of its
//! sub-blocks. The format says what the bytes mean, and leaves to the writer which to choose. We
//! take those with a small squared error: a scale for each sub-block by least squares over several
//! roundings, then, with what the file can express, the best of its neighbours.

use half::f16;

/// Values per super-block.
pub(super) const SUPER_BLOCK: usize = 256;
/// Bytes of a super-block: two scales, 8 · 2 numbers of 6 bits, and half a byte for each value.
pub(super) const Q4_K_BYTES: usize = 4 + PACKED + SUPER_BLOCK / 2;
/// The same with a fifth bit for each value.
pub(super) const Q5_K_BYTES: usize = Q4_K_BYTES + SUPER_BLOCK / 8;
/// Bytes of a super-block: six bits for each value, 16 numbers of a byte, and a scale.
pub(super) const Q6_K_BYTES: usize = SUPER_BLOCK * 3 / 4 + 16 + 2;

/// Bytes of 16 numbers of 6 bits.
const PACKED: usize = 12;
/// Values per sub-block of q4_k and q5_k, and of q6_k.
const WIDE: usize = 32;
const NARROW: usize = 16;
/// The largest number of 6 bits.
const MOST_6_BITS: f32 = 63.0;
/// A range below this is none.
const TINY: f32 = 1e-30;

/// Quantises to d · s · q - e · m, where q is 0 to 15, and s and m are 0 to 63 for each 32 values.
pub(super) fn q4_k(values: &[f32; SUPER_BLOCK]) -> [u8; Q4_K_BYTES] {
    let coded = Coded::new(values, 15.0);
    let mut block = [0; Q4_K_BYTES];
    coded.put_scales(&mut block);
    coded.put_low_halves(&mut block[4 + PACKED..]);
    block
}

/// The same where q is 0 to 31. The fifth bit of value i is bit i / 32 of byte i % 32.
pub(super) fn q5_k(values: &[f32; SUPER_BLOCK]) -> [u8; Q5_K_BYTES] {
    let coded = Coded::new(values, 31.0);
    let mut block = [0; Q5_K_BYTES];
    coded.put_scales(&mut block);
    let (high, low) = block[4 + PACKED..].split_at_mut(SUPER_BLOCK / 8);
    for (index, code) in coded.codes.iter().enumerate() {
        high[index % WIDE] |= (code >> 4) << (index / WIDE);
    }
    coded.put_low_halves(low);
    block
}

/// Quantises to d · s · q, where q is -32 to 31, and s is -128 to 127 for each 16 values.
///
/// Of each 128 values, low halves of the codes come as those of value i beside i + 64, and two high
/// bits as those of i, i + 32, i + 64 and i + 96.
pub(super) fn q6_k(values: &[f32; SUPER_BLOCK]) -> [u8; Q6_K_BYTES] {
    let (parts, _) = values.as_chunks::<NARROW>();
    let wanted: [f32; 16] = std::array::from_fn(|part| scale_through_zero(&parts[part]));
    let most = wanted.iter().fold(0.0_f32, |most, scale| {
        if scale.abs() > most.abs() {
            *scale
        } else {
            most
        }
    });
    let step = f16::from_f32(most / -128.0);
    let d = step.to_f32();
    let mut block = [0; Q6_K_BYTES];
    let (low, rest) = block.split_at_mut(SUPER_BLOCK / 2);
    let (high, rest) = rest.split_at_mut(SUPER_BLOCK / 4);
    let (scales, last) = rest.split_at_mut(16);
    last.copy_from_slice(&step.to_le_bytes());
    for (part, values) in parts.iter().enumerate() {
        let near = if d == 0.0 { 0.0 } else { wanted[part] / d };
        let tries = [0.0, -1.0, 1.0].map(|by| (near.round() + by).clamp(-128.0, 127.0));
        let scale = least(tries, |scale| {
            let quantised = values.map(|value| d * scale * signed_code(value, d * scale));
            squared_error(values, &quantised)
        });
        scales[part] = scale as i8 as u8;
        for (offset, value) in values.iter().enumerate() {
            let index = part * NARROW + offset;
            let code = (signed_code(*value, d * scale) + 32.0) as u8;
            // Which of the two halves, which of its four rows of 32, and where in the row.
            let (half, row, column) = (index / 128, index / WIDE % 4, index % WIDE);
            low[half * 64 + row % 2 * WIDE + column] |= (code & 15) << (row / 2 * 4);
            high[half * WIDE + column] |= (code >> 4) << (row * 2);
        }
    }
    block
}

/// The numbers of a super-block of q4_k or q5_k.
struct Coded {
    scale: f16,
    least: f16,
    /// The numbers for each sub-block that multiply them.
    scales: [u8; 8],
    leasts: [u8; 8],
    codes: [u8; SUPER_BLOCK],
}

impl Coded {
    /// Quantises to codes from 0 to `top`.
    fn new(values: &[f32; SUPER_BLOCK], top: f32) -> Self {
        let (parts, _) = values.as_chunks::<WIDE>();
        let wanted: [Line; 8] = std::array::from_fn(|part| Line::fit(&parts[part], top));
        let most = |of: fn(&Line) -> f32| wanted.iter().map(of).fold(0.0, f32::max);
        let scale = f16::from_f32(most(|line| line.scale) / MOST_6_BITS);
        let least = f16::from_f32(most(|line| line.least) / MOST_6_BITS);
        let mut coded = Self {
            scale,
            least,
            scales: [0; 8],
            leasts: [0; 8],
            codes: [0; SUPER_BLOCK],
        };
        for (part, values) in parts.iter().enumerate() {
            let (number, line) =
                wanted[part].nearest(values, (scale.to_f32(), least.to_f32()), top);
            (coded.scales[part], coded.leasts[part]) = number;
            for (offset, code) in line.codes(values, top).iter().enumerate() {
                coded.codes[part * WIDE + offset] = *code as u8;
            }
        }
        coded
    }

    /// Puts both scales and the packed numbers at the head of `block`. The numbers 0 to 3 have a
    /// byte each; those of 4 to 7 have half a byte each, and the two bits that the others leave.
    fn put_scales(&self, block: &mut [u8]) {
        block[..2].copy_from_slice(&self.scale.to_le_bytes());
        block[2..4].copy_from_slice(&self.least.to_le_bytes());
        let packed = &mut block[4..4 + PACKED];
        for part in 0..4 {
            let (scale, least) = (self.scales[part + 4], self.leasts[part + 4]);
            packed[part] = self.scales[part] | (scale >> 4) << 6;
            packed[part + 4] = self.leasts[part] | (least >> 4) << 6;
            packed[part + 8] = scale & 15 | (least & 15) << 4;
        }
    }

    /// Puts the low halves of the codes. Of each 64 values, that of value i is beside that of i +
    /// 32.
    fn put_low_halves(&self, block: &mut [u8]) {
        for (index, code) in self.codes.iter().enumerate() {
            let (group, row, column) = (index / 64, index / WIDE % 2, index % WIDE);
            block[group * WIDE + column] |= (code & 15) << (row * 4);
        }
    }
}

/// Values as scale · q - least.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    /// Not negative.
    least: f32,
}

impl Line {
    fn codes(self, values: &[f32; WIDE], top: f32) -> [f32; WIDE] {
        if self.scale <= 0.0 {
            return [0.0; WIDE];
        }
        let inverse = 1.0 / self.scale;
        values.map(|value| rounded((value + self.least) * inverse).clamp(0.0, top))
    }

    /// The line with the least squared error that some rounding gives.
    fn fit(values: &[f32; WIDE], top: f32) -> Self {
        let low = values.iter().fold(0.0_f32, |low, value| low.min(*value));
        let high = values
            .iter()
            .fold(f32::NEG_INFINITY, |high, value| high.max(*value));
        let flat = Self {
            scale: 0.0,
            least: -low,
        };
        let range = high - low;
        if range < TINY {
            return flat;
        }
        let lines = (-10..=12).map(|step| {
            let inverse = (top + step as f32 * 0.1) / range;
            let codes = values.map(|value| rounded((value - low) * inverse).clamp(0.0, top));
            Self::through(values, &codes)
        });
        lines
            .min_by(|left, right| left.1.total_cmp(&right.1))
            .map_or(flat, |(line, _)| line)
    }

    /// The line with the least squared error for these codes, and that error.
    fn through(values: &[f32; WIDE], codes: &[f32; WIDE]) -> (Self, f32) {
        let count = WIDE as f32;
        let sum_of_values = sum::<WIDE>(|index| values[index]);
        let sum_of_codes = sum::<WIDE>(|index| codes[index]);
        let of_both = sum::<WIDE>(|index| values[index] * codes[index]);
        let of_codes = sum::<WIDE>(|index| codes[index] * codes[index]);
        let spread = count * of_codes - sum_of_codes * sum_of_codes;
        let mut line = Self {
            scale: 0.0,
            least: -1.0,
        };
        if spread > 0.0 {
            line.scale = (count * of_both - sum_of_values * sum_of_codes) / spread;
            line.least = (sum_of_codes * line.scale - sum_of_values) / count;
        }
        if line.least < 0.0 {
            line.least = 0.0;
            line.scale = of_both / of_codes.max(1.0);
        }
        let quantised = codes.map(|code| line.scale * code - line.least);
        (line, squared_error(values, &quantised))
    }

    /// The best of the lines near this one whose numbers are whole multiples of `steps`, and these
    /// multiples.
    fn nearest(self, values: &[f32; WIDE], steps: (f32, f32), top: f32) -> ((u8, u8), Self) {
        let line = |(scale, least): (f32, f32)| Self {
            scale: steps.0 * scale,
            least: steps.1 * least,
        };
        let pairs = near(self.scale, steps.0).into_iter().flat_map(|scale| {
            // Another scale wants another least value.
            let rough = Self {
                scale: steps.0 * scale,
                ..self
            };
            let centre = rough.centred(values, top).centred(values, top);
            near(centre.least, steps.1).map(|least| (scale, least))
        });
        let best = least(pairs, |pair| {
            let line = line(pair);
            let codes = line.codes(values, top);
            squared_error(values, &codes.map(|code| line.scale * code - line.least))
        });
        ((best.0 as u8, best.1 as u8), line(best))
    }

    /// The same with the least value that is best for its codes.
    fn centred(self, values: &[f32; WIDE], top: f32) -> Self {
        let codes = self.codes(values, top);
        let least = sum::<WIDE>(|index| self.scale * codes[index] - values[index]) / WIDE as f32;
        Self {
            least: least.max(0.0),
            ..self
        }
    }
}

/// The three numbers of 6 bits whose multiples of `step` are nearest to `wanted`.
fn near(wanted: f32, step: f32) -> [f32; 3] {
    let near = if step == 0.0 { 0.0 } else { wanted / step };
    [0.0, -1.0, 1.0].map(|by| (near.round() + by).clamp(0.0, MOST_6_BITS))
}

/// The scale with the least squared error for codes from -32 to 31.
fn scale_through_zero(values: &[f32; NARROW]) -> f32 {
    let most = values.iter().fold(0.0_f32, |most, value| {
        if value.abs() > most.abs() {
            *value
        } else {
            most
        }
    });
    if most.abs() < TINY {
        return 0.0;
    }
    let mut best = (0.0, 0.0);
    for step in -9..=9 {
        let inverse = -(32.0 + step as f32 * 0.1) / most;
        let codes = values.map(|value| rounded(value * inverse).clamp(-32.0, 31.0));
        let of_both = sum::<NARROW>(|index| values[index] * codes[index]);
        let of_codes = sum::<NARROW>(|index| codes[index] * codes[index]);
        // How much of the values' squares the best scale for these codes takes away.
        let gain = of_both * of_both / of_codes.max(1.0);
        if gain > best.1 {
            best = (of_both / of_codes.max(1.0), gain);
        }
    }
    best.0
}

fn signed_code(value: f32, scale: f32) -> f32 {
    if scale == 0.0 {
        return 0.0;
    }
    rounded(value * (1.0 / scale)).clamp(-32.0, 31.0)
}

/// The value with the least cost; the first of equals.
fn least<T: Copy + Default>(values: impl IntoIterator<Item = T>, cost: impl Fn(T) -> f32) -> T {
    let mut best = (T::default(), f32::INFINITY);
    for value in values {
        let cost = cost(value);
        if cost < best.1 {
            best = (value, cost);
        }
    }
    best.0
}

fn squared_error<const N: usize>(values: &[f32; N], quantised: &[f32; N]) -> f32 {
    let error = |index: usize| {
        let error = values[index] - quantised[index];
        error * error
    };
    sum::<N>(error)
}

/// The sum of N terms, eight at a time, for vector instructions.
fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for index in 0..N {
        lanes[index % 8] += term(index);
    }
    lanes.iter().sum()
}

/// The nearest whole number, for magnitudes below 2^22; without a call into the system's maths.
fn rounded(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::ggml_file::qtensor_from_ggml;
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::*;

    const BLOCKS: usize = 64;

    /// Values as weights have them: bells of several widths, some with far outliers, some shifted.
    fn weights() -> Vec<f32> {
        let mut state = 1_u32;
        let mut uniform = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let value = |index: usize| {
            let bell: f32 = (0..8).map(|_| uniform()).sum();
            match index / SUPER_BLOCK % 4 {
                0 => bell * 0.02,
                1 => bell * bell * bell,
                2 => bell * 0.1 + 0.3,
                _ if index.is_multiple_of(97) => bell * 40.0,
                _ => bell,
            }
        };
        (0..BLOCKS * SUPER_BLOCK).map(value).collect()
    }

    fn encode<const BYTES: usize>(
        values: &[f32],
        quantise: fn(&[f32; SUPER_BLOCK]) -> [u8; BYTES],
    ) -> Vec<u8> {
        let (blocks, _) = values.as_chunks::<SUPER_BLOCK>();
        blocks.iter().flat_map(quantise).collect()
    }

    fn candle_reads(bytes: &[u8], kind: GgmlDType) -> Vec<f32> {
        let values = bytes.len() / kind.type_size() * SUPER_BLOCK;
        // Candle needs the alignment of allocated memory.
        let bytes = &bytes.to_vec();
        let tensor = qtensor_from_ggml(kind, bytes, vec![values], &Device::Cpu).unwrap();
        tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap()
    }

    fn candle_quantises(values: &[f32], kind: GgmlDType) -> Vec<f32> {
        let tensor = Tensor::new(values, &Device::Cpu).unwrap();
        let quantised = QTensor::quantize(&tensor, kind).unwrap();
        quantised
            .dequantize(&Device::Cpu)
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    /// The error's root over that of the values' squares.
    fn error(values: &[f32], read: &[f32]) -> f64 {
        let sum = |of: &dyn Fn(f32, f32) -> f32| -> f64 {
            values
                .iter()
                .zip(read)
                .map(|(v, r)| f64::from(of(*v, *r).powi(2)))
                .sum()
        };
        (sum(&|v, r| v - r) / sum(&|v, _| v)).sqrt()
    }

    #[test]
    fn the_error_is_no_larger_than_that_of_candles_quantiser() {
        let values = weights();
        for (bytes, kind, most) in [
            (encode(&values, q4_k), GgmlDType::Q4K, 0.1),
            (encode(&values, q5_k), GgmlDType::Q5K, 0.05),
            (encode(&values, q6_k), GgmlDType::Q6K, 0.04),
        ] {
            for group in 0..4 {
                let of = |all: &[f32]| -> Vec<f32> {
                    let (blocks, _) = all.as_chunks::<SUPER_BLOCK>();
                    blocks
                        .iter()
                        .skip(group)
                        .step_by(4)
                        .flatten()
                        .copied()
                        .collect()
                };
                let ours = error(&of(&values), &of(&candle_reads(&bytes, kind)));
                let theirs = error(&of(&values), &of(&candle_quantises(&values, kind)));
                println!("{kind:?}, group {group}: {ours:.5}, candle {theirs:.5}");
                assert!(
                    ours <= theirs,
                    "{kind:?}, group {group}: {ours}, candle {theirs}"
                );
                assert!(ours < most, "{kind:?}, group {group}: {ours}");
            }
        }
    }

    #[test]
    fn values_that_a_block_can_hold_are_exact() {
        // d = 1/64, and numbers and codes at both ends of their ranges.
        let of = |top: usize, sub: usize, least: f32| -> [f32; SUPER_BLOCK] {
            std::array::from_fn(|index| {
                let scale = if (index / sub).is_multiple_of(2) {
                    63.0
                } else {
                    21.0
                };
                (scale * (index % sub % (top + 1)) as f32 - least) / 64.0
            })
        };
        for (values, kind) in [
            (of(15, 32, 63.0 * 4.0), GgmlDType::Q4K),
            (of(31, 32, 63.0 * 4.0), GgmlDType::Q5K),
        ] {
            let bytes = match kind {
                GgmlDType::Q4K => q4_k(&values).to_vec(),
                _ => q5_k(&values).to_vec(),
            };
            assert_eq!(candle_reads(&bytes, kind), values, "{kind:?}");
        }
        let values: [f32; SUPER_BLOCK] = std::array::from_fn(|index| {
            let scale = if index / 16 % 2 == 0 { -128.0 } else { 64.0 };
            scale * ((index * 5 % 16) as f32 * 4.0 - 32.0) / 256.0
        });
        assert_eq!(candle_reads(&q6_k(&values), GgmlDType::Q6K), values);
    }

    #[test]
    fn zeros_equal_values_and_extremes_stay_finite() {
        for (value, exact) in [
            (0.0, true),
            (-0.5, false),
            (0.5, false),
            (65_504.0, false),
            (1e-38, false),
        ] {
            let values = [value; SUPER_BLOCK];
            for (bytes, kind) in [
                (q4_k(&values).to_vec(), GgmlDType::Q4K),
                (q5_k(&values).to_vec(), GgmlDType::Q5K),
                (q6_k(&values).to_vec(), GgmlDType::Q6K),
            ] {
                for read in candle_reads(&bytes, kind) {
                    let most = if exact {
                        0.0
                    } else {
                        value.abs() * 1e-2 + 1e-9
                    };
                    assert!(
                        (read - value).abs() <= most,
                        "{kind:?}: {value} became {read}"
                    );
                }
            }
        }
    }
}
