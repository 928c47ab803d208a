//! The weights and the text that a run starts from, read from the blobs that its manifest names.

use std::fs::File;
use std::path::{Path, PathBuf};

use weal_proto::BlobHash;
use weal_proto::manifest::{self, Data, Initial, Manifest, Tokeniser as TokeniserSource};
use weal_trainer::{Corpus, ModelWeights, TextSource, TokenPart, TokenShard, Tokeniser};

use super::named_blobs::INITIAL_WEIGHTS;
use super::run_plan::Plan;
use super::special::special_tokens;
use crate::error::{Error, Result};
use crate::store::blobs::Blobs;

/// The weights that a run starts from.
pub(crate) struct InitialWeights {
    /// The values, flat, in the layout's order. Imported ones are in their file, not in memory.
    pub values: ModelWeights,
    /// The file of imported ones: their little-endian values, and nothing else.
    pub file: Option<PathBuf>,
}

/// The weights that a run starts from. `file` finds a blob's file, whose content it has verified.
///
/// # Errors
/// When they come from an earlier training and are missing, damaged or of another model.
pub(crate) fn initial_weights(
    manifest: &Manifest,
    plan: &Plan,
    file: impl FnOnce(&BlobHash) -> Result<Option<PathBuf>>,
) -> Result<InitialWeights> {
    match &manifest.initial {
        Initial::Seed(seed) => Ok(InitialWeights {
            values: weal_trainer::initial_weights(&plan.model, seed)?.into(),
            file: None,
        }),
        Initial::Weights(hash) => {
            let path = file(hash)?.ok_or_else(|| missing(INITIAL_WEIGHTS))?;
            let values = File::open(&path)
                .and_then(|file| ModelWeights::in_file(&file, plan.layout.parameters()));
            let place = Path::new(INITIAL_WEIGHTS);
            Ok(InitialWeights {
                values: values.map_err(|error| Error::corrupt(place, error))?,
                file: Some(path),
            })
        }
    }
}

/// The tokens of a run, from blobs or from the generator.
///
/// # Errors
/// When a blob is missing, or does not hold text or tokens that can be trained on.
pub(crate) fn corpus(manifest: &Manifest, blobs: &Blobs) -> Result<Corpus> {
    let tokeniser = match &manifest.tokeniser {
        TokeniserSource::Bytes => Tokeniser::Bytes,
        TokeniserSource::File { hash, special, .. } => {
            Tokeniser::from_bytes(&required(blobs, hash, "tokenizer.json")?)?
                .with_special(special_tokens(special))
        }
    };
    let sources = match &manifest.data {
        Data::Prepared(tokens) => {
            let training = token_part(&tokens.training, blobs)?;
            let heldout = token_part(&tokens.heldout, blobs)?;
            let verified = blobs.verified_shards();
            let corpus = Corpus::prepared_before(&training, &heldout, tokeniser, &verified);
            if corpus.is_err() {
                // Reading a damaged shard removes it from the index, so that it is fetched again.
                for shard in tokens.training.shards.iter().chain(&tokens.heldout.shards) {
                    blobs.get(&shard.hash)?;
                }
            }
            return Ok(corpus?);
        }
        Data::Generator { seed, bytes } => {
            vec![TextSource::Generated {
                seed: generator_seed(*seed),
                bytes: usize::try_from(*bytes).unwrap_or(usize::MAX),
            }]
        }
        Data::Sources(sources) => sources
            .iter()
            .map(|source| {
                Ok(TextSource::Text(required(
                    blobs,
                    &source.hash,
                    &source.name,
                )?))
            })
            .collect::<Result<_>>()?,
    };
    Ok(Corpus::new(&sources, tokeniser)?)
}

/// A blob that the manifest names.
fn required(blobs: &Blobs, hash: &BlobHash, name: &str) -> Result<Vec<u8>> {
    blobs.get(hash)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::data(format!("{name}: missing from the data folder, or damaged")).with_hint(
        "run `weal join` with the run's link to fetch it from peers, or to take it from --data",
    )
}

fn token_part(part: &manifest::TokenPart, blobs: &Blobs) -> Result<TokenPart> {
    let shard = |shard: &manifest::TokenShard| {
        let path = blobs
            .file(&shard.hash)
            .ok_or_else(|| missing("a shard of tokens"))?;
        Ok(TokenShard {
            path,
            hash: *shard.hash.as_bytes(),
            tokens: shard.tokens,
        })
    };
    Ok(TokenPart {
        text_bytes: part.text_bytes,
        shards: part.shards.iter().map(shard).collect::<Result<_>>()?,
    })
}

fn generator_seed(seed: u64) -> [u8; 32] {
    blake3::derive_key("commonweal generator v1", &seed.to_le_bytes())
}
