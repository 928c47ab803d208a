//! SwiGLU, the gated unit of the feed-forward block, on the processor: forward and backward, each
//! in one pass.
//!
//! ```text
//! y = g σ(g) u,   ∂y/∂g = u σ(g) (1 + g (1 − σ(g))),   ∂y/∂u = g σ(g),   σ(g) = 1 / (1 + exp(−g))
//! ```
//!
//! (Shazeer, 2020, <https://arxiv.org/abs/2002.05202>). Nothing that peers agree on depends on it.

use rayon::prelude::*;

use crate::exp::exp;
use crate::simd::multiversion;

/// Values per parallel task.
const TASK: usize = 1 << 15;

/// Computes the outputs y from `gates` (g) and `ups` (u), in place of the gates.
///
/// # Panics
/// If the slices differ in length.
pub fn swiglu(gates: &mut [f32], ups: &[f32]) {
    assert_eq!(gates.len(), ups.len(), "a value for every gate");
    gates
        .par_chunks_mut(TASK)
        .zip(ups.par_chunks(TASK))
        .for_each(|(gates, ups)| forward(gates, ups));
}

/// Turns the gradients of the outputs into those of the gates, in place.
///
/// # Panics
/// If the slices differ in length.
pub fn swiglu_backward_gates(gates: &[f32], ups: &[f32], gradients: &mut [f32]) {
    assert!(
        gates.len() == gradients.len() && ups.len() == gradients.len(),
        "a gradient for every gate"
    );
    let inputs = gates.par_chunks(TASK).zip(ups.par_chunks(TASK));
    gradients
        .par_chunks_mut(TASK)
        .zip(inputs)
        .for_each(|(gradients, (gates, ups))| of_gates(gates, ups, gradients));
}

/// Turns the gradients of the outputs into those of the ups, in place.
///
/// # Panics
/// If the slices differ in length.
pub fn swiglu_backward_ups(gates: &[f32], gradients: &mut [f32]) {
    assert_eq!(gates.len(), gradients.len(), "a gradient for every gate");
    let both = gradients.par_chunks_mut(TASK).zip(gates.par_chunks(TASK));
    both.for_each(|(gradients, gates)| of_ups(gates, gradients));
}

multiversion! {
    /// See [`swiglu`].
    fn forward(gates: &mut [f32], ups: &[f32]) -> () = forward_any
}

multiversion! {
    /// See [`swiglu_backward_gates`].
    fn of_gates(gates: &[f32], ups: &[f32], gradients: &mut [f32]) -> () = of_gates_any
}

multiversion! {
    /// See [`swiglu_backward_ups`].
    fn of_ups(gates: &[f32], gradients: &mut [f32]) -> () = of_ups_any
}

#[inline(always)]
fn forward_any(gates: &mut [f32], ups: &[f32]) {
    for (gate, up) in gates.iter_mut().zip(ups) {
        *gate = *gate * sigmoid(*gate).0 * up;
    }
}

#[inline(always)]
fn of_gates_any(gates: &[f32], ups: &[f32], gradients: &mut [f32]) {
    for ((gradient, gate), up) in gradients.iter_mut().zip(gates).zip(ups) {
        let (open, closed) = sigmoid(*gate);
        *gradient *= up * open * (1.0 + gate * closed);
    }
}

#[inline(always)]
fn of_ups_any(gates: &[f32], gradients: &mut [f32]) {
    for (gradient, gate) in gradients.iter_mut().zip(gates) {
        *gradient *= gate * sigmoid(*gate).0;
    }
}

/// σ(x) and 1 − σ(x), from the exponential of -|x|, which cannot overflow.
#[inline(always)]
fn sigmoid(x: f32) -> (f32, f32) {
    let small = exp(-x.abs());
    let more = 1.0 / (1.0 + small);
    let less = small * more;
    if x < 0.0 { (less, more) } else { (more, less) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_and_gradients_match_the_formulas() {
        let count = TASK + 1000;
        let gates: Vec<f32> = (0..count)
            .map(|i| ((i * 37 % 2001) as f32 - 1000.0) / 50.0)
            .collect();
        let ups: Vec<f32> = (0..count)
            .map(|i| ((i * 53 % 401) as f32 - 200.0) / 100.0)
            .collect();
        let gradients: Vec<f32> = (0..count)
            .map(|i| ((i * 71 % 301) as f32 - 150.0) / 100.0)
            .collect();
        let (mut outputs, mut of_gates, mut of_ups) =
            (gates.clone(), gradients.clone(), gradients.clone());
        swiglu(&mut outputs, &ups);
        swiglu_backward_gates(&gates, &ups, &mut of_gates);
        swiglu_backward_ups(&gates, &mut of_ups);
        for i in 0..count {
            let [g, u, d] = [gates[i], ups[i], gradients[i]].map(f64::from);
            let open = 1.0 / (1.0 + (-g).exp());
            let near = |found: f32, expected: f64| {
                (f64::from(found) - expected).abs() <= 1e-6 * expected.abs().max(1.0)
            };
            assert!(near(outputs[i], g * open * u), "{g} {u}: {}", outputs[i]);
            assert!(
                near(of_gates[i], d * u * open * (1.0 + g * (1.0 - open))),
                "{g} {u} {d}: {}",
                of_gates[i]
            );
            assert!(near(of_ups[i], d * g * open), "{g} {d}: {}", of_ups[i]);
        }
    }

    #[test]
    fn nan_stays_nan() {
        let mut outputs = [f32::NAN, 1.0];
        swiglu(&mut outputs, &[1.0, f32::NAN]);
        assert!(outputs.iter().all(|output| output.is_nan()));
    }
}
