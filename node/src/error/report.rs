//! An error as it is printed to a terminal.

use std::fmt;

use super::Error;

/// Displays as `error: …`, a line `caused by: …` for each cause, and `hint: …` if there is one.
#[derive(Debug)]
pub struct Report<'a>(pub(super) &'a Error);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.0)?;
        for cause in self.0.causes() {
            write!(f, "\ncaused by: {cause}")?;
        }
        if let Some(hint) = self.0.hint() {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}
