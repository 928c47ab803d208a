//! Data preparation: text from files, URLs and Hugging Face becomes token shards. Text is read,
//! split into a training and a held-out part, tokenised on every core, and written as files named
//! by their hash.
//!
//! The same files with the same settings give the same shards, byte for byte, on every machine and
//! with any number of threads. So peers who prepare the same data have the same run.
//!
//! Input is not trusted: a damaged file is refused by name, a bad record is counted and listed, and
//! a download is checked against the hash that its data set lists, if it lists one.

mod cut;
mod fetch;
mod fingerprint;
mod hugging_face;
mod index;
mod kind;
mod metadata;
mod pipeline;
mod prepare;
mod read;
mod retry;
mod roots;
mod shard;
mod shard_format;
mod shard_writer;
mod sources;
mod split;
mod stamp;
mod summary;
mod tokenise;
mod verified;
mod walk;

pub(crate) use cut::character_start;
pub use fetch::DownloadClient;
pub(crate) use fingerprint::fingerprint;
pub use index::{PreparedFolder, PreparedIndex, PreparedPart, PreparedShard, PreparedSource};
pub use kind::FileKind;
pub use prepare::Prepare;
pub use read::{PlainText, check_text, read_text};
pub(crate) use read::{parquet_rows, read_packed_text};
pub(crate) use shard::{Shard, ShardTokens};
pub use summary::{PrepareProgress, PrepareSummary};
pub(crate) use verified::VerifiedShards;
pub use walk::{FileWalk, FoundPath, LeftOut};
