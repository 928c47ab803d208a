//! `weal key`: prints the public key of a data folder.

use std::process::ExitCode;

use clap::Args;

use super::args::FolderArgs;
use crate::error::Result;
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

impl KeyArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        print_line!("{}", self.folder.folder()?.key()?.peer())?;
        Ok(ExitCode::SUCCESS)
    }
}
