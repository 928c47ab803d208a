//! GGML's quantised blocks of 32 values, as llama.cpp's `quantize_row_q8_0_ref` and
//! `quantize_row_q4_0_ref` produce them.

use half::f16;

/// Values per block.
pub(super) const BLOCK: usize = 32;
/// Bytes of a block: a scale, and a byte for each value.
pub(super) const Q8_0_BYTES: usize = 2 + BLOCK;
/// Bytes of a block: a scale, and half a byte for each value.
pub(super) const Q4_0_BYTES: usize = 2 + BLOCK / 2;

/// Quantises to q · d, where d = max |x| / 127 and q is an integer from -127 to 127.
pub(super) fn q8_0(values: &[f32; BLOCK]) -> [u8; Q8_0_BYTES] {
    let most = values
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let (scale, inverse) = scale_of(most, 127.0);
    let mut block = [0; Q8_0_BYTES];
    block[..2].copy_from_slice(&scale);
    for (byte, value) in block[2..].iter_mut().zip(values) {
        *byte = (value * inverse).round() as i8 as u8;
    }
    block
}

/// Quantises to (q - 8) · d, where d is the value of largest magnitude over -8 and q is 0 to 15.
/// Value i is in the low half of byte i, value i + 16 in the high half.
pub(super) fn q4_0(values: &[f32; BLOCK]) -> [u8; Q4_0_BYTES] {
    let most = values.iter().fold(0.0_f32, |most, value| {
        if value.abs() > most.abs() {
            *value
        } else {
            most
        }
    });
    let (scale, inverse) = scale_of(most, -8.0);
    let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    let mut block = [0; Q4_0_BYTES];
    block[..2].copy_from_slice(&scale);
    for (index, byte) in block[2..].iter_mut().enumerate() {
        *byte = code(values[index]) | code(values[index + BLOCK / 2]) << 4;
    }
    block
}

/// The encoded scale `most / steps`, and the factor for values.
fn scale_of(most: f32, steps: f32) -> ([u8; 2], f32) {
    let scale = most / steps;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    (f16::from_f32(scale).to_le_bytes(), inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> [f32; BLOCK] {
        std::array::from_fn(|index| ((index * 37 % 64) as f32 - 31.0) / 40.0)
    }

    fn scale(block: &[u8]) -> f32 {
        f16::from_le_bytes([block[0], block[1]]).to_f32()
    }

    #[test]
    fn eight_bits_are_off_by_half_a_step_at_most() {
        let block = q8_0(&values());
        let step = scale(&block);
        assert!((step - 0.8 / 127.0).abs() < 1e-5, "{step}");
        for (value, byte) in values().iter().zip(&block[2..]) {
            assert!(
                (value - f32::from(*byte as i8) * step).abs() <= step * 0.51,
                "{value}"
            );
        }
    }

    #[test]
    fn four_bits_are_off_by_half_a_step_except_at_the_far_end() {
        let block = q4_0(&values());
        // The value of largest magnitude is 0.8, and its code 0: the step is negative.
        let step = scale(&block);
        assert!((step + 0.1).abs() < 1e-4, "{step}");
        for (index, value) in values().iter().enumerate() {
            let byte = block[2 + index % 16];
            let code = if index < 16 { byte & 15 } else { byte >> 4 };
            let error = (value - (f32::from(code) - 8.0) * step).abs();
            // -0.775 would need the code 15.75, but the largest is 15.
            assert!(error <= step.abs() * 0.76, "{value}: {code}");
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(q8_0(&[0.0; BLOCK]), [0; Q8_0_BYTES]);
        assert_eq!(q4_0(&[0.0; BLOCK])[2..], [0x88; 16]);
    }
}
