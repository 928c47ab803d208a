//! What the program prints: results on standard output, everything else on standard error.
//!
//! Nothing here panics. A reader of standard output that stops reading ends the command with
//! [`ErrorKind::OutputClosed`], which `main` does not report; any other failure of standard output
//! is an error like a full disk elsewhere. What cannot be written to standard error is dropped,
//! because a node must go on when its log cannot be written.

mod colours;

use std::fmt::Arguments;
use std::io::{self, Write};

pub(crate) use colours::colours;

use crate::error::{Error, ErrorKind, Result};

/// Prints a line on standard output; returns an error where `println!` would panic.
macro_rules! print_line {
    ($($text:tt)*) => {
        $crate::terminal::write_line(format_args!($($text)*))
    };
}

/// Prints a line on standard error, or drops it where `eprintln!` would panic.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::terminal::say_line(format_args!($($text)*))
    };
}

pub(crate) use {print_line, say};

/// Writes a line to standard output.
///
/// # Errors
/// When nobody reads it any longer, or it cannot be written.
pub(crate) fn write_line(text: Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(unwritable)
}

/// Writes a piece of text to standard output, at once.
///
/// # Errors
/// As for [`write_line`].
pub(crate) fn write_piece(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(unwritable)
}

/// Writes a line to standard error if that is possible.
pub(crate) fn say_line(text: Arguments<'_>) {
    // In one piece, so that lines of several threads or processes do not mix.
    say_piece(&format!("{text}\n"));
}

/// Writes a piece of text to standard error if that is possible.
pub(crate) fn say_piece(text: &str) {
    let mut err = io::stderr().lock();
    // Nobody can be told that this fails.
    let _ = err.write_all(text.as_bytes());
    let _ = err.flush();
}

/// What it means that standard output takes nothing.
pub(crate) fn unwritable(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Error::new(
            ErrorKind::OutputClosed,
            "nobody reads the standard output any longer",
        );
    }
    Error::new(ErrorKind::Storage, "cannot write to the standard output")
        .caused_by(error)
        .with_hint("free some space where the output goes, or send it elsewhere")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_told_from_a_full_disk() {
        let code = |kind: io::ErrorKind| unwritable(kind.into()).code();
        assert_eq!(code(io::ErrorKind::BrokenPipe), 141);
        assert_eq!(code(io::ErrorKind::StorageFull), 8);
    }
}
