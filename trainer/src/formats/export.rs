//! [`Export`]: a model to write in another program's format.

use super::labels::Labels;
use crate::error::Result;
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// A model to export.
#[derive(Debug)]
pub struct Export<'a> {
    pub(super) model: &'a ModelSpec,
    pub(super) weights: &'a [f32],
    pub(super) tokeniser: &'a Tokeniser,
    pub(super) labels: Labels,
}

impl<'a> Export<'a> {
    /// A model with its weights, flat in the layout's order, and its tokeniser.
    ///
    /// # Errors
    /// If weights or tokeniser do not fit the model, or a weight is not finite.
    pub fn new(model: &'a ModelSpec, weights: &'a [f32], tokeniser: &'a Tokeniser) -> Result<Self> {
        check_weights(&model.layout()?, weights)?;
        tokeniser.check_fits(model)?;
        Ok(Self {
            model,
            weights,
            tokeniser,
            labels: Labels::new(),
        })
    }

    /// The same with texts that the files carry in their metadata.
    #[must_use]
    pub fn with_labels(self, labels: Labels) -> Self {
        Self { labels, ..self }
    }
}
