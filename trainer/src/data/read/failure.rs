//! Why reading a file failed.

use std::io;

use crate::error::Error;

/// A failure of the file, or of the sink.
pub(super) enum Failure {
    File(io::Error),
    Sink(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sink(error)
    }
}

impl Failure {
    /// The error for the file `name`.
    pub(super) fn of(self, name: &str) -> Error {
        match self {
            Self::Sink(error) => error,
            Self::File(error) => damaged(name, &error),
        }
    }
}

/// A damaged file.
pub(super) fn damaged(name: &str, error: &io::Error) -> Error {
    let what = if error.kind() == io::ErrorKind::UnexpectedEof {
        "cut off"
    } else {
        "damaged"
    };
    Error::Prepare {
        place: name.to_owned(),
        reason: format!("it is {what}: {error}"),
        hint: Some("download it again, or leave it out".into()),
    }
}
