//! The compressor on a GPU, written in CubeCL: only the records to send leave the device.
//!
//! [`compress`] does what [`crate::compress`] does, with the pseudo-gradient and the error feedback
//! in device memory. One kernel launch per tensor reads both once and overwrites the
//! pseudo-gradient with the next error feedback. For each chunk the host reads back a *record* of a
//! few words, 48 bytes for 32 of 4096 values, and assembles the body from them.
//!
//! | file | contents |
//! |---|---|
//! | `compress.rs` | the host's side: checks, launches, reading back |
//! | `kernel.rs` | the kernel: one cube of units (a workgroup of threads) per chunk |
//! | `memory.rs` | what the units of a cube share |
//! | `search.rs` | the smallest kept magnitude |
//! | `code.rs` | encoding of signs and gaps |
//! | `scan.rs` | prefix sums and maxima over the units |
//! | `scale.rs` | the scale, in whole numbers |
//! | `shape.rs` | compile-time parameters, and the lengths of a record's parts |
//! | `record.rs` | from records to body |
//! | `connection.rs` | reopening a lost device |
//! | `training` | operations of training, each in one kernel |
//!
//! Records have the format of `codec/record.rs` with one difference: a short chunk's record is as
//! long as a full one's, so that a chunk's number gives its offset. A first word of 256 reports a
//! value that is not finite, and the second word says where.
//!
//! # Equality with the processor
//!
//! On a device that computes with denormals, body and error feedback equal those of
//! [`crate::compress`] bit for bit. Everything is computed in whole numbers except one product, one
//! sum and one difference, each rounded as IEEE 754 prescribes. To keep the compiler from fusing
//! them, the product passes through the integers, combined with a zero known only at run time.
//!
//! A device may flush numbers below 2^-126 (denormals) to zero. Such a `βe`, `Δ` or sum of both is
//! then lost, and a chunk with fewer values above 2^-126 than it keeps may send different small
//! ones. Peers agree all the same: a body decodes to the same values everywhere.

mod code;
mod compress;
#[cfg(feature = "wgpu")]
mod connection;
mod kernel;
mod memory;
mod record;
mod scale;
mod scan;
mod search;
mod shape;
#[cfg(all(test, feature = "wgpu"))]
mod tests;
pub mod training;

pub use compress::{compress, memory_bytes};
#[cfg(feature = "wgpu")]
pub use connection::Connection;
