//! How fast the kernels are, next to the memory they run on.
//!
//! `cargo bench -p weal-kernels -- [millions of parameters, 16] [contributions, 8]` prints, for each,
//! the best of five runs: milliseconds, and gigabytes a second of the f32 parameters that it serves
//! (4 bytes each, however many passes over how many buffers that takes).

use std::time::Instant;

use rayon::prelude::*;
use weal_kernels::{
    Compression, Contribution, Layout, Rule, TensorSpec, apply, apply_and_outline, compress, decode, state,
};

const RUNS: usize = 5;

/// The best time of a few runs, in seconds. `prepare` makes each run's input and isn't timed.
fn best<I, O>(mut prepare: impl FnMut() -> I, mut run: impl FnMut(I) -> O) -> f64 {
    let times = (0..RUNS).map(|_| {
        let input = prepare();
        let start = Instant::now();
        // What it returns is freed outside.
        let output = std::hint::black_box(run(input));
        let seconds = start.elapsed().as_secs_f64();
        drop(output);
        seconds
    });
    times.fold(f64::INFINITY, f64::min)
}

fn report(what: &str, seconds: f64, parameters: usize) {
    let gigabytes = 4.0 * parameters as f64 / 1e9;
    println!("{what:<28} {:>9.2} ms {:>8.2} GB/s", 1e3 * seconds, gigabytes / seconds);
}

/// Values with a few large ones, from a multiplicative generator.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut value = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let u = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        u * u * u / 64.0
    };
    (0..count).map(|_| value()).collect()
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let millions = numbers.next().unwrap_or(16).max(1);
    let peers = numbers.next().unwrap_or(8).max(1) as u64;

    let tensors = (0..millions).map(|i| TensorSpec::new(format!("t{i}"), [1000, 1000])).collect();
    let layout = Layout::new(tensors).expect("the tensors add up");
    let compression = Compression::default();
    let parameters = layout.parameters();
    let theta = values(0, parameters);
    println!("{millions} million parameters, {peers} contributions, {} threads", rayon::current_num_threads());

    let mut copy = vec![0.0; parameters];
    let copying = |()| {
        copy.par_chunks_mut(1 << 16).zip(theta.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from))
    };
    report("copy", best(|| (), copying), parameters);

    let (mut error, mut delta) = (values(1, parameters), values(2, parameters));
    let compressing = best(
        || (),
        |()| {
            let body = compress(&layout, &compression, &error, &mut delta).expect("finite");
            // What is left is the next error feedback; that this round's serves as the next pseudo-gradient is as good as any.
            std::mem::swap(&mut error, &mut delta);
            body
        },
    );
    report("compress", compressing, parameters);

    let contribute = |peer| compress(&layout, &compression, &theta, &mut values(peer, parameters)).expect("finite");
    let bodies: Vec<Vec<u8>> = (1..=peers).map(contribute).collect();
    let read = |body: &Vec<u8>| decode(&layout, &compression, body, body.len()).expect("canonical");
    report("decode one", best(|| &bodies[0], read), parameters);
    let contributions: Vec<Contribution> = bodies.iter().map(read).collect();

    let silent = vec![0.0; parameters];
    let silence = compress(&layout, &compression, &silent, &mut silent.clone()).expect("finite");
    let silent: Vec<Contribution> = bodies.iter().map(|_| read(&silence)).collect();
    let applied = |contributions: &[Contribution], rule| {
        let run = |mut theta: Vec<f32>| apply(&layout, &mut theta, contributions, 0.7, rule).map(|()| theta);
        best(|| theta.clone(), run)
    };
    for rule in [Rule::MeanOfSenders, Rule::MeanOfAll] {
        let (outer, all) = (applied(&silent, rule), applied(&contributions, rule));
        report(&format!("outer step alone {rule:?}"), outer, parameters);
        report(&format!("apply {rule:?}"), all, parameters);
        let values: usize = contributions.iter().map(Contribution::values).sum();
        println!(
            "{:<28} {:>9.2} G values/s, without the outer step {:.2}",
            "",
            values as f64 / all / 1e9,
            values as f64 / (all - outer) / 1e9
        );
    }
    let outlined = |mut theta: Vec<f32>| {
        apply_and_outline(&layout, &mut theta, &contributions, 0.7, Rule::MeanOfSenders).map(|outline| (theta, outline))
    };
    report("apply and state root", best(|| theta.clone(), outlined), parameters);
    report("state root", best(|| (), |()| state::root(&layout, &theta)), parameters);

    let values: usize = contributions.iter().map(Contribution::values).sum();
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("{:.3} bits a value sent, {:.0} times fewer bytes than f32", 8.0 * bytes as f64 / values as f64, {
        4.0 * parameters as f64 * peers as f64 / bytes as f64
    });
}
