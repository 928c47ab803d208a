//! `cargo xtask lint`: everything that can be checked without running the program.

use crate::step::{Steps, cargo, command, installed, missing, run as start};
use crate::{Outcome, docs, features, tidy};

type Step = fn() -> Outcome;

const STEPS: [(&str, Step); 7] = [
    ("fmt", fmt),
    ("tidy", tidy::run),
    ("spelling", spelling),
    ("features", features::check),
    ("deny", deny),
    ("clippy", clippy),
    ("doc", docs::rustdoc),
];

/// Runs the steps with these names, or all of them.
pub(crate) fn run(names: &[String]) -> Outcome {
    let known = |name: &String| STEPS.iter().any(|(step, _)| step == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let steps: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "lint has no step {unknown:?}\nhint: the steps are {}",
            steps.join(", ")
        ));
    }
    let mut steps = Steps::default();
    run_in(&mut steps, names)
}

/// Runs the steps with these names, or all of them, as part of `steps`. A step that fails does not
/// keep the others from running.
pub(crate) fn run_in(steps: &mut Steps, names: &[String]) -> Outcome {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut failures = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        failures.extend(steps.run(name, step).err());
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\nerror: "))
    }
}

fn fmt() -> Outcome {
    start(&mut cargo(["fmt", "--all", "--check"]))
}

/// With the features of GPU backends that compile without a vendor's toolkit: the default ones are
/// compiled by the tests.
fn clippy() -> Outcome {
    let arguments = [
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--features",
        "weal/vulkan,weal/metal",
    ];
    start(cargo(arguments).args(["--", "--deny", "warnings"]))
}

fn spelling() -> Outcome {
    if !installed("codespell", &["--version"]) {
        return missing(
            "codespell",
            "apt-get install codespell, or pip install codespell",
        );
    }
    start(&mut command("codespell"))
}

fn deny() -> Outcome {
    if !installed("cargo-deny", &["--version"]) {
        return missing("cargo-deny", "cargo install --locked cargo-deny");
    }
    let arguments = ["deny", "--locked", "check", "--hide-inclusion-graph"];
    start(cargo(arguments).args(["licenses", "bans", "sources"]))
}
