//! One check and its outcome.

use serde::Serialize;

use crate::error::ErrorKind;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// All is well.
    Ok,
    /// The machine can train, but something could be better or is unknown.
    Warning,
    /// The machine cannot train.
    Wrong,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Check {
    /// Name of the check.
    pub what: &'static str,
    pub state: State,
    /// What was found.
    pub found: String,
    /// How to fix it, unless all is well.
    pub remedy: Option<String>,
    /// Exit code of the program if this is the first check that failed.
    #[serde(skip)]
    pub code: u8,
}

impl Check {
    pub(super) fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Ok,
            found: found.into(),
            remedy: None,
            code: 0,
        }
    }

    pub(super) fn warning(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            what,
            state: State::Warning,
            found: found.into(),
            remedy: Some(remedy.into()),
            code: 0,
        }
    }

    pub(super) fn wrong(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
        kind: ErrorKind,
    ) -> Self {
        Self {
            what,
            state: State::Wrong,
            found: found.into(),
            remedy: Some(remedy.into()),
            code: kind.code(),
        }
    }
}
