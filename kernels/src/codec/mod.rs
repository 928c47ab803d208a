//! The wire format of a contribution's body, version 2.

pub(crate) mod bits;
pub(crate) mod body;
pub(crate) mod gamma;
pub(crate) mod record;
pub(crate) mod rice;
#[cfg(test)]
mod tests;
pub(crate) mod unpack;
