//! What can go wrong in the learner, and how to mend it.

use std::path::PathBuf;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the learner. Every message says what failed, why, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model's sizes do not fit together.
    #[error("model.{key} = {value} cannot be used: {accepted}")]
    Model {
        /// The size at fault, as it is called in the manifest.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        accepted: String,
    },

    /// There is no preset of that name.
    #[error("there is no model preset {name:?}: choose one of {known}")]
    UnknownPreset {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },

    /// A setting of the inner optimiser is out of range.
    #[error("inner.{key} = {value} cannot be used: {accepted}")]
    Inner {
        /// The setting at fault.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },

    /// The device does not multiply in a precision.
    #[error(
        "{device} does not compute in {precision}: set compute.precision to \"auto\" or \"f32\""
    )]
    Precision {
        /// The precision.
        precision: String,
        /// What the device calls itself.
        device: String,
    },

    /// A vector of weights has not the length that the model's layout has.
    #[error(
        "{what} holds {found} values, but the model has {expected}: it belongs to another model"
    )]
    Length {
        /// What was handed over.
        what: &'static str,
        /// Its length, in values.
        found: usize,
        /// The length that the model needs, in values.
        expected: usize,
    },

    /// The kernels refused the model's tensor layout.
    #[error("the model's tensors do not form a layout: {0}")]
    Layout(#[from] weal_kernels::Error),

    /// What was learnt cannot be compressed.
    #[error("what was learnt cannot be sent: {0}")]
    Compress(weal_kernels::Error),

    /// A data file or folder cannot be read.
    #[error("cannot read the training data {path}: {source}; check the path and its permissions", path = path.display())]
    DataUnreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A data file, or all files of a folder, hold no text.
    #[error("the training data {path} holds no text: name a file or a folder with at least one file that is not empty", path = path.display())]
    DataEmpty {
        /// The file or folder.
        path: PathBuf,
    },

    /// A data file is not text, though the tokeniser needs text.
    #[error("the training data {path} is not UTF-8 from byte {offset} on: convert it, or use the tokeniser \"bytes\", which takes any file", path = path.display())]
    DataNotText {
        /// The file.
        path: PathBuf,
        /// Where the first invalid byte stands.
        offset: usize,
    },

    /// The corpus is shorter than one training window.
    #[error(
        "the {part} part of the data has {found} tokens, but a context of {context} needs at least {needed}: add data, or make model.context smaller"
    )]
    DataTooShort {
        /// `training` or `held-out`.
        part: &'static str,
        /// Tokens that are there.
        found: usize,
        /// The model's context, in tokens.
        context: usize,
        /// Tokens that are needed.
        needed: usize,
    },

    /// A shard of tokens is not what it is said to be.
    #[error("cannot use the tokens {path}: {reason}; fetch it again, or prepare the data again", path = path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Data cannot be made ready for training.
    #[error("cannot prepare {place}: {reason}")]
    Prepare {
        /// The file, address or folder at fault.
        place: String,
        /// What is wrong with it, and what mends it.
        reason: String,
    },

    /// Whoever asked for it wants it no more.
    #[error("stopped")]
    Stopped,

    /// A tokeniser file cannot be used.
    #[error("cannot use the tokeniser {name}: {reason}; it must be a Hugging Face tokenizer.json")]
    Tokeniser {
        /// The file, or `tokenizer.json` where it came as bytes.
        name: String,
        /// What the parser said.
        reason: String,
    },

    /// The tokeniser knows more tokens than the model has embeddings.
    #[error(
        "the tokeniser has {tokeniser} tokens, but model.vocabulary = {model}: set model.vocabulary to at least {tokeniser}"
    )]
    Vocabulary {
        /// Tokens of the tokeniser.
        tokeniser: usize,
        /// Rows of the model's embedding.
        model: usize,
    },

    /// A device was asked for that this machine has not.
    #[error("{wanted} was asked for, but {found}: {remedy}")]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is instead.
        found: String,
        /// What to do.
        remedy: String,
    },

    /// A device's name cannot be parsed.
    #[error("{0:?} is not a device: write auto, cpu, gpu or gpu:<number>")]
    DeviceName(String),

    /// The device failed while it computed.
    #[error(
        "the device {device} failed while it {action}: {reason}; update its driver, or go on with --device cpu"
    )]
    Device {
        /// The device's name.
        device: String,
        /// What it was doing.
        action: &'static str,
        /// What it said.
        reason: String,
    },

    /// Saved optimiser moments cannot be restored.
    #[error(
        "the saved optimiser moments cannot be used: {0}; without them training goes on with fresh moments"
    )]
    Moments(String),

    /// Nothing was learnt in a round: its inner steps gave, or led to, values that are not finite.
    #[error(
        "nothing was learnt in {steps} inner steps, of which {skipped} gave a loss or gradient that is not finite (the last: loss {loss}, learning rate {learning_rate}): lower inner.learning_rate, or go back to an earlier checkpoint"
    )]
    Diverged {
        /// Steps that were tried.
        steps: u64,
        /// Steps that were skipped; the others led nowhere.
        skipped: u64,
        /// Loss of the last step, in nats per token.
        loss: f64,
        /// Learning rate of the last step.
        learning_rate: f64,
    },

    /// An error feedback that was handed over cannot be used.
    #[error(
        "the error feedback holds a value that is not finite in {tensor}; without it training goes on with zeros"
    )]
    ErrorFeedback {
        /// The tensor's name.
        tensor: String,
    },

    /// The weights handed over hold a value that is not finite.
    #[error(
        "the weights hold a value that is not finite in {tensor}: they are damaged; fetch them again"
    )]
    NotFinite {
        /// The tensor's name.
        tensor: String,
    },

    /// A window of text lies outside the corpus.
    #[error("sample {start} of {length} tokens lies outside the {available} tokens of the data")]
    Window {
        /// The window's first token.
        start: u64,
        /// Its length.
        length: usize,
        /// Tokens that are there.
        available: usize,
    },

    /// A line of a file of questions cannot be used.
    #[error("cannot use the questions {path}, line {line}: {reason}", path = path.display())]
    Question {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },

    /// A model cannot be read from its files.
    #[error("cannot read the model {path}: {reason}", path = path.display())]
    ModelFile {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Files cannot be written.
    #[error("cannot write {path}: {reason}", path = path.display())]
    Export {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A setting for text generation is out of range.
    #[error("{key} = {value} cannot be used for generation: {accepted}")]
    Generation {
        /// The setting at fault.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
}
