//! Starting a run: `run.toml`, which a person edits, becomes the manifest, whose hash is the run's
//! id.
//!
//! `weal new` writes the file; the first `weal run` in its folder seals it. From then on the
//! manifest counts, and changes to the file have no effect.
//!
//! | file | holds |
//! |---|---|
//! | `file` | [`RunFile`]: the keys of `run.toml`, their docs and defaults |
//! | `seal` | writing `run.toml`, and sealing it |
//! | `build` | [`NewRun`]: a manifest and everything that it names |
//! | `start` | what a run starts from: a preset or a checkpoint, and its tokeniser |
//! | `texts`, `prepared` | the training text: text files, or prepared tokens |
//! | `length` | whether there is enough text |
//! | `manifest` | values of the file in the manifest's integer units |

mod build;
mod file;
mod length;
mod manifest;
mod prepared;
mod seal;
mod start;
mod texts;

pub use build::{NewRun, Right};
pub use file::RunFile;
pub(crate) use file::{FounderChoice, flag_help};
pub(crate) use prepared::token_shards;
pub(crate) use seal::{expect, expect_none, seal, write_file};
