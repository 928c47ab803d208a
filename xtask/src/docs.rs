//! `cargo xtask docs` and `cargo xtask bless`: pages that are generated or checked.

use crate::Outcome;
use crate::step::{cargo, command, installed, run as start};

/// Tests that compare generated text with files in the repository. `WEAL_BLESS=1` makes them
/// rewrite the files.
const GENERATED: [&[&str]; 3] = [
    &["--package", "weal", "--test", "reference"],
    &[
        "--package",
        "weal-proto",
        "--test",
        "messages",
        "conformance",
    ],
    &["--package", "weal-kernels", "--lib", "conformance"],
];

/// Checks the reference pages and the links, builds the API documentation, and builds the book if
/// mdBook is installed.
pub(crate) fn run() -> Outcome {
    start(cargo(["test", "--quiet", "--locked"]).args(GENERATED[0]))?;
    crate::tidy::links()?;
    rustdoc()?;
    if installed("mdbook", &["--version"]) {
        start(command("mdbook").args(["build", "docs"]))?;
    } else {
        eprintln!("mdbook is not installed: the book is readable as it is, from docs/SUMMARY.md");
    }
    Ok(())
}

/// Builds the API documentation of our crates; a warning is an error.
pub(crate) fn rustdoc() -> Outcome {
    let arguments = ["doc", "--quiet", "--locked", "--workspace", "--no-deps"];
    start(cargo(arguments).env("RUSTDOCFLAGS", "--deny warnings"))
}

/// Rewrites every generated file. Look at the difference before you commit it.
pub(crate) fn bless() -> Outcome {
    for test in GENERATED {
        start(cargo(["test", "--quiet"]).args(test).env("WEAL_BLESS", "1"))?;
    }
    start(command("git").args(["diff", "--stat"]))
}
