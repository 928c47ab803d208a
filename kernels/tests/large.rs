//! Applies sixteen contributions to a large model: the root must not depend on the number of
//! threads or on the processor, and the step must need little memory.
//!
//! `WEAL_LARGE_MILLIONS=1024 cargo test --release -p weal-kernels --test large -- --nocapture` uses
//! a billion parameters, prints time and memory, and needs 13 GB. The roots are the same when built
//! with `RUSTFLAGS="-C target-cpu=native"`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use rayon::prelude::*;
use weal_kernels::{
    Compression, Contribution, Layout, OuterStep, Rule, TensorSpec, apply_and_outline, compress,
    decode,
};
use weal_testing::random::mix;

const PEERS: u64 = 16;

/// Millions (2^20) of parameters, and the root after a step by each rule.
const ROOTS: [(usize, [&str; 3]); 2] = [
    (
        16,
        [
            "778af703089aa97536dda070846597d72d9ae85892ab720ca3d427f395b88306",
            "b243350ae275e8be8af226c2a793d020afe9f0b234df3295f1e1c4c35bc0cf62",
            "bd193571d7b5ea8cdc8f24f93d02ea5775ea2d13f0136a7ef6cf51b8c77d2fee",
        ],
    ),
    (
        1024,
        [
            "adf00cc71766149b3465f962d7f2a0d433f73f884c770c19ea4f948dde889bdb",
            "f2f62b16c468a6a00f18003c2257e1496bef6798f34681dd2fa8207ccc4a6ad6",
            "9441df6ea17c77c7e0fc61a9d5e9b7b675009b83f90ff6011f05555e1b64bac4",
        ],
    ),
];

/// Matrices of 2^20 values, and vectors that end in a short chunk.
fn layout(millions: usize) -> Layout {
    let matrices =
        (0..millions).map(|number| TensorSpec::new(format!("matrix {number}"), [1024, 1024]));
    let vectors =
        (0..10).map(|number| TensorSpec::new(format!("vector {number}"), [4097 * (number + 1)]));
    Layout::new(matrices.chain(vectors).collect()).unwrap()
}

/// Fills `values` with cubed outputs of SplitMix64 (Steele, Lea and Flood, 2014), a few of them
/// large. All arithmetic is exact enough to give the same values on every machine.
fn noise(seed: u64, values: &mut [f32]) {
    values
        .par_iter_mut()
        .enumerate()
        .for_each(|(place, value)| {
            let bits = mix((place as u64 ^ seed << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let uniform = (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
            *value = uniform * uniform * uniform / 64.0;
        });
}

/// The peak memory of the process since the last call, in bytes; `None` if the system does not
/// report it.
fn peak_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    // Resets the peak.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(kilobytes * 1024)
}

#[test]
fn a_large_step_gives_the_recorded_root_and_needs_little_memory_beside_the_weights() {
    let millions =
        std::env::var("WEAL_LARGE_MILLIONS").map_or(16, |millions| millions.parse().unwrap());
    let layout = layout(millions);
    let compression = Compression {
        chunk: 4096,
        keep: 64,
        ..Compression::default()
    };
    let parameters = layout.parameters();
    let mut theta = vec![0.0; parameters];

    // Reuse the buffers: many machines hold no more than three of a billion parameters.
    let (zeros, mut delta) = (vec![0.0; parameters], vec![0.0; parameters]);
    let contributions: Vec<Contribution> = (1..=PEERS)
        .map(|peer| {
            noise(peer, &mut delta);
            let body = compress(&layout, &compression, &zeros, &mut delta).unwrap();
            decode(&layout, &compression, &body, body.len()).unwrap()
        })
        .collect();
    drop((zeros, delta));

    let roots = [Rule::MeanOfSenders, Rule::MeanOfAll, Rule::RootOfSenders].map(|rule| {
        noise(0, &mut theta);
        _ = peak_bytes();
        let before = peak_bytes();
        let start = Instant::now();
        let step = OuterStep {
            contributions: &contributions,
            coefficients_ppm: &[1_000_000; PEERS as usize],
            alpha: 0.7,
            rule,
        };
        let outline = apply_and_outline(&layout, &mut theta, &step).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let more = before
            .zip(peak_bytes())
            .map(|(before, after)| after.saturating_sub(before));
        let values: usize = contributions.iter().map(Contribution::values).sum();
        println!("{parameters} parameters, {values} values, {rule:?}: {seconds:.3} s");
        println!("{more:?} more bytes of memory");
        // The grid's chunks, the sums of one chunk per thread, and hashes.
        assert!(
            more.is_none_or(|more| more < parameters / 4 + (32 << 20)),
            "{more:?}"
        );
        let root = outline.root(&layout).unwrap();
        root.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    });
    let expected = ROOTS
        .iter()
        .find(|(of, _)| *of == millions)
        .expect("a size with recorded roots")
        .1;
    assert_eq!(roots, expected);
}
