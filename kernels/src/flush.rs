//! Keeping denormal numbers out of training.
//!
//! Processors compute with denormal numbers in microcode, up to a hundred times more slowly. The
//! mode that flushes them to zero belongs to a thread, and these threads also compute what peers
//! agree on, bit by bit, so it must stay off; numbers are flushed one by one instead.

/// The value, or zero if its magnitude is below `least`. A NaN stays a NaN. Has no branch.
#[inline(always)]
pub(crate) fn flush(value: f32, least: f32) -> f32 {
    if value.abs() < least { 0.0 } else { value }
}
