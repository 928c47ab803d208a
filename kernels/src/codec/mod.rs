//! The wire format of a contribution's body, version 1.

pub(crate) mod bits;
pub(crate) mod body;
pub(crate) mod golomb;
