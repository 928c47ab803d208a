//! Kinds of errors, each with its exit code.

use std::process::ExitCode;

/// Declares [`ErrorKind`] with the code and the meaning of each kind; the doc comment is the
/// meaning that the reference page shows.
macro_rules! kinds {
    ($(#[doc = $meaning:literal] $name:ident = $code:literal,)+) => {
        /// What went wrong. The discriminant is the program's exit code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ErrorKind {
            $(#[doc = $meaning] $name = $code,)+
        }

        impl ErrorKind {
            /// All kinds, by rising exit code.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// One sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning.trim_ascii(),)+
                }
            }
        }
    };
}

kinds! {
    /// Something happened that should not. Please report it.
    Internal = 1,
    /// A command-line argument cannot be used.
    Usage = 2,
    /// `settings.toml`, `run.toml` or the run's manifest holds a value that cannot be used.
    Configuration = 3,
    /// Training data, a model or a tokeniser cannot be read or used.
    Data = 4,
    /// The network cannot be used: a port is taken, or no node answers.
    Network = 5,
    /// The run link is wrong, or no peer behind it answered.
    Link = 6,
    /// The device is missing or failed.
    Device = 7,
    /// The disk refused to read or write.
    Storage = 8,
    /// The data folder holds no run or another run, or another process is using it.
    Folder = 9,
    /// A file in the data folder is damaged.
    Corrupt = 10,
    /// The device was lost, and `compute.on_device_loss` is `"restart"`: start the node again.
    DeviceLost = 11,
    /// `weal status --healthy` found a node that is running but not training.
    Unhealthy = 12,
    /// `weal verify` found a history, weights or a model that the run did not decide.
    Unproven = 13,
    /// Whatever read the command's output stopped reading, as `head` does.
    OutputClosed = 141,
}

impl ErrorKind {
    /// The exit code of a program that ends with such an error.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ErrorKind> for ExitCode {
    fn from(kind: ErrorKind) -> Self {
        Self::from(kind.code())
    }
}

impl From<&super::Error> for ExitCode {
    fn from(error: &super::Error) -> Self {
        error.kind().into()
    }
}

/// Every exit code of the program with its meaning, by rising code.
pub fn exit_codes() -> impl Iterator<Item = (u8, &'static str)> {
    let errors = ErrorKind::ALL
        .iter()
        .map(|kind| (kind.code(), kind.meaning()));
    let mut codes: Vec<_> = errors
        .chain([
            (0, "The command did what it was asked to do."),
            (101, "The program panicked. Please report it."),
            (129, "The terminal was closed (SIGHUP)."),
            (130, "Ctrl-C (SIGINT) ended the program. A running node ends with 0, and with 130 only at a second one."),
            (143, "SIGTERM ended the program. A running node ends with 0, and with 143 only at a second one."),
        ])
        .collect();
    codes.sort_unstable();
    codes.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_rise_and_each_has_a_meaning() {
        let codes: Vec<_> = exit_codes().collect();
        assert!(codes.is_sorted_by(|(a, _), (b, _)| a < b), "{codes:?}");
        assert!(codes.iter().all(|(_, meaning)| meaning.ends_with('.')));
    }
}
