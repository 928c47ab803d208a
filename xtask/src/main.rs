//! The developer's commands. `cargo xtask` lists them; `.ci/run` calls the same steps.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it
#![forbid(unsafe_code)]

mod docs;
mod features;
mod fuzz;
mod gate;
mod json;
mod lint;
mod metadata;
mod platforms;
mod step;
mod suites;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
The developer's commands

Usage: cargo xtask COMMAND

Commands:
  lint [STEP]...          Check format, lints, docs, dependencies, style and spelling
  test [ARGUMENTS]...     Run the fast tests with cargo-nextest; pass ARGUMENTS on to it
  slow [ARGUMENTS]...     Run the slow tests with cargo-nextest
  all                     Run every test, as `cargo test --workspace` does, and count them
  full                    Run every test in full: all seeds, attacks and pairs of homes. It takes hours
  gate                    Do everything that `.ci/run` does after installing packages
  platforms               Check that everything compiles for Windows and macOS
  fuzz TARGET [SECONDS]   Fuzz one decoder; without TARGET, list the targets
  docs                    Check the reference and the links, build the API documentation
  bless                   Rewrite the reference pages, snapshots and conformance files
  hack                    Rewrite workspace-hack/Cargo.toml

Steps of lint: fmt tidy clippy doc spelling features deny
";

/// What a command returns: an error is a message for the developer, empty if it is printed already.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = step::enter_repository().and_then(|()| match command.as_str() {
        "lint" => lint::run(&rest),
        "test" => suites::fast(&rest),
        "slow" => suites::slow(&rest),
        "all" => suites::all(false),
        "full" => suites::all(true),
        "gate" => gate::run(),
        "platforms" => platforms::run(),
        "fuzz" => fuzz::run(&rest),
        "docs" => docs::run(),
        "bless" => docs::bless(),
        "hack" => features::generate(),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!(
            "unknown command {other:?}\nhint: run `cargo xtask` for the list"
        )),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("error: {message}");
            }
            ExitCode::FAILURE
        }
    }
}
