//! The crate's error: what failed, what caused it, and a hint that says how to fix it.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, of any type.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of the learner. The message says what failed, [`source`](std::error::Error::source)
/// what caused it, and [`hint`](Self::hint) how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A size of the model is out of range or contradicts another.
    #[error("model.{key} = {value} is invalid: {rule}")]
    Model {
        /// The size's key in the manifest, below `model`.
        key: &'static str,
        /// The value given.
        value: String,
        /// What the value must be.
        rule: String,
    },

    /// No preset has that name.
    #[error("unknown model preset {name:?}: expected one of {known}")]
    UnknownPreset {
        /// The name given.
        name: String,
        /// The names of all presets.
        known: String,
    },

    /// A setting of the inner optimiser is out of range or contradicts another.
    #[error("inner.{key} = {value} is invalid: {rule}")]
    Inner {
        /// The setting's key in the manifest, below `inner`.
        key: &'static str,
        /// The value given.
        value: String,
        /// What the value must be.
        rule: &'static str,
    },

    /// The device does not multiply in that precision.
    #[error("{device} does not compute in {precision}")]
    Precision {
        /// The precision asked for.
        precision: String,
        /// The device's name.
        device: String,
    },

    /// A device has too little memory for a measurement. It can be used further.
    #[error("{device} has too little memory for {action}: {reason}")]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// What it was doing.
        action: &'static str,
        /// What the driver said.
        reason: String,
    },

    /// A vector does not have one value for each parameter of the model.
    #[error("{what} holds {found} values, but the model has {expected}")]
    Length {
        /// What the vector is.
        what: &'static str,
        /// Its length, in values.
        found: usize,
        /// The model's parameters.
        expected: usize,
    },

    /// The kernels refused the model's tensor layout.
    #[error("the model's tensors do not form a valid layout")]
    Layout(#[from] weal_kernels::Error),

    /// The pseudo-gradient cannot be compressed.
    #[error("cannot compress the pseudo-gradient")]
    Compress(#[source] weal_kernels::Error),

    /// A data file or folder cannot be read.
    #[error("cannot read the training data {path}", path = path.display())]
    DataUnreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// A data file, or every file of a folder, is empty.
    #[error("the training data {path} holds no text", path = path.display())]
    DataEmpty {
        /// The file or folder.
        path: PathBuf,
    },

    /// A file that should be plain text is none.
    #[error("cannot read {path} as text: {reason}", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
        /// How to fix it.
        hint: Cow<'static, str>,
    },

    /// The corpus is shorter than one training window.
    #[error(
        "the {part} part of the data has {found} tokens, but a context of {context} needs at least {needed}"
    )]
    DataTooShort {
        /// `training` or `held-out`.
        part: &'static str,
        /// Tokens found.
        found: usize,
        /// The model's context, in tokens.
        context: usize,
        /// Tokens needed.
        needed: usize,
    },

    /// A shard of tokens is damaged, or is not the one listed.
    #[error("cannot use the token shard {path}: {reason}", path = path.display())]
    Shard {
        /// The shard's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Data cannot be prepared for training.
    #[error("cannot prepare {place}: {reason}")]
    Prepare {
        /// The file, URL or folder at fault.
        place: String,
        /// What is wrong with it.
        reason: String,
        /// How to fix it.
        hint: Option<Cow<'static, str>>,
    },

    /// The caller stopped the work.
    #[error("stopped")]
    Stopped,

    /// A tokeniser file cannot be used.
    #[error("cannot use the tokeniser {name}: {reason}")]
    Tokeniser {
        /// The file, or `tokenizer.json` if it was given as bytes.
        name: String,
        /// What it failed to do.
        reason: &'static str,
        /// The error of the system or the parser.
        source: Source,
    },

    /// A model's chat template cannot be used, or objects to a conversation.
    #[error("the model's chat template cannot be used: {reason}")]
    ChatTemplate {
        /// What is wrong with it, or what it objects to.
        reason: String,
    },

    /// The tokeniser has more tokens than the model has embeddings.
    #[error("the tokeniser has {tokeniser} tokens, but model.vocabulary = {model}")]
    Vocabulary {
        /// Tokens of the tokeniser.
        tokeniser: usize,
        /// Rows of the model's embedding.
        model: usize,
    },

    /// This machine does not have the device that was requested.
    #[error("{wanted} was requested, but {found}")]
    NoDevice {
        /// The device requested.
        wanted: String,
        /// What was found instead.
        found: String,
        /// How to fix it.
        remedy: String,
    },

    /// A device's name cannot be parsed.
    #[error("{0:?} is not a device: expected auto, cpu, gpu or gpu:<number>")]
    DeviceName(String),

    /// The device failed while it computed.
    #[error("the device {device} failed while {action}: {reason}")]
    Device {
        /// The device's name.
        device: String,
        /// What it was doing, such as `taking an inner step`.
        action: &'static str,
        /// The driver's message.
        reason: String,
    },

    /// Moments or error feedback cannot be written or read.
    #[error("cannot write or read the learner's state")]
    State(#[source] io::Error),

    /// Saved optimiser moments cannot be restored.
    #[error("cannot restore the saved optimiser moments: {0}")]
    Moments(String),

    /// A round learnt nothing: its inner steps produced, or led to, values that are not finite.
    #[error(
        "nothing was learnt in {steps} inner steps, of which {skipped} had a loss or gradient that is not finite (the last: loss {loss}, learning rate {learning_rate})"
    )]
    Diverged {
        /// Steps tried.
        steps: u64,
        /// Steps skipped; what the others learnt was dropped.
        skipped: u64,
        /// Loss of the last step, in nats per token.
        loss: f64,
        /// Learning rate of the last step.
        learning_rate: f64,
    },

    /// A restored error feedback holds a value that is not finite.
    #[error("the error feedback holds a value that is not finite in {tensor}")]
    ErrorFeedback {
        /// The tensor's name.
        tensor: String,
    },

    /// The weights hold a value that is not finite.
    #[error("the weights hold a value that is not finite in {tensor}")]
    NotFinite {
        /// The tensor's name.
        tensor: String,
    },

    /// A window of tokens lies outside the corpus.
    #[error("sample {start} of {length} tokens lies outside the {available} tokens of the data")]
    Window {
        /// The window's first token.
        start: u64,
        /// The window's length, in tokens.
        length: usize,
        /// Tokens in the corpus.
        available: usize,
    },

    /// A text to measure has nothing to predict.
    #[error(
        "the text has {}, but at least two are needed: one to predict, and one before it",
        if *tokens == 1 { "one token" } else { "no tokens" }
    )]
    TextTooShort {
        /// Its tokens: none or one.
        tokens: usize,
    },

    /// A file of questions, or a record of it, cannot be used.
    #[error("cannot use the questions {place}: {reason}")]
    Question {
        /// The file, and the line or row if one is at fault.
        place: String,
        /// What is wrong with it.
        reason: String,
        /// How to fix it.
        hint: Option<&'static str>,
    },

    /// A model's files are damaged, or of a kind that cannot be imported.
    #[error("cannot import the model {path}: {reason}", path = path.display())]
    ModelFile {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// How to fix it.
        hint: Option<&'static str>,
    },

    /// A file of a model cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// A model cannot be exported in that format, or to that place.
    #[error("cannot write {path}: {reason}", path = path.display())]
    Export {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        reason: String,
        /// How to fix it.
        hint: Option<&'static str>,
    },

    /// A file or folder cannot be written atomically.
    #[error(transparent)]
    Files(#[from] weal_files::Error),

    /// A file or folder cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system or the encoder.
        source: Source,
    },

    /// A setting for text generation is out of range.
    #[error("{key} = {value} is invalid: {rule}")]
    Generation {
        /// The setting.
        key: &'static str,
        /// The value given.
        value: String,
        /// What the value must be.
        rule: &'static str,
    },
}

impl Error {
    /// How to fix it, in the imperative: the command, flag or key to change.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        let fixed = match self {
            Self::Precision { .. } => "set compute.precision to \"auto\" or \"f32\"",
            Self::DataUnreadable { .. } => "check the path given with --data, and its permissions",
            Self::DataEmpty { .. } => {
                "name a file, or a folder with at least one file that is not empty"
            }
            Self::DataTooShort { .. } => "add data with --data, or lower model.context",
            Self::Shard { .. } => "fetch it again, or prepare the data again",
            Self::Tokeniser { .. } => "use a Hugging Face tokenizer.json",
            Self::OutOfMemory { .. } => "use a shorter --context or --device cpu",
            Self::ChatTemplate { .. } => {
                "correct the conversation, or continue plain text with --raw"
            }
            Self::Device { .. } => "update the device's driver, or use --device cpu",
            Self::Diverged { .. } => {
                "lower inner.learning_rate, or go back to an earlier checkpoint"
            }
            Self::NotFinite { .. } => "the weights are damaged: fetch them again",
            Self::Vocabulary { tokeniser, .. } => {
                return Some(format!("set model.vocabulary to at least {tokeniser}").into());
            }
            Self::Files(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                "name a folder that does not exist yet"
            }
            Self::NoDevice { remedy, .. } => return Some(remedy.into()),
            Self::NotText { hint, .. } => return Some(Cow::Borrowed(hint)),
            Self::Prepare { hint, .. } => return hint.as_deref().map(Cow::Borrowed),
            Self::ModelFile { hint, .. }
            | Self::Export { hint, .. }
            | Self::Question { hint, .. } => {
                return hint.map(Cow::Borrowed);
            }
            Self::TextTooShort { .. } => "name a file with more text",
            _ => return None,
        };
        Some(fixed.into())
    }

    /// Data at `place` that cannot be prepared, without a hint.
    pub(crate) fn prepare(place: impl ToString, reason: impl ToString) -> Self {
        Self::Prepare {
            place: place.to_string(),
            reason: reason.to_string(),
            hint: None,
        }
    }

    /// A file or folder that cannot be written.
    pub(crate) fn write(path: &Path, source: impl Into<Source>) -> Self {
        Self::Write {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// An error with its causes on one line, for assertions.
#[cfg(test)]
pub(crate) fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_the_cause_and_the_hint_are_separate() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Error::DataUnreadable {
            path: "book.txt".into(),
            source,
        };
        assert_eq!(error.to_string(), "cannot read the training data book.txt");
        assert!(with_causes(&error).ends_with(": no such file"));
        assert_eq!(
            error.hint().unwrap(),
            "check the path given with --data, and its permissions"
        );
        assert_eq!(Error::Stopped.hint(), None);
    }
}
