//! Blobs spread like a swarm: every peer that fetches one also sends on what it has of it.
//!
//! [`picker`] decides, without I/O or a clock. [`Exchange`] is the task around it: it owns the
//! streams to peers ([`session`], [`transfer`]) and the pieces ([`parts`]).

mod bits;
mod exchange;
mod file_place;
mod finished;
mod frame;
mod giving;
mod holes;
mod input;
mod limits;
mod parts;
mod picker;
mod readers;
mod session;
mod sessions;
#[cfg(test)]
mod simulation;
mod transfer;
mod want;

pub(crate) use exchange::{Exchange, Parties};
pub use file_place::FilePlace;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use frame::MAX_FRAME;
pub use frame::Priority;
pub(crate) use input::Input;
pub(crate) use parts::Parts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use session::read_frame;
pub use want::Want;
