//! The element-wise passes, written so that the compiler turns each into wide instructions.
//!
//! Every function is compiled twice on x86-64: for the baseline, and for AVX2, chosen when it is called. Sums run over
//! sixteen lanes, because the order of a floating-point sum is the programmer's to change, not the compiler's.

/// Lanes of a sum.
const LANES: usize = 16;

/// Defines a function that is also compiled for AVX2.
macro_rules! vectorised {
    ($($(#[$meta:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$meta])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has both features.
                    return unsafe { wide($($argument),*) };
                }
            }
            plain($($argument),*)
        }
    )*};
}

/// e to the power x to within two units in the last place, without a branch; 0 below −87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.336_54, 88.02);
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the lowest bits.
    let shifted = clamped * std::f32::consts::LOG2_E + 12_582_912.0;
    let power = shifted - 12_582_912.0;
    let rest = clamped - power * LN2_HIGH - power * LN2_LOW;
    // The polynomial of Cephes' expf on [−ln 2 / 2, ln 2 / 2].
    let mut series = 1.987_569_1e-4;
    series = series * rest + 1.398_199_9e-3;
    series = series * rest + 8.333_452e-3;
    series = series * rest + 4.166_579_6e-2;
    series = series * rest + 1.666_666_5e-1;
    series = series * rest + 5e-1;
    let mantissa = series * rest * rest + rest + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    // NaN must stay NaN: the clamp passes it on, and so does every operation after it.
    mantissa * scale
}

/// 1 / (1 + e^−x)
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of `term(i)` over `length` terms.
#[inline(always)]
fn sum(length: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = length - length % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    let rest: f32 = (whole..length).map(&term).sum();
    lanes.iter().sum::<f32>() + rest
}

vectorised! {
    /// y = x · gain / rms(x) for one row; gives back 1 / rms(x).
    pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32]) -> f32 {
        let squares = sum(x.len(), |i| x[i] * x[i]);
        let inverse = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
        for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
            *y = *x * inverse * *gain;
        }
        inverse
    }

    /// The backward pass of [`rms_norm`] for one row: adds to `dx` and to `dgain`.
    pub fn rms_norm_backward(
        dy: &[f32],
        x: &[f32],
        gain: &[f32],
        inverse: f32,
        dx: &mut [f32],
        dgain: &mut [f32],
    ) {
        let width = x.len();
        let (dy, gain, dx, dgain) = (&dy[..width], &gain[..width], &mut dx[..width], &mut dgain[..width]);
        let projection = sum(width, |i| dy[i] * gain[i] * x[i]);
        let along = projection * inverse * inverse * inverse / width as f32;
        for i in 0..width {
            dx[i] += dy[i] * gain[i] * inverse - x[i] * along;
            dgain[i] += dy[i] * x[i] * inverse;
        }
    }

    /// y = silu(gate) · up
    pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = *gate * sigmoid(*gate) * *up;
        }
    }

    /// The backward pass of [`swiglu`]: `gate` and `up` become their gradients.
    pub fn swiglu_backward(dy: &[f32], gate: &mut [f32], up: &mut [f32]) {
        for ((dy, gate), up) in dy.iter().zip(gate).zip(up) {
            let sigmoid = sigmoid(*gate);
            let silu = *gate * sigmoid;
            let slope = sigmoid + silu * (1.0 - sigmoid);
            *gate = *dy * *up * slope;
            *up = *dy * silu;
        }
    }

    /// Turns one head of one row by the angles of its position; `direction` −1 turns back.
    pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        let (first, second) = head.split_at_mut(cos.len());
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let sin = *sin * direction;
            (*a, *b) = (*a * *cos - *b * sin, *b * *cos + *a * sin);
        }
    }

    /// row = softmax(scale · row); gives back log Σ e^(scale · row).
    pub fn softmax(row: &mut [f32], scale: f32) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let mut chunks = row.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (most, value) in lanes.iter_mut().zip(chunk) {
                *most = if *value > *most { *value } else { *most };
            }
        }
        let most = lanes.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |most, value| most.max(*value));
        let shift = most * scale;
        for value in row.iter_mut() {
            *value = exp(*value * scale - shift);
        }
        let total = sum(row.len(), |i| row[i]);
        let inverse = 1.0 / total;
        for value in row.iter_mut() {
            *value *= inverse;
        }
        shift + total.ln()
    }

    /// row = e^(scale · row − log_sum): [`softmax`] again, from the logarithm that it gave back.
    pub fn softmax_again(row: &mut [f32], scale: f32, log_sum: f32) {
        for value in row.iter_mut() {
            *value = exp(*value * scale - log_sum);
        }
    }

    /// The backward pass of [`softmax`] for one row: d = p · (d − offset) · scale.
    pub fn softmax_backward(d: &mut [f32], p: &[f32], offset: f32, scale: f32) {
        for (d, p) in d.iter_mut().zip(p) {
            *d = *p * (*d - offset) * scale;
        }
    }

    /// Σ a · b
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let b = &b[..a.len()];
        sum(a.len(), |i| a[i] * b[i])
    }

    /// a += b
    pub fn add(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += *b;
        }
    }

    /// a = a · factor
    pub fn multiply(a: &mut [f32], factor: f32) {
        for a in a.iter_mut() {
            *a *= factor;
        }
    }

    /// One AdamW update of weights and moments; the factors are [`AdamW`]'s.
    pub fn adamw(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], f: &AdamW) {
        let length = w.len();
        let (g, m, v) = (&g[..length], &mut m[..length], &mut v[..length]);
        for i in 0..length {
            let gradient = g[i] * f.clip;
            m[i] = f.beta1 * m[i] + (1.0 - f.beta1) * gradient;
            v[i] = f.beta2 * v[i] + (1.0 - f.beta2) * gradient * gradient;
            let root = (v[i] * f.correction2).sqrt() + f.epsilon;
            w[i] = w[i] * f.keep - f.rate * m[i] / root;
        }
    }
}

/// The factors of one [`adamw`] update.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// What the gradient is multiplied with to keep its norm within bounds.
    pub clip: f32,
    /// Memory of the mean gradient.
    pub beta1: f32,
    /// Memory of the squared gradient.
    pub beta2: f32,
    /// Learning rate, times the correction of the first moment.
    pub rate: f32,
    /// Correction of the second moment.
    pub correction2: f32,
    /// What keeps the division finite.
    pub epsilon: f32,
    /// What is left of a weight after its decay.
    pub keep: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(length: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * 7919 + 13) % 1009) as f32 / 100.0 - 5.0).collect()
    }

    #[test]
    fn exp_agrees_with_the_maths_library() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= theirs * 3e-7, "{x}: {ours} {theirs}");
        }
        assert!(exp(-1e9) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn a_softmax_sums_to_one_and_can_be_made_again() {
        for length in [1, 15, 16, 33, 128] {
            let scores = values(length);
            let mut first = scores.clone();
            let log_sum = softmax(&mut first, 0.5);
            assert!((first.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            let exact: f64 = scores.iter().map(|s| f64::from(s * 0.5).exp()).sum::<f64>().ln();
            assert!((f64::from(log_sum) - exact).abs() < 1e-5);
            let mut again = scores.clone();
            softmax_again(&mut again, 0.5, log_sum);
            assert!(first.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn turning_there_and_back_changes_nothing() {
        let mut head = values(16);
        let (cos, sin): (Vec<f32>, Vec<f32>) = (0..8).map(|i| ((i as f32).cos(), (i as f32).sin())).unzip();
        rotate(&mut head, &cos, &sin, 1.0);
        assert_ne!(head, values(16));
        rotate(&mut head, &cos, &sin, -1.0);
        assert!(head.iter().zip(values(16)).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn sums_count_every_term_once() {
        for length in [0, 1, 15, 16, 17, 100] {
            let (a, b) = (values(length), vec![1.0; length]);
            let expected: f32 = a.iter().sum();
            assert!((dot(&a, &b) - expected).abs() < 1e-3);
        }
    }
}
