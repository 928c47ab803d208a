//! Models in other programs' formats: importing Hugging Face folders, and exporting Hugging Face
//! folders and GGUF files.
//!
//! | file | holds |
//! |---|---|
//! | `config` | `config.json` to and from [`ModelSpec`](crate::ModelSpec) |
//! | `architecture.rs` | the architectures, and the defaults of their classes |
//! | `stored.rs` | how tensors are stored in Hugging Face's files |
//! | `import.rs`, `tensor_files.rs` | reading a Hugging Face folder, and its safetensors files |
//! | `beside.rs` | what a folder says beside its `tokenizer.json` |
//! | `export.rs`, `folder.rs` | a model to export, and writing it as a Hugging Face folder |
//! | `labels.rs` | texts in the metadata of both |
//! | `floats.rs` | f32, f16 and bf16 as bytes |
//! | `gguf_model.rs` | a model in llama.cpp's terms |
//! | `gguf.rs`, `metadata.rs` | writing a GGUF file and its metadata |
//! | `gguf_format.rs`, `blocks.rs`, `super_blocks.rs` | the formats of tensors and their quantised blocks |
//! | `vocabulary.rs` | a tokeniser in GGUF's terms, and byte tokens as a `tokenizer.json` |
//! | `words.rs`, `pieces.rs`, `merges.rs` | whether llama.cpp cuts and merges text as the tokeniser does |

mod architecture;
mod beside;
mod blocks;
mod config;
mod export;
mod floats;
mod folder;
mod gguf;
mod gguf_format;
mod gguf_model;
mod import;
mod labels;
mod merges;
mod metadata;
mod pieces;
mod progress;
mod stored;
mod super_blocks;
mod tensor_files;
mod vocabulary;
mod words;

pub use export::Export;
pub use floats::FloatFormat;
pub use gguf::GgufSummary;
pub use gguf_format::GgufFormat;
pub use import::Checkpoint;
pub use labels::{Labels, read_labels};
pub use progress::FileProgress;
