//! The blobs that a manifest names: a node needs all of them before it can take part.

use weal_proto::BlobHash;
use weal_proto::manifest::{Data, Initial, Manifest, Tokeniser};

/// What messages call the weights that a run starts from.
pub(crate) const INITIAL_WEIGHTS: &str = "initial weights";

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedBlob {
    /// What messages call it.
    pub name: String,
    pub hash: BlobHash,
    pub bytes: u64,
}

/// All of them: weights, tokeniser, then data.
pub(crate) fn named_blobs(manifest: &Manifest) -> Vec<NamedBlob> {
    let mut named = Vec::new();
    let mut add = |name: String, hash, bytes| named.push(NamedBlob { name, hash, bytes });
    if let Initial::Weights(hash) = manifest.initial {
        let bytes = manifest.model.parameters().saturating_mul(4);
        add(INITIAL_WEIGHTS.to_owned(), hash, bytes);
    }
    if let Tokeniser::File {
        hash,
        bytes,
        settings,
        ..
    } = &manifest.tokeniser
    {
        add("tokenizer.json".to_owned(), *hash, *bytes);
        if let Some(settings) = settings {
            let name = "settings of the tokeniser".to_owned();
            add(name, settings.hash, settings.bytes);
        }
    }
    match &manifest.data {
        Data::Generator { .. } => {}
        Data::Sources(sources) => {
            for source in sources {
                add(source.name.clone(), source.hash, source.bytes);
            }
        }
        Data::Prepared(tokens) => {
            let parts = [&tokens.training.shards, &tokens.heldout.shards];
            let count = parts.iter().map(|shards| shards.len()).sum::<usize>();
            for (index, shard) in parts.into_iter().flatten().enumerate() {
                let name = format!("tokens {} of {count}", index + 1);
                add(name, shard.hash, shard.bytes);
            }
        }
    }
    named
}
