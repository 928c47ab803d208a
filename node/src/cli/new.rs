//! `weal new`: writes a run for its founder to edit.

use std::process::ExitCode;

use clap::Args;

use super::args::{NewRunArgs, PresetParser};
use crate::error::Result;
use crate::folder::Folder;
use crate::new_run::{self, NewRun, RunFile};

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    #[arg(long, help = new_run::flag_help("model.preset"), default_value = "nano",
        value_parser = PresetParser, hide_possible_values = true)]
    preset: String,
    #[command(flatten)]
    run: NewRunArgs,
}

impl NewArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let mut file = self.run.run_file()?;
        file.seed = rand::random::<u32>().into();
        file.model.preset = self.preset;
        write(&self.run.folder.folder(), &file)
    }
}

/// Checks a run and writes it into a folder. A mistake is reported now, not at the first start.
pub(super) fn write(folder: &Folder, file: &RunFile) -> Result<ExitCode> {
    let key = folder.key()?.peer();
    let manifest = NewRun::preview(file, folder.path(), key, &folder.path().join("run.toml"))?;
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
    println!("founder (this machine's key): {key}");
    Ok(ExitCode::SUCCESS)
}
