//! What a learner keeps from round to round besides the agreed weights, error feedback and moments:
//! written to disk and read back one tensor at a time, so that no second copy is in memory.

use std::io::{self, Read, Write};

use weal_kernels::{Contribution, entries};

use super::Learner;
use crate::engine::HostError;
use crate::error::{Error, Result};
use crate::moments::{MomentsHeader, read_tensor, write_tensor};
use crate::values::{read_values, write_values};

/// An error feedback saved in f32.
const FULL: u8 = 1;
/// An error feedback saved in 16 bits.
const SHORT: u8 = 2;

impl Learner {
    /// Writes the optimiser's moments. Moments that hold an unusable value are replaced by fresh
    /// ones first, in the learner too.
    ///
    /// # Errors
    /// [`Error::State`] if `to` cannot be written, [`Error::Device`] if the device fails.
    pub fn write_moments(&mut self, to: &mut dyn Write) -> Result<()> {
        match self.engine.visit_moments(&mut |tensor| tensor.check()) {
            Err(error @ Error::Moments(_)) => {
                tracing::warn!(%error, "the optimiser restarts with fresh moments");
                self.reset_moments();
            }
            checked => checked?,
        }
        let header = MomentsHeader {
            parameters: self.layout.parameters() as u64,
            updates: self.updates,
            format: self.engine.moment_format(),
        };
        header.write(to).map_err(Error::State)?;
        self.engine
            .visit_moments(&mut |tensor| write_tensor(tensor, to).map_err(Error::State))
    }

    /// Restores moments that [`Self::write_moments`] wrote. On an error the moments stay as they
    /// are.
    ///
    /// # Errors
    /// [`Error::Moments`] if they are damaged or belong to another model, [`Error::Device`] if the
    /// device fails.
    pub fn read_moments(&mut self, from: &mut dyn Read) -> Result<()> {
        let header = MomentsHeader::read(from, self.layout.parameters())?;
        let Some(format) = header.format else {
            self.reset_moments();
            return Ok(());
        };
        let has_second: Vec<bool> = (0..self.layout.tensors().len())
            .map(|tensor| self.engine.has_second_moment(tensor))
            .collect();
        let layout = &self.layout;
        self.engine.restore_moments(&mut |tensor| {
            let count = layout.range(tensor).len();
            read_tensor(from, format, count, has_second[tensor])
        })?;
        self.updates = header.updates;
        Ok(())
    }

    /// [`Self::write_moments`] into bytes, for small models.
    ///
    /// # Errors
    /// As [`Self::write_moments`].
    pub fn moments(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_moments(&mut bytes)?;
        Ok(bytes)
    }

    /// Restores moments that [`Self::moments`] returned.
    ///
    /// # Errors
    /// As [`Self::read_moments`].
    pub fn restore_moments(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.read_moments(&mut bytes)
    }

    pub(super) fn reset_moments(&mut self) {
        self.engine.forget_moments();
        self.updates = 0;
    }

    /// Writes the error feedback.
    ///
    /// # Errors
    /// [`Error::State`] if `to` cannot be written, [`Error::Device`] if the device fails.
    pub fn write_error_feedback(&mut self, to: &mut dyn Write) -> Result<()> {
        match self.engine.host_error_feedback() {
            Some(HostError::Full(values)) => {
                let written = to
                    .write_all(&[FULL])
                    .and_then(|()| write_values(values, to));
                written.map_err(Error::State)
            }
            Some(HostError::Short(values)) => {
                let written = to
                    .write_all(&[SHORT])
                    .and_then(|()| write_values(values, to));
                written.map_err(Error::State)
            }
            None => {
                to.write_all(&[FULL]).map_err(Error::State)?;
                let mut write = |values: &[f32]| write_values(values, to).map_err(Error::State);
                self.engine.visit_error_feedback(&mut write)
            }
        }
    }

    /// Restores an error feedback that [`Self::write_error_feedback`] wrote. Reads all of it even
    /// if it cannot be used; the error feedback stays as it is then.
    ///
    /// # Errors
    /// [`Error::State`] if it ends too early or its format is unknown, [`Error::ErrorFeedback`] if
    /// a value is not finite.
    pub fn read_error_feedback(&mut self, from: &mut dyn Read) -> Result<()> {
        let (mut format, count) = ([0], self.layout.parameters());
        from.read_exact(&mut format).map_err(Error::State)?;
        let error = match format {
            [FULL] => HostError::Full(read_values(from, count).map_err(Error::State)?),
            [SHORT] => HostError::Short(read_values(from, count).map_err(Error::State)?),
            [other] => {
                let reason = format!("the error feedback's format {other} is unknown");
                let unknown = io::Error::new(io::ErrorKind::InvalidData, reason);
                return Err(Error::State(unknown));
            }
        };
        self.use_error_feedback(error)
    }

    fn use_error_feedback(&mut self, error: HostError) -> Result<()> {
        let mut tensors = self.layout.tensors().iter().zip(self.layout.ranges());
        if let Some((tensor, _)) = tensors.find(|(_, range)| !error.is_finite(range.clone())) {
            return Err(Error::ErrorFeedback {
                tensor: tensor.name.clone(),
            });
        }
        self.engine.set_error_feedback(error);
        Ok(())
    }

    /// The error feedback, flat, in the layout's order; zeros in a new learner.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn error_feedback(&mut self) -> Result<Vec<f32>> {
        self.engine.error_feedback()
    }

    /// Restores an error feedback that [`Self::error_feedback`] returned.
    ///
    /// # Errors
    /// [`Error::Length`] if it belongs to another model, [`Error::ErrorFeedback`] if a value is not
    /// finite.
    pub fn restore_error_feedback(&mut self, error: Vec<f32>) -> Result<()> {
        let (found, expected) = (error.len(), self.layout.parameters());
        if found != expected {
            return Err(Error::Length {
                what: "the error feedback",
                found,
                expected,
            });
        }
        self.use_error_feedback(HostError::Full(error))
    }

    /// Adds a contribution that was not applied back to the error feedback.
    ///
    /// # Errors
    /// [`Error::Compress`] if the contribution belongs to another model, [`Error::ErrorFeedback`]
    /// if a sum is not finite; the error feedback is unchanged then. [`Error::Device`] if the
    /// device fails.
    pub fn take_back(&mut self, contribution: &Contribution) -> Result<()> {
        let entries = entries(&self.layout, contribution).map_err(Error::Compress)?;
        match self.engine.add_to_error_feedback(&entries)? {
            None => Ok(()),
            Some(tensor) => Err(Error::ErrorFeedback {
                tensor: self.layout.tensors()[tensor].name.clone(),
            }),
        }
    }

    /// Zeroes values that are not finite. Every later round would fail on them.
    pub(super) fn clean_error_feedback(&mut self) -> Result<()> {
        let bad = self.engine.clean_error_feedback()?;
        if bad > 0 {
            tracing::warn!(
                values = bad,
                "zeroed values of the error feedback that were not finite"
            );
        }
        Ok(())
    }
}
