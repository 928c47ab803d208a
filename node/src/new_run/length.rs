//! Whether there is enough text: what `weal run` will need is found out before anything is written,
//! in the unit that counts, tokens.

use std::path::PathBuf;

use weal_proto::manifest::{Data, Manifest, PreparedTokens, Tokeniser as TokeniserSource};
use weal_proto::{BlobHash, Outline};
use weal_trainer::{Corpus, TextSource, Tokeniser};

use crate::data;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::special_tokens;

/// Refuses a training or held-out part that is shorter than a window. `paths` are the run's texts,
/// `files` the other things that it names.
pub(super) fn check(manifest: &Manifest, paths: &[PathBuf], files: &[Vec<u8>]) -> Result<()> {
    let context = manifest.model.context;
    let found = match &manifest.data {
        Data::Prepared(tokens) => return check_prepared(tokens, context),
        Data::Generator { .. } => return Ok(()),
        Data::Sources(_) => data::find(paths)?,
    };
    let tokeniser = match &manifest.tokeniser {
        TokeniserSource::Bytes => Tokeniser::Bytes,
        TokeniserSource::File { hash, special, .. } => {
            file_tokeniser(hash, files)?.with_special(special_tokens(special))
        }
    };
    let sources: Vec<_> = found
        .iter()
        .map(|file| TextSource::Path(file.path().to_owned()))
        .collect();
    Corpus::check_length(&sources, &tokeniser, context as usize)
        .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))
}

fn file_tokeniser(hash: &BlobHash, files: &[Vec<u8>]) -> Result<Tokeniser> {
    let json = files
        .iter()
        .find(|bytes| Outline::of(bytes).hash() == *hash);
    let json = json.ok_or_else(|| Error::internal("the run's tokeniser was not read"))?;
    Tokeniser::from_bytes(json).map_err(|error| Error::from(error).with_kind(ErrorKind::Data))
}

fn check_prepared(tokens: &PreparedTokens, context: u32) -> Result<()> {
    for (name, part) in [
        ("training", &tokens.training),
        ("held-out", &tokens.heldout),
    ] {
        let count: u64 = part.shards.iter().map(|shard| shard.tokens).sum();
        if count <= u64::from(context) {
            let needed = u64::from(context) + 1;
            return Err(Error::data(format!(
                "the {name} part of the data has {count} tokens, but a context of {context} needs \
                 at least {needed}"
            ))
            .with_hint(
                "prepare more data, hold out more of it with --heldout, or lower model.context",
            ));
        }
    }
    Ok(())
}
