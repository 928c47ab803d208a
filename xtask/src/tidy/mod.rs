//! `cargo xtask lint tidy`: rules that neither rustfmt nor clippy checks.

mod circles;
mod dependencies;
mod imports;
mod layers;
mod length;
mod lexer;
mod links;
mod markers;
mod prose;
mod source;

use std::fmt::{self, Display, Formatter};

use crate::Outcome;
use source::Source;

/// One broken rule, and where.
pub(crate) struct Finding {
    /// The file, relative to the repository.
    pub path: String,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong and how to put it right.
    pub message: String,
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.message),
            line => write!(out, "{}:{line}: {}", self.path, self.message),
        }
    }
}

type Check = fn(&[Source]) -> Outcome<Vec<Finding>>;

const CHECKS: [Check; 8] = [
    markers::check,
    length::check,
    imports::check,
    prose::check,
    links::check,
    dependencies::check,
    layers::check,
    circles::check,
];

/// Runs every check and prints all findings.
pub(crate) fn run() -> Outcome {
    let sources = source::all()?;
    length::warn(&sources);
    report(&CHECKS, &sources)
}

/// Checks the links of Markdown files alone.
pub(crate) fn links() -> Outcome {
    report(&[links::check], &source::all()?)
}

fn report(checks: &[Check], sources: &[Source]) -> Outcome {
    let mut findings = Vec::new();
    for check in checks {
        findings.extend(check(sources)?);
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings")),
    }
}
