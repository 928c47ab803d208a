//! An exponential function that vectorises.

/// eˣ for x ≤ 0, to two units in the last place. Results below the smallest normal number become
/// that number. Has no branches or calls, so that compilers vectorise loops over it.
///
/// x = n ln 2 + r with |r| ≤ ½ ln 2, and eˣ = 2ⁿ eʳ. Adding 1.5 · 2²³, whose last bit has the value
/// one, rounds to n; eʳ is computed by its series.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.3;
    const ROUNDING: f32 = 12_582_912.0;
    /// ln 2 in two parts. The first has trailing zero bits, so that its products with n are exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // A NaN stays a NaN, because it compares as not less.
    let x = if x < LEAST { LEAST } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = rounded - ROUNDING;
    let r = (x - n * LN2[0]) - n * LN2[1];
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = (series * r + 1.0) * r + 1.0;
    // The low bits of `rounded` hold n. The biased exponent of 2ⁿ is n + 127.
    series * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_accurate_to_two_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for step in 0..=1_000_000 {
            let x = -87.0 * (step as f32 / 1e6);
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.4e-7, "off by {worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::NAN).is_nan());
    }
}
