//! What an engine keeps from round to round: moments and error feedback.

use std::ops::Range;

use weal_kernels::{Change, Compression, Entries};

use crate::compute_plan::MomentFormat;
use crate::engine::error_feedback::{ErrorFeedback, HostError};
use crate::engine::handle::Engine;
use crate::engine::moments::{MomentsRef, TensorMoments};
use crate::error::{Error, Result};

impl Engine {
    /// How moments are kept; `None` before the first update, when all are zero.
    pub(crate) fn moment_format(&self) -> Option<MomentFormat> {
        let has_moments = self.parameters.has_moments();
        has_moments.then(|| self.parameters.formats().moments)
    }

    /// Whether a tensor has a second moment.
    pub(crate) fn has_second_moment(&self, tensor: usize) -> bool {
        !self.parameters.seconds().range(tensor).is_empty()
    }

    /// Passes each tensor's moments to `visit`; nothing before the first update.
    pub(crate) fn visit_moments(
        &mut self,
        visit: &mut dyn FnMut(MomentsRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let action = "reading the moments back";
        self.guarded(action, |engine| {
            let parameters = &engine.parameters;
            parameters.visit_moments(&engine.transfer, action, visit)
        })
    }

    /// Replaces all moments by what `next` returns for each tensor. On an error they stay.
    pub(crate) fn restore_moments(
        &mut self,
        next: &mut dyn FnMut(usize) -> Result<TensorMoments>,
    ) -> Result<()> {
        self.guarded("loading moments", |engine| {
            engine.parameters.restore_moments(&engine.transfer, next)
        })
    }

    /// Drops all moments: the next update starts from zeros.
    pub(crate) fn forget_moments(&mut self) {
        self.parameters.forget_moments();
    }

    /// The error feedback, flat.
    pub(crate) fn error_feedback(&mut self) -> Result<Vec<f32>> {
        let action = "reading the error feedback back";
        self.guarded(action, |engine| {
            engine.error_feedback.flat(&engine.transfer, action)
        })
    }

    /// Passes each tensor's error feedback to `visit`.
    pub(crate) fn visit_error_feedback(
        &mut self,
        visit: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let action = "reading the error feedback back";
        self.guarded(action, |engine| {
            let whole: Vec<_> = engine.transfer.layout().ranges().collect();
            let error = &engine.error_feedback;
            error.visit(&whole, &engine.transfer, action, visit)
        })
    }

    /// The error feedback at one range of the flat vector for each tensor, inside the tensor.
    pub(crate) fn error_feedback_in(&mut self, ranges: &[Range<usize>]) -> Result<Vec<Vec<f32>>> {
        let action = "reading the error feedback back";
        let mut parts = Vec::new();
        self.guarded(action, |engine| {
            let error = &engine.error_feedback;
            error.visit(ranges, &engine.transfer, action, &mut |part| {
                parts.push(part.to_vec());
                Ok(())
            })
        })?;
        Ok(parts)
    }

    /// The error feedback, if it is in host memory.
    pub(crate) fn host_error_feedback(&self) -> Option<&HostError> {
        self.error_feedback.host()
    }

    /// Replaces the error feedback.
    pub(crate) fn set_error_feedback(&mut self, error: HostError) {
        self.error_feedback = ErrorFeedback::on_the_host(error);
        self.error_feedback.change_format(self.error_format);
    }

    /// Adds to single values of the error feedback. If a sum is not finite it changes nothing, and
    /// returns the number of the tensor.
    pub(crate) fn add_to_error_feedback(&mut self, entries: &[Entries]) -> Result<Option<usize>> {
        let format = self.error_format;
        self.guarded("reading the error feedback back", |engine| {
            engine.error_feedback.add(entries, &engine.transfer, format)
        })
    }

    /// Zeroes values of the error feedback that are not finite. Returns how many.
    pub(crate) fn clean_error_feedback(&mut self) -> Result<usize> {
        let format = self.error_format;
        self.guarded("reading the error feedback back", |engine| {
            engine.error_feedback.clean(&engine.transfer, format)
        })
    }

    /// Whether the last call of [`Self::compress`] ran on a GPU.
    pub(crate) fn compresses_on_device(&self) -> bool {
        self.error_feedback.is_on_device()
    }

    /// Compresses the pseudo-gradient, `base` minus the engine's weights, to the body of a
    /// contribution. What it could not send becomes the error feedback. On an error the error
    /// feedback stays as it is.
    pub(crate) fn compress(&mut self, compression: &Compression, base: &[f32]) -> Result<Vec<u8>> {
        self.guarded("compressing the pseudo-gradient", |engine| {
            let transfer = &engine.transfer;
            engine.parameters.ensure_loaded(transfer);
            if transfer.is_cpu() || engine.parameters.host().is_some() {
                return engine.compress_on_host(compression, base);
            }
            let weights = engine.parameters.masters();
            let error = &mut engine.error_feedback;
            match error.compress_on_device(transfer, compression, base, weights) {
                Err(weal_kernels::Error::Device { why }) => {
                    tracing::warn!(why, "the GPU cannot compress; falling back to the CPU");
                    engine.compress_on_host(compression, base)
                }
                done => done.map_err(Error::Compress),
            }
        })
    }

    fn compress_on_host(&mut self, compression: &Compression, base: &[f32]) -> Result<Vec<u8>> {
        if let Some(states) = self.parameters.host_mut() {
            // No step follows in this round.
            states.gradients = Vec::new();
        }
        let (transfer, error) = (&self.transfer, &mut self.error_feedback);
        let compress = |local: &[&[f32]]| {
            let change = Change { base, local };
            error.compress_on_host(transfer, compression, &change, self.error_format)
        };
        let action = "reading the weights back";
        let body = self.parameters.with_weights(transfer, action, compress)?;
        body?.map_err(Error::Compress)
    }
}
