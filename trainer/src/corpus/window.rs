//! A window of tokens.

/// Tokens, and the bytes of text that the predicted ones (all but the first) stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub tokens: Vec<u32>,
    pub bytes: u64,
}
