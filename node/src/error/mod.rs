//! What can go wrong for the person who runs a node: what failed, what caused it, and which
//! command, flag or key fixes it.
//!
//! `main` prints an error as [`Error::report`] writes it and exits with the code of its
//! [`ErrorKind`]. A log line shows it as `{error:#}`: the message and its causes on one line.

mod convert;
mod kind;
mod report;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use convert::hint_of;
pub use kind::{ErrorKind, exit_codes};
pub use report::Report;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a command ended without having done what it was asked for.
///
/// It displays as its message alone. Its causes are in [`StdError::source`], its remedy in
/// [`Error::hint`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: What,
    hint: Option<Cow<'static, str>>,
}

#[derive(Debug)]
enum What {
    /// A message of this crate, and the cause if there is one.
    Message {
        text: String,
        source: Option<Source>,
    },
    /// An error of another crate, whose message says it all.
    Other(Source),
}

impl Error {
    /// An error with this message. The message says what failed, not how to fix it.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: What::Message {
                text: what.into(),
                source: None,
            },
            hint: None,
        }
    }

    /// An error whose message is that of `source`, with the hint that `source` has.
    pub fn of(kind: ErrorKind, source: impl Into<Source>) -> Self {
        let source = source.into();
        Self {
            kind,
            hint: hint_of(source.as_ref()),
            what: What::Other(source),
        }
    }

    /// An argument that cannot be used.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, what)
    }

    /// A file of settings, or a manifest, that cannot be used.
    pub fn configuration(file: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Configuration, format!("{file}: {why}"))
    }

    /// Training data, a model or a tokeniser that cannot be used.
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, what)
    }

    /// A failure of the network.
    pub fn network(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Network, what)
    }

    /// A run link that is wrong or leads nowhere.
    pub fn link(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Link, what)
    }

    /// A device that is missing or failed.
    pub fn device(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, what)
    }

    /// A data folder that belongs to another run or another process.
    pub fn folder(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Folder, what)
    }

    /// A data folder that another process has locked.
    pub fn folder_in_use(path: &Path) -> Self {
        let place = path.display();
        Self::folder(format!(
            "{place}: another weal process is using this data folder"
        ))
        .with_hint("stop that process, or choose another folder with --dir")
    }

    /// Something that should not happen.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, what)
    }

    /// A node that runs but does not train.
    pub fn unhealthy(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unhealthy, what)
    }

    /// For `map_err` on file operations: `what` is the message's verb, as in `cannot read`.
    pub fn storage<'a>(
        what: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| {
            Self::new(ErrorKind::Storage, format!("{what} {}", path.display())).caused_by(source)
        }
    }

    /// A stored file that is damaged.
    pub fn corrupt(path: &Path, why: impl Into<Source>) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{} is damaged", path.display())).caused_by(why)
    }

    /// Adds the cause; it is printed on a line of its own.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Source>) -> Self {
        if let What::Message { source, .. } = &mut self.what {
            *source = Some(cause.into());
        }
        self
    }

    /// Makes this error the cause of another, which keeps its kind and its hint.
    #[must_use]
    pub fn context(self, what: impl Into<String>) -> Self {
        let (kind, hint) = (self.kind, self.hint().map(|hint| hint.into_owned().into()));
        Self {
            kind,
            what: What::Message {
                text: what.into(),
                source: Some(Box::new(self)),
            },
            hint,
        }
    }

    /// Adds the remedy: an imperative that names the command, flag or key.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What went wrong, which also decides the exit code.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code of the program.
    pub const fn code(&self) -> u8 {
        self.kind.code()
    }

    /// What fixes it, if that is known.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        self.hint
            .as_deref()
            .map(Cow::Borrowed)
            .or_else(|| self.trainer_hint())
            .or_else(|| self.usual_hint().map(Cow::Borrowed))
    }

    /// The error as a person reads it: message, causes and hint, each on a line of its own.
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }

    /// The hint of the trainer, if this error or one of its causes is the trainer's.
    fn trainer_hint(&self) -> Option<Cow<'_, str>> {
        let itself: Option<&(dyn StdError + 'static)> = match &self.what {
            What::Other(error) => Some(&**error),
            What::Message { .. } => None,
        };
        itself
            .into_iter()
            .chain(self.causes())
            .find_map(|error| error.downcast_ref::<weal_trainer::Error>())?
            .hint()
    }

    /// Whether the disk, or the user's share of it, has no space left.
    pub(crate) fn is_disk_full(&self) -> bool {
        let is_full = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        self.kind == ErrorKind::Storage && self.system_error().is_some_and(is_full)
    }

    fn usual_hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::Storage if self.is_disk_full() => {
                Some("the disk is full: free some space, or move the folder and point --dir to it")
            }
            ErrorKind::Storage => match self.system_error()?.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("choose a folder you may write to with --dir")
                }
                _ => None,
            },
            ErrorKind::Folder => Some("choose another folder with --dir"),
            ErrorKind::Corrupt => Some(
                "move the data folder away and `weal join` the run again; your key is in its file `key`",
            ),
            _ => None,
        }
    }

    /// What caused this error, what caused that, and so on.
    fn causes(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        std::iter::successors(self.source(), |&error| error.source())
    }

    /// The operating system's error among the causes.
    fn system_error(&self) -> Option<&io::Error> {
        self.causes().find_map(|error| error.downcast_ref())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Message { text, .. } => f.write_str(text)?,
            What::Other(error) => write!(f, "{error}")?,
        }
        if f.alternate() {
            for cause in self.causes() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.what {
            What::Message { source, .. } => source.as_deref().map(|source| source as &dyn StdError),
            What::Other(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_disk() -> Error {
        Error::storage("cannot write", Path::new("/data/weights"))(
            io::ErrorKind::StorageFull.into(),
        )
    }

    #[test]
    fn a_report_has_message_causes_and_hint_on_lines_of_their_own() {
        let error = full_disk().context("round 7 cannot be applied");
        let cause = io::Error::from(io::ErrorKind::StorageFull);
        let lines = [
            "error: round 7 cannot be applied".to_owned(),
            "caused by: cannot write /data/weights".to_owned(),
            format!("caused by: {cause}"),
            "hint: the disk is full: free some space, or move the folder and point --dir to it"
                .to_owned(),
        ];
        assert_eq!(error.report().to_string(), lines.join("\n"));
        assert_eq!(error.code(), 8);
    }

    #[test]
    fn a_log_line_has_the_causes_but_no_hint() {
        let error = full_disk();
        assert_eq!(error.to_string(), "cannot write /data/weights");
        let cause = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(
            format!("{error:#}"),
            format!("cannot write /data/weights: {cause}")
        );
    }

    #[test]
    fn a_given_hint_goes_before_the_usual_one() {
        let error = Error::folder("no run here").with_hint("start one with `weal new`");
        assert_eq!(error.hint().as_deref(), Some("start one with `weal new`"));
        let error = Error::folder("no run here");
        assert!(error.hint().is_some_and(|hint| hint.contains("--dir")));
    }
}
