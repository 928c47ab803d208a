//! `cargo xtask gate`: everything that must hold before a change lands.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::step::{Steps, cargo, command, output, run as start};
use crate::suites::Count;
use crate::{Outcome, lint, suites};

/// After that long for the tests and their build, as on a new machine, the roots are not computed
/// once more: the next run does it.
const LONG_ENOUGH: Duration = Duration::from_secs(50 * 60);
/// After that long for lints and builds, the tests that tune many kernels on a software GPU are
/// left to the next run: where nothing is built yet, nothing is tuned either, and that takes a
/// quarter of an hour.
const LONG_BUILD: Duration = Duration::from_secs(25 * 60);
/// Those tests.
const TUNE_KERNELS: [&str; 3] = [
    "blocks_of_queries_change_nothing_on_a_gpu",
    "a_gpu_learns_what_the_cpu_learns",
    "a_gpu_allocator_confirms_the_prediction",
];

/// Runs every step and prints their times. The last line says how many tests passed and failed, if
/// it came to that.
pub(crate) fn run() -> Outcome {
    let mut steps = Steps::default();
    let mut count = None;
    let result = checks(&mut steps, &mut count);
    steps.print_times();
    if let Err(message) = &result {
        println!("\n== FAILED: {message}");
    }
    if let Some(count) = count {
        println!("\n{count}");
    }
    // The message is printed already.
    result.map_err(|_| String::new())
}

fn checks(steps: &mut Steps, count: &mut Option<Count>) -> Outcome {
    let began = Instant::now();
    lint::run_in(steps, &[])?;
    let started = Instant::now();
    steps.run("build of the tests", suites::build)?;
    let count = count.insert(Count::default());
    let skipped: &[&str] = if began.elapsed() > LONG_BUILD {
        println!(
            "\n== skipped, for the build took long: {}",
            TUNE_KERNELS.join(", ")
        );
        &TUNE_KERNELS
    } else {
        &[]
    };
    steps.run("cargo test --workspace", || {
        suites::count_all(count, skipped, false)
    })?;
    if started.elapsed() > LONG_ENOUGH {
        println!("\n== skipped: roots with this processor's own instructions, for it took long");
        return Ok(());
    }
    steps.run("roots with this processor's own instructions", native)
}

/// Computes the large step's roots once more, compiled for all instructions of this processor. Each
/// kind of processor has a build folder of its own.
fn native() -> Outcome {
    let host = host()?;
    start(
        cargo(["test", "--quiet", "--locked", "--package", "weal-kernels"])
            .args(["--target", &host, "--test", "large"])
            .env("CARGO_TARGET_DIR", native_folder())
            .env("RUSTFLAGS", "-C target-cpu=native"),
    )
}

fn native_folder() -> PathBuf {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processor.lines().find(|line| line.starts_with("flags"));
    let mut hasher = DefaultHasher::new();
    flags.hash(&mut hasher);
    let cache =
        std::env::var_os("WEAL_CI_CACHE").map_or_else(|| PathBuf::from("target"), Into::into);
    cache.join(format!("native-{:016x}", hasher.finish()))
}

fn host() -> Outcome<String> {
    let version = output(command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc names no host")?.to_owned())
}
