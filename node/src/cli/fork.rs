//! `weal fork`: a new run that continues another from weights that it decided.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weal_trainer::{Export, FloatFormat};

use super::args::{NewRunArgs, absolute};
use super::import::LEARNING_RATE;
use super::new::write;
use super::progress::ByteBar;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::loaded_model::LoadedModel;
use crate::new_run;

/// Name of the folder with the ancestor's model, in the new run's folder.
const ANCESTOR: &str = "ancestor";

#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    /// Data folder of the run to continue.
    from: PathBuf,
    /// Round from whose starting weights to continue. By default the newest round in the folder.
    #[arg(long)]
    round: Option<u64>,
    #[command(flatten)]
    run: NewRunArgs,
}

impl ForkArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let folder = self.run.folder.folder()?;
        new_run::expect_none(&folder)?;
        let loaded = LoadedModel::folder(&Folder::new(self.from), self.round)?;
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Data);
        let model = absolute(&folder.path().join(ANCESTOR))?;
        let labels = loaded
            .provenance
            .as_ref()
            .map(|origin| origin.labels(FloatFormat::F32));
        std::fs::create_dir_all(folder.path())
            .map_err(Error::storage("cannot make the folder", folder.path()))?;
        let bar = ByteBar::new("writing");
        Export::new(&loaded.model, &loaded.weights, &loaded.tokeniser)
            .map_err(failed)?
            .with_labels(labels.unwrap_or_default())
            .write_folder(&model, FloatFormat::F32, &mut bar.callback())
            .map_err(failed)?;
        bar.clear();
        let mut file = self.run.run_file()?;
        file.model.checkpoint = Some(model);
        file.inner.learning_rate = LEARNING_RATE;
        write(&folder, &file)
    }
}
