//! `weal new`: writes a run for its founder to edit.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::FolderArgs;
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::new_run::{self, RunFile};

#[derive(Debug, Args)]
pub struct NewArgs {
    /// What people will call the run.
    #[arg(long, default_value = "a commonweal")]
    name: String,
    /// The model: nano, micro, tiny, small, medium or 1b.
    #[arg(long, default_value = "nano")]
    preset: String,
    /// Text files and folders to train on, or a folder that `weal data prepare` made; without them,
    /// the built-in generator's text.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// A tokenizer.json; without it, one token a byte.
    #[arg(long, value_name = "PATH")]
    tokeniser: Option<PathBuf>,
    #[command(flatten)]
    folder: FolderArgs,
}

impl NewArgs {
    pub fn run(self) -> Result<ExitCode> {
        let mut file = RunFile {
            name: self.name,
            seed: rand::random::<u32>().into(),
            ..RunFile::default()
        };
        file.model.preset = self.preset;
        file.data.files = self.data.iter().map(absolute).collect::<Result<_>>()?;
        file.tokeniser.file = self.tokeniser.as_ref().map(absolute).transpose()?;
        write(&self.folder.folder(), &file)
    }
}

/// Writes a run into a folder, once it is known to be sound.
pub(super) fn write(folder: &Folder, file: &RunFile) -> Result<ExitCode> {
    let key = folder.key()?.peer();
    // Whatever is wrong with it is said now, not at the first start.
    let manifest =
        new_run::NewRun::preview(file, folder.path(), key, &folder.path().join("run.toml"))?;
    let path = new_run::write_file(folder, file)?;
    let dir = folder.path().display();
    let model = &manifest.model;
    println!(
        "{} parameters, {} layers, context {}",
        model.parameters(),
        model.layers,
        model.context
    );
    println!(
        "wrote {}\nedit it, then start the run with: weal run --dir {dir}",
        path.display()
    );
    println!("this machine's key, its founder: {key}");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn absolute(path: &PathBuf) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::data(format!("{}: {error}", path.display())))
}
