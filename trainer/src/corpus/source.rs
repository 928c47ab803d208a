//! Where the text of a corpus comes from.

use std::path::PathBuf;

use super::files;
use super::grammar::generate_text;
use crate::error::Result;

/// A source of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// A file, or a folder that is read recursively in sorted order, without hidden entries and
    /// symlinks to folders.
    Path(PathBuf),
    /// Text in memory.
    Text(Vec<u8>),
    /// Text of the built-in generator, for runs without data; see [`generate_text`].
    Generated {
        /// Seed of the text.
        seed: [u8; 32],
        /// Least length of the text, in bytes. It ends with a whole paragraph.
        bytes: usize,
    },
}

/// Reads the texts of a source. Also returns the entropy in nats per byte, which only generated
/// text has.
pub(super) fn read(source: &TextSource) -> Result<(Vec<Vec<u8>>, Option<f64>)> {
    match source {
        TextSource::Path(path) => Ok((files::read(path)?, None)),
        TextSource::Text(text) => Ok((vec![text.clone()], None)),
        TextSource::Generated { seed, bytes } => {
            let generated = generate_text(seed, *bytes);
            let nats_per_byte = generated.nats / generated.text.len().max(1) as f64;
            Ok((vec![generated.text], Some(nats_per_byte)))
        }
    }
}
