//! `cargo xtask platforms`: compiles the workspace for systems that it is not tested on, as far as
//! that is possible on Linux.
//!
//! `cargo check` links nothing, so neither a linker nor a system's SDK is needed. What third-party
//! crates have written in C, and their Windows resources, are not compiled: the programs in
//! `xtask/stand-ins` make empty objects of them.

use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::step::{Steps, cargo, command, output, run as start};

/// Windows and macOS, with all that `cargo check` needs of them in Rust's standard library.
const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];

/// Checks all crates and their tests for each target; a warning is an error.
pub(crate) fn run() -> Outcome {
    if !cfg!(target_os = "linux") {
        return Err("this check runs on Linux only".into());
    }
    let missing: Vec<_> = TARGETS
        .into_iter()
        .filter(|target| !has_library(target))
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Err(format!(
            "Rust's standard library is not installed for {missing}\n\
             hint: rustup target add {missing}"
        ));
    }
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let mut steps = Steps::default();
    for target in TARGETS {
        steps.run(target, || check(target, &here.join("xtask/stand-ins")))?;
    }
    steps.print_times();
    Ok(())
}

/// Whether the standard library for this target is installed.
fn has_library(target: &str) -> bool {
    let mut rustc = command("rustc");
    let folder = output(rustc.args(["--print", "target-libdir", "--target", target]));
    folder.is_ok_and(|folder| PathBuf::from(folder.trim()).is_dir())
}

/// `folder` holds the stand-ins for compilers.
fn check(target: &str, folder: &Path) -> Outcome {
    let arguments = [
        "check",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
    ];
    let name = target.replace('-', "_");
    let compiler = folder.join("stand-in-cc");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = [folder.to_owned()].into_iter();
    let programs = std::env::join_paths(programs.chain(std::env::split_paths(&path)))
        .map_err(|error| error.to_string())?;
    start(
        cargo(arguments)
            .args(["--target", target])
            .env("PATH", programs)
            .env(format!("CC_{name}"), &compiler)
            .env(format!("CXX_{name}"), &compiler)
            .env(format!("AR_{name}"), "ar")
            // Any folder keeps the crate `cc` from asking Xcode for one.
            .env("SDKROOT", folder)
            .env(
                format!("CARGO_TARGET_{}_RUSTFLAGS", name.to_uppercase()),
                "--deny warnings",
            ),
    )
}
