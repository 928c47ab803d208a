//! The text a model learns from: a training part, cut into windows, and a held-out part to measure
//! on.

mod files;
mod floors;
mod grammar;
mod holdout;
mod part;
mod shards;
mod source;
#[cfg(test)]
mod tests;
mod tokenised;
mod window;

pub use floors::Floors;
pub use grammar::{Generated, generate_text};
pub use shards::{TokenPart, TokenShard};
pub use source::TextSource;
pub use tokenised::Corpus;
pub(crate) use window::Window;
