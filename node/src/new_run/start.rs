//! What a run starts from: a preset or a checkpoint, and a tokeniser.

use std::path::Path;

use weal_proto::Outline;
use weal_proto::manifest::{Initial, Tokeniser};
use weal_trainer::{Checkpoint, ModelSpec};

use super::prepared::Prepared;
use crate::data::{self, TextFile};
use crate::error::{Error, ErrorKind, Result};
use crate::store::weights::to_bytes;

/// What a run starts from, before its tokeniser is chosen.
pub(super) struct Start {
    spec: ModelSpec,
    initial: Initial,
    /// The `tokenizer.json` of the checkpoint.
    tokeniser: Option<Vec<u8>>,
    end_of_text: Option<u32>,
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
            tokeniser: None,
            end_of_text: None,
        })
    }

    pub(super) fn checkpoint(checkpoint: Checkpoint, files: &mut Vec<Vec<u8>>) -> Self {
        let Checkpoint {
            model,
            weights,
            tokeniser,
            end_of_text,
        } = checkpoint;
        let bytes = to_bytes(&weights);
        drop(weights);
        let initial = Initial::Weights(Outline::of(&bytes).hash());
        files.push(bytes);
        Self {
            spec: model,
            initial,
            tokeniser,
            end_of_text,
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
    ) -> Result<(ModelSpec, Initial, Tokeniser)> {
        let Self {
            mut spec,
            initial,
            tokeniser,
            end_of_text,
        } = self;
        let mut json = tokeniser;
        if let Some(path) = file {
            let [TextFile { text, .. }] = take_one(data::read(&[path.to_owned()])?)?;
            json = Some(text);
        }
        if let Some(prepared) = prepared {
            json = prepared.tokeniser(json)?;
        }
        let is_new = matches!(initial, Initial::Seed(_));
        let Some(json) = json else {
            if !is_new && spec.vocabulary != 256 {
                return Err(Error::data("the model's folder has no tokenizer.json")
                    .with_hint("give one with --tokeniser"));
            }
            return Ok((spec, initial, Tokeniser::Bytes));
        };
        let known = weal_trainer::Tokeniser::from_bytes(&json)
            .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
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
        let of_tokens = prepared.and_then(Prepared::end_of_text);
        let end_of_text = of_tokens
            .or(end_of_text)
            .or_else(|| file.and_then(|path| known.end_of_text(path)));
        let hash = Outline::of(&json).hash();
        let tokeniser = Tokeniser::File {
            hash,
            bytes: json.len() as u64,
            end_of_text,
        };
        files.push(json);
        Ok((spec, initial, tokeniser))
    }
}

/// The seed of the initial weights.
pub(super) fn initial_seed(number: u64) -> [u8; 32] {
    blake3::derive_key("commonweal initial weights v1", &number.to_le_bytes())
}

fn take_one(files: Vec<TextFile>) -> Result<[TextFile; 1]> {
    files
        .try_into()
        .map_err(|_| Error::data("the tokeniser must be one file, not a folder"))
}
