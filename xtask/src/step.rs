//! Runs programs, and times named steps.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Variables that `cargo run` sets for this program. Build scripts that watch them would otherwise
/// run again whenever a command is started from here and not from a shell.
const SET_BY_CARGO_RUN: [&str; 6] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
];

/// Makes the repository's root the current folder.
pub(crate) fn enter_repository() -> Outcome {
    let ours = std::env::var_os("CARGO_MANIFEST_DIR");
    let ours = ours.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&ours).parent();
    let root = root.ok_or("xtask has no parent folder")?;
    std::env::set_current_dir(root).map_err(|error| format!("{}: {error}", root.display()))
}

/// A command without the variables that `cargo run` set for this program.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || SET_BY_CARGO_RUN.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    command
}

/// `cargo` with these arguments.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = command(program);
    cargo.args(arguments);
    cargo
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = shown(command);
    let status = command.status();
    let status = status.map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` failed ({status})"))
    }
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let shown = shown(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("`{shown}` failed ({})", output.status))
    }
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Whether a program can be started with these arguments.
pub(crate) fn installed(program: &str, arguments: &[&str]) -> bool {
    let quiet = |mut command: Command| {
        let command = command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    quiet(command(program)).is_ok_and(|status| status.success())
}

/// Whether nothing may be skipped, as in the gate.
pub(crate) fn all_required() -> bool {
    std::env::var_os("WEAL_REQUIRE_ALL") == Some(OsString::from("1"))
}

/// Says that a tool is missing; an error if nothing may be skipped.
pub(crate) fn missing(tool: &str, hint: &str) -> Outcome {
    if all_required() {
        return Err(format!("{tool} is not installed\nhint: {hint}"));
    }
    eprintln!("SKIPPED: {tool} is not installed\nhint: {hint}");
    Ok(())
}

/// Runs named steps, and remembers how long each took.
#[derive(Default)]
pub(crate) struct Steps {
    times: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step under its name.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Outcome) -> Outcome {
        println!("\n== {name}");
        let started = Instant::now();
        let result = step();
        self.times.push((name.to_owned(), started.elapsed()));
        result.map_err(|error| format!("{name}: {error}"))
    }

    /// Prints the time of each step.
    pub(crate) fn print_times(&self) {
        println!("\n== time of each step");
        for (name, time) in &self.times {
            println!("{:5} s  {name}", time.as_secs());
        }
    }
}
