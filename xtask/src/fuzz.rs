//! `cargo xtask fuzz TARGET`: runs one target of libFuzzer with good seeds.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::step::{cargo, command, installed, run as start};

/// Crates with a folder `fuzz`, each a workspace of its own.
const CRATES: [&str; 3] = ["proto", "kernels", "network"];

/// A longer input is no longer interesting, bytes.
const MAX_INPUT: u32 = 16 * 1024;
/// An allocation above this is a finding, MiB.
const MAX_ALLOCATION: u32 = 64;

struct Target {
    name: String,
    krate: &'static str,
}

/// Fuzzes the target for some seconds (60 unless given), or lists the targets.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let targets = targets()?;
    let Some(name) = arguments.first() else {
        for Target { name, krate } in targets {
            println!("{name:20} ({krate}/fuzz)");
        }
        return Ok(());
    };
    let target = targets.into_iter().find(|target| target.name == *name);
    let target = target.ok_or_else(|| {
        format!("there is no target {name:?}\nhint: `cargo xtask fuzz` lists the targets")
    })?;
    let seconds = match arguments.get(1) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("not a number of seconds: {text:?}"))?,
        None => 60,
    };
    if !installed("cargo-fuzz", &["--version"]) {
        return Err("cargo-fuzz is not installed\nhint: cargo install --locked cargo-fuzz".into());
    }
    write_seeds(&target)?;
    fuzz(&target, seconds)
}

fn targets() -> Outcome<Vec<Target>> {
    let mut targets = Vec::new();
    for krate in CRATES {
        let folder = PathBuf::from(krate).join("fuzz/fuzz_targets");
        let failed = |error| format!("{}: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            targets.push(Target {
                name: name.into_owned(),
                krate,
            });
        }
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(targets)
}

/// Writes valid inputs to begin with, if the crate has an example `seeds`.
fn write_seeds(target: &Target) -> Outcome {
    let folder = Path::new(target.krate).join("fuzz");
    if !folder.join("examples/seeds.rs").exists() {
        return Ok(());
    }
    let corpus = match target.krate {
        "kernels" => folder.join("corpus").join(&target.name),
        _ => folder.join("corpus"),
    };
    start(
        cargo(["run", "--quiet", "--example", "seeds", "--manifest-path"])
            .arg(folder.join("Cargo.toml"))
            .arg("--")
            .arg(corpus),
    )
}

/// libFuzzer needs unstable flags; `RUSTC_BOOTSTRAP=1` lets the pinned compiler take them.
fn fuzz(target: &Target, seconds: u64) -> Outcome {
    start(
        command("cargo")
            .current_dir(Path::new(target.krate))
            .args(["fuzz", "run", &target.name, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={MAX_INPUT}"))
            .arg(format!("-malloc_limit_mb={MAX_ALLOCATION}"))
            .env("RUSTC_BOOTSTRAP", "1"),
    )
}
