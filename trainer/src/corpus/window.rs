//! A window of tokens.

/// Tokens, and the bytes of text that the predicted ones (all but the first) stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub tokens: Vec<u32>,
    /// Whether each token is learnt, so that it counts in the loss; empty if all are.
    pub learnt: Vec<bool>,
    pub bytes: u64,
}
