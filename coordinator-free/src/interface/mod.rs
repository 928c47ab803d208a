//! The contract between the rules and the program around them: what goes in, what comes out.
//!
//! | file | holds |
//! |---|---|
//! | `input` | everything the rules ever learn about the world |
//! | `output` | everything they ever ask of it, and what the caller owes for each |
//! | `event` | what they report to logs, metrics and status pages |
//! | `view` | a snapshot of a running round |
//! | `share` | the samples that a round deals to a peer |
//! | `names` | the names that inputs and outputs share |
//! | `time` | the caller's clock |
//! | `error` | why a core cannot start |

pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod input;
pub(crate) mod names;
pub(crate) mod output;
pub(crate) mod share;
pub(crate) mod time;
pub(crate) mod view;
