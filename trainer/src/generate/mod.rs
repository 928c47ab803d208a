//! Text generation.

mod choice;
mod generator;
mod stop;

pub use choice::Sampling;
pub use generator::{GeneratedText, StopReason, TextGenerator};
