//! What a manifest means to the rooms that may not know it: the trainer's specs, the kernels'
//! layout and rules.

use std::path::Path;

use weal_kernels::{Compression, Layout, Rule, max_body_bytes};
use weal_proto::BlobHash;
use weal_proto::limits::BLOB_HEADER_BYTES;
use weal_proto::manifest::{
    self, AggregationRule, Data, Initial, Inner, Manifest, PPM, Tokeniser as TokeniserSource,
};
use weal_trainer::{
    Corpus, InnerSpec, ModelSpec, Optimiser, RopeScaling, Schedule, TextSource, TokenPart,
    TokenShard, Tokeniser,
};

use crate::error::{Error, Result};
use crate::store::blobs::Blobs;
use crate::store::weights::from_bytes;

/// What the weights that a run goes on from are called among the blobs that its manifest names.
pub const INITIAL_WEIGHTS: &str = "initial weights";

/// Everything that is computed from the manifest once.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Sizes of the model.
    pub model: ModelSpec,
    /// How the inner steps go.
    pub inner: InnerSpec,
    /// Names, shapes and order of the tensors.
    pub layout: Layout,
    /// Chunk, kept values, decay.
    pub compression: Compression,
    /// Largest contribution, header and all, in bytes.
    pub max_blob_bytes: usize,
}

impl Plan {
    /// What this manifest means.
    ///
    /// # Errors
    /// When trainer or kernels refuse what the schema allows.
    pub fn new(manifest: &Manifest) -> Result<Self> {
        let refused = |why: &dyn std::fmt::Display| Error::configuration("manifest", why);
        let model = model_spec(manifest);
        model.validate().map_err(|error| refused(&error))?;
        let inner = inner_spec(&manifest.inner);
        inner.validate().map_err(|error| refused(&error))?;
        let layout = model.layout().map_err(|error| refused(&error))?;
        let compression = Compression {
            chunk: manifest.compression.chunk as usize,
            keep: manifest.compression.keep as usize,
            decay_ppm: manifest.compression.decay_ppm,
        };
        let max_blob_bytes = manifest.limits.blob_bytes as usize;
        let needed = blob_bytes(&layout, &compression).map_err(|error| refused(&error))?;
        if max_blob_bytes < needed {
            return Err(refused(&format_args!(
                "limits.blob_bytes is {max_blob_bytes}; a contribution of this model may take {needed}"
            )));
        }
        Ok(Self {
            model,
            inner,
            layout,
            compression,
            max_blob_bytes,
        })
    }
}

/// The most bytes that a contribution takes, header and all.
///
/// # Errors
/// When the compression makes no sense.
pub fn blob_bytes(
    layout: &Layout,
    compression: &Compression,
) -> std::result::Result<usize, weal_kernels::Error> {
    Ok(size_of::<u32>() + BLOB_HEADER_BYTES + max_body_bytes(layout, compression)?)
}

fn model_spec(manifest: &Manifest) -> ModelSpec {
    let model = &manifest.model;
    ModelSpec {
        vocabulary: model.vocabulary as usize,
        width: model.width as usize,
        layers: model.layers as usize,
        heads: model.heads as usize,
        kv_heads: model.kv_heads as usize,
        feed_forward: model.feed_forward as usize,
        context: model.context as usize,
        tied: model.tied_embeddings,
        rope_theta: model.rope_theta,
        norm_epsilon_ppb: model.norm_epsilon_ppb,
        head_width: Some(model.head_width as usize).filter(|width| *width > 0),
        query_key_norm: model.query_key_norm,
        rope_scaling: model.rope_scaling.map(|scaling| RopeScaling {
            factor_ppm: scaling.factor_ppm,
            low_frequency_ppm: scaling.low_frequency_ppm,
            high_frequency_ppm: scaling.high_frequency_ppm,
            original_context: scaling.original_context,
        }),
    }
}

fn inner_spec(inner: &Inner) -> InnerSpec {
    let (total_steps, floor_ppm) = (u64::from(inner.decay_steps), inner.final_rate_ppm);
    let schedule = match inner.schedule {
        _ if total_steps == 0 => Schedule::Constant,
        manifest::Schedule::Cosine => Schedule::Cosine {
            total_steps,
            floor_ppm,
        },
        manifest::Schedule::Wsd => Schedule::Wsd {
            decay_start: inner.decay_start.into(),
            total_steps,
            floor_ppm,
        },
    };
    let optimiser = match inner.optimiser {
        manifest::Optimiser::AdamW => Optimiser::AdamW,
        manifest::Optimiser::Muon => Optimiser::Muon {
            momentum_ppm: inner.momentum_ppm,
        },
    };
    InnerSpec {
        steps: inner.steps,
        batch: inner.batch,
        learning_rate_ppb: inner.peak_learning_rate_ppb,
        warmup_steps: u64::from(inner.warmup_steps),
        schedule,
        optimiser,
        beta1_ppm: inner.beta1_ppm,
        beta2_ppm: inner.beta2_ppm,
        weight_decay_ppm: inner.weight_decay_ppm,
        clip_ppm: inner.gradient_clip_ppm,
        ..InnerSpec::default()
    }
}

/// The kernels' name for an aggregation rule.
pub fn rule(rule: AggregationRule) -> Rule {
    match rule {
        AggregationRule::MeanOfSenders => Rule::MeanOfSenders,
        AggregationRule::MeanOfAll => Rule::MeanOfAll,
        AggregationRule::RootOfSenders => Rule::RootOfSenders,
    }
}

/// The outer learning rate as the kernels take it. Integer to f32 and one division: the same bits
/// everywhere.
pub fn rate(ppm: u32) -> f32 {
    ppm as f32 / PPM as f32
}

/// The weights that a run begins with, flat, in the layout's order.
///
/// # Errors
/// When they are those of an earlier training, and are not in the data folder or of another model.
pub fn initial_weights(manifest: &Manifest, plan: &Plan, blobs: &Blobs) -> Result<Vec<f32>> {
    match &manifest.initial {
        Initial::Seed(seed) => weal_trainer::initial_weights(&plan.model, seed)
            .map_err(|error| Error::Internal(error.to_string())),
        Initial::Weights(hash) => {
            let bytes = needed(blobs, hash, INITIAL_WEIGHTS)?;
            from_bytes(Path::new(INITIAL_WEIGHTS), &bytes, plan.layout.parameters())
        }
    }
}

/// A blob that the manifest names.
fn needed(blobs: &Blobs, hash: &BlobHash, what: &str) -> Result<Vec<u8>> {
    blobs.get(hash)?.ok_or_else(|| missing(what))
}

fn missing(what: &str) -> Error {
    Error::Data(format!(
        "{what}: not in the data folder, or damaged; `weal join` with the run's link fetches it from peers, or takes it from \
         --data"
    ))
}

/// The text of a run, from blobs that are here or from the generator.
///
/// # Errors
/// When a blob is missing, or is not text that can be trained on.
pub fn corpus(manifest: &Manifest, blobs: &Blobs) -> Result<Corpus> {
    let tokeniser = match &manifest.tokeniser {
        TokeniserSource::Bytes => Tokeniser::Bytes,
        TokeniserSource::File { hash, .. } => {
            Tokeniser::from_bytes(&needed(blobs, hash, "tokenizer.json")?)
                .map_err(|error| Error::Data(error.to_string()))?
        }
    };
    let wrong = |error: weal_trainer::Error| Error::Data(error.to_string());
    let sources = match &manifest.data {
        Data::Prepared(tokens) => {
            let (training, heldout) = (
                token_part(&tokens.training, blobs)?,
                token_part(&tokens.heldout, blobs)?,
            );
            let corpus = Corpus::prepared(&training, &heldout, tokeniser);
            if corpus.is_err() {
                // What is damaged is forgotten, so that it can be fetched again.
                for shard in tokens.training.shards.iter().chain(&tokens.heldout.shards) {
                    blobs.get(&shard.hash)?;
                }
            }
            return corpus.map_err(wrong);
        }
        Data::Generator { seed, bytes } => {
            vec![TextSource::Generated {
                seed: generator_seed(*seed),
                bytes: usize::try_from(*bytes).unwrap_or(usize::MAX),
            }]
        }
        Data::Sources(sources) => sources
            .iter()
            .map(|source| Ok(TextSource::Text(needed(blobs, &source.hash, &source.name)?)))
            .collect::<Result<_>>()?,
    };
    Corpus::new(&sources, tokeniser).map_err(wrong)
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
