//! What the program does before and after a command: signals, panics, parsing, errors.

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::Error as ClapError;
use clap::{Command, CommandFactory, FromArgMatches};
use color_eyre::config::{HookBuilder, Theme};

use super::Cli;
use crate::error::{ErrorKind, Result};
use crate::signals;
use crate::terminal::{colours, say, unwritable};

/// Runs the command that the command line asks for, and reports its error.
pub fn main() -> ExitCode {
    weal_kernels::quiet_drivers();
    signals::install();
    report_panics();
    raise_file_limit();
    let code = match parse_and_run() {
        Ok(code) => code,
        Err(error) => {
            if error.kind() != ErrorKind::OutputClosed {
                say!("{}", error.report());
            }
            ExitCode::from(&error)
        }
    };
    // Work that was given up may be half written.
    weal_files::remove_temporaries();
    code
}

fn parse_and_run() -> Result<ExitCode> {
    match parse() {
        Ok(cli) => cli.run(),
        Err(text) => show(&text),
    }
}

/// Parses the command line and the environment. A variable that is set to nothing is one that is
/// not set: that is how files of variables switch a line off.
fn parse() -> Result<Cli, ClapError> {
    let mut matches = without_empty_variables(Cli::command()).try_get_matches()?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn without_empty_variables(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let is_empty = arg
                .get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.to_str().is_some_and(|value| value.trim().is_empty()));
            if is_empty {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty_variables)
}

/// Prints help, the version, or what is wrong with the command line.
fn show(text: &ClapError) -> Result<ExitCode> {
    match text.print() {
        Err(error) if !text.use_stderr() => Err(unwritable(error)),
        _ => Ok(ExitCode::from(text.exit_code().try_into().unwrap_or(2))),
    }
}

/// Reports panics without colours where they are not wanted, and without a second panic where
/// standard error cannot be written.
fn report_panics() {
    let theme = if colours() {
        Theme::dark()
    } else {
        Theme::new()
    };
    match HookBuilder::default().theme(theme).try_into_hooks() {
        Ok((hook, _)) => std::panic::set_hook(Box::new(move |panic| {
            say!("{}", hook.panic_report(panic));
        })),
        Err(error) => say!("warning: panics will be reported without details: {error}"),
    }
}

/// Raises the limit on open files as far as the system lets us. A node keeps a file open for each
/// shard of its data and for each peer; the usual limit of 1,024 is there for programs that use an
/// old system call, which this one does not.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current == maximum {
            return;
        }
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        if setrlimit(Resource::Nofile, wanted).is_err() {
            // macOS has a limit of its own below an unlimited maximum.
            let _ = setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: Some(10_240),
                    maximum,
                },
            );
        }
    }
}
