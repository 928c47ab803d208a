//! Decodes a body from a stranger. Either it is refused, or its values compress to the same bytes
//! and can be applied. Nothing panics.
//!
//! The first byte chooses the layout and settings, the rest is the body. Run it in `kernels/` with
//! cargo-fuzz:
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds -- fuzz/corpus/decode
//! cargo +nightly fuzz run decode -- -max_total_time=300
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use weal_kernels::{OuterStep, Rule, apply, compress, decode, max_body_bytes};
use weal_kernels_fuzz::shape;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    let (layout, compression) = shape(choice);
    let Ok(contribution) = decode(&layout, &compression, body, 1 << 20) else {
        return;
    };
    let (zeros, mut values) = (
        vec![0.0; layout.parameters()],
        vec![0.0; layout.parameters()],
    );
    contribution
        .add_to(&layout, &mut values, 1.0)
        .expect("it was decoded for this layout");
    assert_eq!(
        compress(&layout, &compression, &zeros, &mut values).as_deref(),
        Ok(body)
    );
    assert_eq!(values, zeros);
    assert!(body.len() <= max_body_bytes(&layout, &compression).expect("valid settings"));
    assert!(
        contribution
            .norms()
            .iter()
            .all(|norm| norm.is_finite() && *norm >= 0.0)
    );
    let twice = [contribution.clone(), contribution];
    for rule in [Rule::MeanOfSenders, Rule::MeanOfAll, Rule::RootOfSenders] {
        let mut theta = vec![1.0; layout.parameters()];
        let step = OuterStep {
            contributions: &twice,
            coefficients_ppm: &[1_000_000, 300_000],
            alpha: 1.0,
            rule,
        };
        apply(&layout, &mut theta, &step).expect("it was decoded for this layout");
        assert!(theta.iter().all(|weight| weight.is_finite()));
    }
});
