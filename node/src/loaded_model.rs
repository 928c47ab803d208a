//! A model to generate with, to measure or to export: the newest weights of a data folder, or a
//! Hugging Face folder.

use std::path::Path;
use std::sync::Arc;

use weal_proto::BlobHash;
use weal_proto::manifest::{Manifest, Tokeniser as TokeniserSource};
use weal_trainer::{
    Checkpoint, FileProgress, ModelSpec, ModelWeights, Tokeniser, TokeniserSettings,
};

use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::model_folder::model_folder;
use crate::plan::{Plan, special_tokens};
use crate::proven_weights::compare;
use crate::provenance::Provenance;
use crate::store::blobs;
use crate::store::weights::WeightFiles;

/// A model with its weights and its tokeniser.
#[derive(Debug)]
pub struct LoadedModel {
    /// The run's name, or the folder's.
    pub name: String,
    /// Where the weights come from, for people.
    pub origin: String,
    /// Sizes of the model.
    pub model: ModelSpec,
    /// The weights, flat, in the layout's order.
    pub weights: Arc<ModelWeights>,
    /// Turns text into the model's tokens.
    pub tokeniser: Tokeniser,
    /// The run that trained the weights, if they are a data folder's.
    pub provenance: Option<Provenance>,
}

impl LoadedModel {
    /// The newest weights of a data folder, or those at the start of `round`. A node may be running
    /// in the folder.
    ///
    /// # Errors
    /// When the folder holds no run, or does not have these weights.
    pub fn folder(folder: &Folder, round: Option<u64>) -> Result<Self> {
        let place = folder.path().display();
        let missing = |what: String| {
            Error::folder(format!("{place}: no {what} in this data folder"))
                .with_hint("choose a node's data folder with --dir")
        };
        let manifest = folder.manifest()?.ok_or_else(|| missing("run".into()))?;
        let plan = Plan::new(&manifest)?;
        let files = WeightFiles::new(folder.weights());
        let kept = files.rounds()?;
        let chosen = match round {
            None => kept
                .last()
                .copied()
                .ok_or_else(|| missing("weights".into()))?,
            Some(round) => {
                let listed = kept
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                let found = kept.iter().find(|kept| kept.0 == round).copied();
                found.ok_or_else(|| {
                    missing(format!(
                        "weights of round {round} (it has those of {listed})"
                    ))
                })?
            }
        };
        let weights = files.load(&plan.layout, chosen)?;
        let compared = compare(folder, &manifest, &files, &weights)?;
        let tokeniser = tokeniser(folder, &manifest)?;
        let provenance = Provenance {
            run: manifest.run(),
            round: chosen,
            root: weights.root,
            certificate: compared.certificate().cloned(),
        };
        Ok(Self {
            name: manifest.name.clone(),
            origin: format!("weights at the start of round {chosen} ({compared})"),
            model: plan.model,
            weights: weights.values,
            tokeniser,
            provenance: Some(provenance),
        })
    }

    /// The model in a Hugging Face folder.
    ///
    /// # Errors
    /// When the folder holds no model, or one of an unsupported architecture.
    pub fn checkpoint(folder: &Path, progress: FileProgress) -> Result<Self> {
        let folder = &model_folder(folder)?;
        let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Data, error);
        let Checkpoint {
            model,
            weights,
            tokeniser,
            notes,
        } = Checkpoint::read(folder, None, progress).map_err(failed)?;
        for note in notes {
            tracing::warn!("{}: {note}", folder.display());
        }
        let tokeniser = match tokeniser {
            Some(tokeniser) => tokeniser,
            None if model.vocabulary == 256 => Tokeniser::Bytes,
            None => {
                return Err(Error::data(format!(
                    "{}: this folder has no tokenizer.json",
                    folder.display()
                )));
            }
        };
        let name = folder.file_name().map_or_else(
            || "model".into(),
            |name| name.to_string_lossy().into_owned(),
        );
        Ok(Self {
            name,
            origin: folder.display().to_string(),
            model,
            weights: Arc::new(weights.into()),
            tokeniser,
            provenance: None,
        })
    }
}

/// The run's tokeniser. It is read without the database, which a running node has locked.
fn tokeniser(folder: &Folder, manifest: &Manifest) -> Result<Tokeniser> {
    let read = |hash: &BlobHash| {
        let path = blobs::path(&folder.blobs(), hash);
        let bytes =
            std::fs::read(&path).map_err(Error::storage("cannot read the tokeniser", &path))?;
        Ok::<_, Error>((path, bytes))
    };
    match &manifest.tokeniser {
        TokeniserSource::Bytes => Ok(Tokeniser::Bytes),
        TokeniserSource::File {
            hash,
            special,
            settings,
            ..
        } => {
            let (path, json) = read(hash)?;
            let tokeniser = Tokeniser::from_bytes(&json)
                .map_err(|error| Error::corrupt(&path, error))?
                .with_special(special_tokens(special));
            let Some(settings) = settings else {
                return Ok(tokeniser);
            };
            let (path, settings) = read(&settings.hash)?;
            let settings = TokeniserSettings::from_bytes(&settings)
                .map_err(|error| Error::corrupt(&path, error))?;
            Ok(tokeniser.with_settings(settings))
        }
    }
}
