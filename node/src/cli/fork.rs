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
    /// Data folder of the run to continue, or the folder and a round: `folder@7`.
    #[arg(value_name = "FOLDER[@ROUND]")]
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
        let (from, round) = self.ancestor()?;
        let loaded = LoadedModel::folder(&Folder::new(from), round)?;
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

    /// The data folder and the round to continue.
    fn ancestor(&self) -> Result<(PathBuf, Option<u64>)> {
        let named = || {
            let (folder, round) = self.from.to_str()?.rsplit_once('@')?;
            Some((PathBuf::from(folder), round.parse().ok()?))
        };
        if self.from.exists() {
            return Ok((self.from.clone(), self.round));
        }
        match (named(), self.round) {
            (Some((_, named)), Some(round)) if named != round => Err(Error::usage(format!(
                "round {named} and --round {round} are two rounds; name one"
            ))),
            (Some((folder, named)), _) => Ok((folder, Some(named))),
            (None, round) => Ok((self.from.clone(), round)),
        }
    }
}
