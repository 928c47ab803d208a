//! The speed of the kernels, compared with that of memory and of PyTorch.
//!
//! ```text
//! WEAL_PYTHON=venv/bin/python cargo bench -p weal-kernels -- [PART OF A NAME]
//! ```
//!
//! Bytes count the necessary memory traffic per parameter: compressing reads Δ and e and writes e
//! (12 bytes), copying and stepping read and write once (8), hashing reads (4). Items are kept
//! values. If `WEAL_PYTHON` is set, the same work runs in PyTorch afterwards
//! (`docs/bench/kernels.py`).

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it
#![allow(clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rayon::prelude::*;
use weal_kernels::{
    Compression, Contribution, Layout, OuterStep, Overlaps, Rule, TensorSpec, apply,
    apply_and_outline, compress, decode, state,
};

const MILLIONS: usize = 16;
const PEERS: usize = 16;

fn main() {
    println!(
        "{MILLIONS} M parameters, {PEERS} contributions, {} threads",
        rayon::current_num_threads()
    );
    divan::main();
    let Some(python) = std::env::var_os("WEAL_PYTHON") else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bench/kernels.py");
    let numbers = [MILLIONS, PEERS, rayon::current_num_threads()].map(|number| number.to_string());
    let ran = Command::new(&python).arg(script).args(numbers).status();
    assert!(
        ran.is_ok_and(|status| status.success()),
        "{} failed",
        python.display()
    );
}

fn layout() -> Layout {
    let tensors = (0..MILLIONS)
        .map(|i| TensorSpec::new(format!("t{i}"), [1000, 1000]))
        .collect();
    Layout::new(tensors).expect("a valid layout")
}

/// Values with a few large ones, from a linear congruential generator.
fn values(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut value = || {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let u = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        u * u * u / 64.0
    };
    (0..MILLIONS * 1_000_000).map(|_| value()).collect()
}

fn bodies(peers: usize) -> Vec<Vec<u8>> {
    let (layout, mut error) = (layout(), vec![0.0; MILLIONS * 1_000_000]);
    (1..=peers as u64)
        .map(|peer| {
            error.fill(0.0);
            compress(&layout, &Compression::default(), &error, &mut values(peer)).expect("finite")
        })
        .collect()
}

fn read(body: &[u8]) -> Contribution {
    decode(&layout(), &Compression::default(), body, body.len()).expect("canonical")
}

/// Contributions without values.
fn silent() -> Vec<Contribution> {
    let mut zeros = vec![0.0; MILLIONS * 1_000_000];
    let body = compress(
        &layout(),
        &Compression::default(),
        &zeros.clone(),
        &mut zeros,
    )
    .expect("finite");
    vec![read(&body); PEERS]
}

/// A step in which all contributions count fully.
fn step(contributions: &[Contribution], rule: Rule) -> OuterStep<'_> {
    OuterStep {
        contributions,
        coefficients_ppm: &[1_000_000; PEERS],
        alpha: 1e-3,
        rule,
    }
}

fn bytes(a_parameter: usize) -> BytesCount {
    BytesCount::new(a_parameter * MILLIONS * 1_000_000)
}

fn kept(contributions: &[Contribution]) -> ItemsCount {
    ItemsCount::new(
        contributions
            .iter()
            .map(Contribution::values)
            .sum::<usize>(),
    )
}

#[divan::bench]
fn copy(bencher: Bencher<'_, '_>) {
    let (from, mut to) = (values(0), values(1));
    bencher.counter(bytes(8)).bench_local(|| {
        to.par_chunks_mut(1 << 16)
            .zip(from.par_chunks(1 << 16))
            .for_each(|(to, from)| to.copy_from_slice(from));
    });
}

#[divan::bench(name = "compress")]
fn compressing(bencher: Bencher<'_, '_>) {
    let (layout, mut error, mut delta) = (layout(), values(1), values(2));
    bencher.counter(bytes(12)).bench_local(|| {
        // `delta` now holds the next error feedback. The old one serves as the next
        // pseudo-gradient.
        std::mem::swap(&mut error, &mut delta);
        compress(&layout, &Compression::default(), &error, &mut delta)
    });
}

#[divan::bench]
fn check_one(bencher: Bencher<'_, '_>) {
    let body = bodies(1).remove(0);
    bencher
        .counter(kept(&[read(&body)]))
        .bench_local(|| read(black_box(&body)));
}

#[divan::bench(args = [Rule::MeanOfSenders, Rule::MeanOfAll, Rule::RootOfSenders])]
fn outer_step_alone(bencher: Bencher<'_, '_>, rule: Rule) {
    let (layout, silent, mut theta) = (layout(), silent(), values(0));
    bencher
        .counter(bytes(8))
        .bench_local(|| apply(&layout, &mut theta, &step(&silent, rule)));
}

#[divan::bench(args = [Rule::MeanOfSenders, Rule::MeanOfAll, Rule::RootOfSenders])]
fn apply_all(bencher: Bencher<'_, '_>, rule: Rule) {
    let contributions: Vec<_> = bodies(PEERS).iter().map(|body| read(body)).collect();
    let (layout, mut theta) = (layout(), values(0));
    let bencher = bencher.counter(kept(&contributions)).counter(bytes(8));
    bencher.bench_local(|| apply(&layout, &mut theta, &step(&contributions, rule)));
}

#[divan::bench]
fn apply_all_and_outline(bencher: Bencher<'_, '_>) {
    let contributions: Vec<_> = bodies(PEERS).iter().map(|body| read(body)).collect();
    let (layout, mut theta) = (layout(), values(0));
    bencher.counter(kept(&contributions)).bench_local(|| {
        apply_and_outline(
            &layout,
            &mut theta,
            &step(&contributions, Rule::MeanOfSenders),
        )
    });
}

/// Independent contributions, and one that everybody copied: which gives the most to count.
#[divan::bench(args = [false, true])]
fn compare_all(bencher: Bencher<'_, '_>, copies: bool) {
    let bodies = bodies(if copies { 1 } else { PEERS });
    let contributions: Vec<_> = bodies.iter().map(|body| read(body)).collect();
    let all: Vec<&Contribution> = contributions.iter().cycle().take(PEERS).collect();
    let layout = layout();
    bencher
        .counter(ItemsCount::new(
            all.iter().map(|one| one.values()).sum::<usize>(),
        ))
        .bench_local(|| Overlaps::of(&layout, &all));
}

#[divan::bench]
fn state_root(bencher: Bencher<'_, '_>) {
    let (layout, theta) = (layout(), values(0));
    bencher
        .counter(bytes(4))
        .bench_local(|| state::root(&layout, &theta));
}
