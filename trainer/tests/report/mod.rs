//! Errors as text, for assertions.

use weal_trainer::Error;

/// An error with its causes and its hint on one line.
pub(crate) fn report(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}; hint: {hint}"),
        None => text,
    }
}
