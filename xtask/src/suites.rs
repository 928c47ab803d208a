//! The tests in tiers: fast and slow by cargo-nextest (`.config/nextest.toml`), all by
//! `cargo test`.

use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::Outcome;
use crate::step::{cargo, installed, run, shown};

const INSTALL: &str = "cargo install --locked cargo-nextest, or `cargo test --workspace`";

/// Runs the fast tests.
pub(crate) fn fast(arguments: &[String]) -> Outcome {
    nextest("default", arguments)
}

/// Runs the slow tests.
pub(crate) fn slow(arguments: &[String]) -> Outcome {
    nextest("slow", arguments)
}

fn nextest(profile: &str, arguments: &[String]) -> Outcome {
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return Err(format!("cargo-nextest is not installed\nhint: {INSTALL}"));
    }
    let fixed = ["nextest", "run", "--workspace", "--profile", profile];
    run(cargo(fixed).args(arguments))
}

/// Builds every test, as `cargo test --workspace` needs them.
pub(crate) fn build() -> Outcome {
    run(&mut cargo([
        "test",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-run",
    ]))
}

/// Runs every test, in short or in full, and prints how many passed and failed.
pub(crate) fn all(in_full: bool) -> Outcome {
    let mut count = Count::default();
    let result = count_all(&mut count, &[], in_full);
    println!("\n{count}");
    result
}

/// Runs every test but those named, documentation tests included, and counts them. A run that
/// ignored a test, or had none, is an error.
pub(crate) fn count_all(count: &mut Count, skipped: &[&str], in_full: bool) -> Outcome {
    let mut command = cargo(["test", "--locked", "--workspace", "--no-fail-fast"]);
    if !skipped.is_empty() {
        command.arg("--");
        command.args(skipped.iter().flat_map(|name| ["--skip", name]));
    }
    if in_full {
        command.env("WEAL_FULL", "1");
    }
    let name = shown(&command);
    let started = command.stdout(Stdio::piped()).spawn();
    let mut tests = started.map_err(|error| format!("cannot start `{name}`: {error}"))?;
    count.read_output(&mut tests)?;
    let status = tests.wait().map_err(|error| format!("`{name}`: {error}"))?;
    count.verdict()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{name}` failed ({status})"))
    }
}

/// The sums of the summaries that `cargo test` prints.
#[derive(Debug, Default)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Display for Count {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Count {
    /// Repeats what the tests print, and adds up their summaries.
    fn read_output(&mut self, tests: &mut Child) -> Outcome {
        let output = tests.stdout.take().ok_or("the tests have no output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(|error| format!("cannot read the tests' output: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.add(&line);
        }
        Ok(())
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix("test result: ") else {
            return;
        };
        let words: Vec<_> = summary.split_whitespace().collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed;" => self.passed += number,
                "failed;" => self.failed += number,
                "ignored;" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn verdict(&self) -> Outcome {
        if self.ignored > 0 {
            Err(format!("{} tests are ignored: none may be", self.ignored))
        } else if self.failed > 0 {
            Err(format!("{} tests failed", self.failed))
        } else if self.passed == 0 {
            Err("no test ran".to_owned())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: &[&str]) -> Count {
        let mut count = Count::default();
        lines.iter().for_each(|line| count.add(line));
        count
    }

    #[test]
    fn summaries_are_added_up() {
        let lines = [
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "test a ... ok",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out",
        ];
        let sum = count(&lines);
        assert_eq!((sum.passed, sum.failed, sum.ignored), (7, 2, 0));
        assert!(sum.verdict().is_err());
        assert!(count(&lines[..1]).verdict().is_ok());
    }

    #[test]
    fn ignored_or_absent_tests_are_an_error() {
        assert!(count(&[]).verdict().is_err());
        let ignored = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured";
        assert!(count(&[ignored]).verdict().is_err());
    }
}
