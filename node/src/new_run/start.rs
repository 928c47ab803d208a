//! What a run starts from: a preset or a checkpoint, and a tokeniser.

use std::path::Path;

use weal_proto::Outline;
use weal_proto::manifest::{Ancestor, Initial, Tokeniser, TokeniserSettings};
use weal_trainer::{Checkpoint, ModelSpec};

use super::prepared::Prepared;
use crate::error::{Error, ErrorKind, Result};
use crate::notes::tell_notes;
use crate::plan::manifest_special_tokens;
use crate::store::weights::to_bytes;

/// What a run starts from, before its tokeniser is chosen.
pub(super) struct Start {
    spec: ModelSpec,
    initial: Initial,
    /// The run that trained the checkpoint, if it names one.
    ancestor: Option<Ancestor>,
    /// The checkpoint's tokeniser.
    tokeniser: Option<weal_trainer::Tokeniser>,
}

impl Start {
    pub(super) fn preset(name: &str, context: Option<usize>, seed: &[u8; 32]) -> Result<Self> {
        let preset = ModelSpec::preset(name)?;
        let spec = ModelSpec {
            context: context.unwrap_or(preset.context),
            ..preset
        };
        Ok(Self {
            spec,
            initial: Initial::Seed(*seed),
            ancestor: None,
            tokeniser: None,
        })
    }

    pub(super) fn checkpoint(
        checkpoint: Checkpoint,
        ancestor: Option<Ancestor>,
        files: &mut Vec<Vec<u8>>,
    ) -> Self {
        let Checkpoint {
            model,
            weights,
            tokeniser,
            notes,
        } = checkpoint;
        for note in notes {
            tracing::warn!("the imported model: {note}");
        }
        let bytes = to_bytes(&weights);
        drop(weights);
        let initial = Initial::Weights(Outline::of(&bytes).hash());
        files.push(bytes);
        Self {
            spec: model,
            initial,
            ancestor,
            tokeniser,
        }
    }

    /// Chooses the tokeniser: the one in `file`, or the one that made the prepared tokens, or the
    /// checkpoint's, or one token per byte. A model with random weights gets as many embeddings as
    /// the tokeniser has tokens.
    pub(super) fn with_tokeniser(
        self,
        file: Option<&Path>,
        prepared: Option<&Prepared>,
        files: &mut Vec<Vec<u8>>,
    ) -> Result<(ModelSpec, (Initial, Option<Ancestor>), Tokeniser)> {
        let Self {
            mut spec,
            initial,
            ancestor,
            mut tokeniser,
        } = self;
        let of_data = |error| Error::from(error).with_kind(ErrorKind::Data);
        if let Some(path) = file {
            tokeniser = Some(weal_trainer::Tokeniser::from_file(path).map_err(of_data)?);
        }
        if let Some(prepared) = prepared {
            tokeniser = Some(prepared.tokeniser(tokeniser)?);
        }
        let is_new = matches!(initial, Initial::Seed(_));
        let known = tokeniser.unwrap_or(weal_trainer::Tokeniser::Bytes);
        let weal_trainer::Tokeniser::File(json) = &known else {
            if !is_new && spec.vocabulary != 256 {
                return Err(Error::data("the model's folder has no tokenizer.json")
                    .with_hint("give one with --tokeniser"));
            }
            return Ok((spec, (initial, ancestor), Tokeniser::Bytes));
        };
        let vocabulary = known.vocabulary();
        if is_new {
            spec = spec.with_vocabulary(vocabulary);
        } else if vocabulary > spec.vocabulary {
            let rows = spec.vocabulary;
            return Err(Error::data(format!(
                "the tokeniser has {vocabulary} tokens, but the model only {rows} embeddings: \
                 they do not belong together"
            )));
        }
        tell_notes(&known);
        let settings = match json.settings() {
            settings if settings.is_empty() => None,
            settings => {
                let bytes = settings.to_bytes().map_err(of_data)?;
                let hash = Outline::of(&bytes).hash();
                let length = bytes.len() as u64;
                files.push(bytes);
                Some(TokeniserSettings {
                    hash,
                    bytes: length,
                })
            }
        };
        let json = json.json().to_vec();
        let tokeniser = Tokeniser::File {
            hash: Outline::of(&json).hash(),
            bytes: json.len() as u64,
            special: manifest_special_tokens(known.special()),
            settings,
        };
        files.push(json);
        Ok((spec, (initial, ancestor), tokeniser))
    }
}

/// The seed of the initial weights.
pub(super) fn initial_seed(number: u64) -> [u8; 32] {
    blake3::derive_key("commonweal initial weights v1", &number.to_le_bytes())
}
