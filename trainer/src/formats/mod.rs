//! Models on disk as others know them: Hugging Face folders in and out, and GGUF files out.
//!
//! | file | holds |
//! |---|---|
//! | `config.rs` | `config.json` to and from [`ModelSpec`] |
//! | `import.rs` | a Hugging Face folder, read |
//! | `export.rs` | the same, written |
//! | `floats.rs` | f32, f16 and bf16 as bytes |
//! | `gguf.rs`, `blocks.rs` | a GGUF file, and its quantised blocks |
//! | `vocabulary.rs` | what GGUF wants to know of a tokeniser; the built-in bytes as a `tokenizer.json` |

mod blocks;
mod config;
mod export;
mod floats;
mod gguf;
mod import;
mod vocabulary;

use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

pub use floats::FloatFormat;
pub use gguf::GgufFormat;
pub use import::Checkpoint;

/// Told while a model is read or written: bytes done, and bytes in all.
pub type FileProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// A model as it is handed to others.
#[derive(Debug)]
pub struct Export<'a> {
    model: &'a ModelSpec,
    weights: &'a [f32],
    tokeniser: &'a Tokeniser,
    end_of_text: Option<u32>,
}

impl<'a> Export<'a> {
    /// A model with its weights, flat in the layout's order, its tokeniser, and the token at which
    /// a text ends.
    ///
    /// # Errors
    /// Where the parts do not belong together, or a weight is not finite.
    pub fn new(
        model: &'a ModelSpec,
        weights: &'a [f32],
        tokeniser: &'a Tokeniser,
        end_of_text: Option<u32>,
    ) -> Result<Self> {
        check_weights(&model.layout()?, weights)?;
        let known = tokeniser.vocabulary();
        if known > model.vocabulary {
            return Err(Error::Vocabulary {
                tokeniser: known,
                model: model.vocabulary,
            });
        }
        Ok(Self {
            model,
            weights,
            tokeniser,
            end_of_text,
        })
    }
}
