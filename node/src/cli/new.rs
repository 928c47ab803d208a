//! `weal new`: writes a run for its founder to edit.

use std::process::ExitCode;

use clap::Args;
use weal_proto::PeerId;

use super::args::{NewRunArgs, PresetParser};
use crate::doctor::misfit;
use crate::error::Result;
use crate::folder::Folder;
use crate::new_run::{self, NewRun, RunFile};
use crate::settings::Settings;
use crate::terminal::{print_line, say};

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
        write(&self.run.folder.folder()?, &file)
    }
}

/// Checks a run and writes it into a folder. A mistake is reported now, not at the first start.
pub(super) fn write(folder: &Folder, file: &RunFile) -> Result<ExitCode> {
    new_run::expect_none(folder)?;
    // A mistake leaves nothing behind, not even a key.
    let founder = match folder.existing_key()? {
        Some(key) => key.peer(),
        None => PeerId::from([0; 32]),
    };
    let manifest = NewRun::preview(
        file,
        folder.path(),
        founder,
        &folder.path().join("run.toml"),
    )?;
    let key = folder.key()?.peer();
    let path = new_run::write_file(folder, file)?;
    let dir = folder.path().display();
    let model = &manifest.model;
    print_line!(
        "{} parameters, {} layers, context {}",
        model.parameters(),
        model.layers,
        model.context
    )?;
    print_line!(
        "wrote {}\nedit it, then start the run with: weal run --dir {dir}",
        path.display()
    )?;
    print_line!("founder (this machine's key): {key}")?;
    if let Some(why) = misfit(&manifest, &Settings::read(folder)?)? {
        say!("warning: {why}");
    }
    Ok(ExitCode::SUCCESS)
}
