//! Models in other programs' formats: importing Hugging Face folders, and exporting Hugging Face
//! folders and GGUF files.
//!
//! | file | holds |
//! |---|---|
//! | `config.rs` | `config.json` to and from [`ModelSpec`](crate::ModelSpec) |
//! | `import.rs` | reading a Hugging Face folder |
//! | `export.rs`, `folder.rs` | a model to export, and writing it as a Hugging Face folder |
//! | `floats.rs` | f32, f16 and bf16 as bytes |
//! | `gguf.rs`, `metadata.rs`, `blocks.rs` | writing a GGUF file, its metadata and its quantised blocks |
//! | `vocabulary.rs` | a tokeniser in GGUF's terms, and byte tokens as a `tokenizer.json` |

mod blocks;
mod config;
mod export;
mod floats;
mod folder;
mod gguf;
mod import;
mod metadata;
mod progress;
mod vocabulary;

pub use export::Export;
pub use floats::FloatFormat;
pub use gguf::GgufFormat;
pub use import::Checkpoint;
pub use progress::FileProgress;
