//! The `weal` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use weal::cli::Cli;

fn main() -> ExitCode {
    if let Err(error) = color_eyre::install() {
        eprintln!("warning: panics will be reported without details: {error}");
    }
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::from(&error)
        }
    }
}
