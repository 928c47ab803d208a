//! `weal key`: shows the public key of a data folder.

use std::process::ExitCode;

use clap::Args;

use super::FolderArgs;
use crate::error::Result;

#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

impl KeyArgs {
    pub fn run(self) -> Result<ExitCode> {
        println!("{}", self.folder.folder().key()?.peer());
        Ok(ExitCode::SUCCESS)
    }
}
