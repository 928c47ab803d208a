//! Single weights: setting some, and reading some back.

use std::ops::Range;

use weal_kernels::Entries;

use crate::engine::handle::Engine;
use crate::error::Result;

impl Engine {
    /// Sets single weights for the losses that are measured next, tensor by tensor. Load all
    /// weights before the next step: the optimiser may have copies, which stay as they are.
    pub(crate) fn assign(&mut self, entries: &[Entries]) -> Result<()> {
        self.guarded("changing single weights", |engine| {
            engine.decoder = None;
            engine.parameters.ensure_loaded(&engine.transfer);
            engine.parameters.assign(entries, &engine.transfer);
            Ok(())
        })
    }

    /// The weights, in f32, at one range of the flat vector for each tensor, inside the tensor.
    pub(crate) fn weights_in(&mut self, ranges: &[Range<usize>]) -> Result<Vec<Vec<f32>>> {
        let action = "reading some weights back";
        self.guarded(action, |engine| {
            engine.parameters.ensure_loaded(&engine.transfer);
            engine.parameters.parts(ranges, &engine.transfer, action)
        })
    }
}
