//! Data preparation: text from files, URLs and Hugging Face becomes token shards. Text is read,
//! split into a training and a held-out part, tokenised on every core, and written as files named
//! by their hash.
//!
//! The same files with the same settings give the same shards, byte for byte, on every machine and
//! with any number of threads. So peers who prepare the same data have the same run.
//!
//! Input is not trusted: a damaged file is refused by name, a bad record is counted and listed, and
//! a download is checked against the hash that its data set lists, if it lists one.

mod fetch;
mod hugging_face;
mod index;
mod kind;
mod pipeline;
mod prepare;
mod read;
mod shard;
mod shard_writer;
mod sources;
mod split;
mod tokenise;
mod walk;

pub use fetch::DownloadClient;
pub use index::{PreparedFolder, PreparedIndex, PreparedPart, PreparedShard, PreparedSource};
pub use kind::FileKind;
pub use prepare::{Prepare, PrepareProgress, PrepareSummary};
pub(crate) use shard::Shard;
pub(crate) use split::character_start;
pub(crate) use walk::files_under;
