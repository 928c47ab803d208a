//! Commands of the program that end by themselves.

use std::path::Path;
use std::process::{Command, Output};

use crate::net::program;

/// What a command printed, and its exit code.
///
/// # Panics
/// When the program cannot be started.
pub fn run(args: &[&str]) -> Output {
    let output = Command::new(program()).args(args).output();
    output.expect("a program that starts")
}

/// What a command printed, which must succeed.
///
/// # Panics
/// When it fails, with its errors.
pub fn weal(args: &[&str]) -> String {
    let output = run(args);
    assert!(
        output.status.success(),
        "weal {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A path as an argument.
///
/// # Panics
/// When it is not UTF-8.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
