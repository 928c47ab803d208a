//! The compressor on a GPU, in CubeCL: only what is sent leaves the device.
//!
//! [`compress`] does what [`crate::compress`] does, with pseudo-gradient and error feedback on a
//! device. One kernel a tensor reads both once and writes what is left where the pseudo-gradient
//! was; of each chunk comes back a *record* of a few words, 80 bytes for 4096 values, from which
//! the body is put together here.
//!
//! | file | holds |
//! |---|---|
//! | `kernel.rs` | the kernel: a cube of units (a workgroup of threads) for each chunk |
//! | `search.rs` | the least magnitude that is kept |
//! | `code.rs` | signs and gaps, coded |
//! | `scan.rs` | what the units before a unit hold |
//! | `scale.rs` | the scale, in whole numbers |
//! | `shape.rs` | what the kernel is compiled for, and the lengths of a record's parts |
//! | `record.rs` | records to body |
//! | `connection.rs` | a device that was lost, opened anew |
//!
//! A record is that of `codec/record.rs`, but for its length: a short chunk's is as long as a whole
//! one's, so that a chunk's number tells where it is. A first word of 256 says that something is
//! not finite, and the second where.
//!
//! # How equal
//!
//! Body and error feedback are those of [`crate::compress`], bit for bit, on a device that computes
//! with denormals. All is in whole numbers but for one product, one sum and one difference, each
//! rounded as IEEE 754 says, and kept from being fused: the product goes through the integers,
//! combined with a zero that is only known at run time.
//!
//! A device may take numbers below 2^-126 (denormals) for zero, as they come in or as they go out.
//! There, such a `βe`, `Δ` or sum of both is lost, and where a chunk has fewer values above 2^-126
//! than it keeps, it may send others of those below. Nothing that peers agree on depends on it: a
//! body says the same to all who read it.

mod code;
#[cfg(feature = "wgpu")]
mod connection;
mod kernel;
mod record;
mod scale;
mod scan;
mod search;
mod shape;

use cubecl::MemoryScope;
use cubecl::client::Client;
use cubecl::prelude::{BufferArg, CubeCount, CubeDim};
use cubecl::server::Handle;

use crate::grid::Grid;
use crate::{Compression, Error, Layout};
use shape::Shape;

#[cfg(feature = "wgpu")]
pub use connection::Connection;

/// Cubes along one axis, at most: what WebGPU promises.
const MOST_CUBES: u32 = 65_535;

/// Bytes of the device's memory that this process has set aside, used or kept for use.
pub fn memory_bytes(client: &Client) -> u64 {
    client
        .memory_report(MemoryScope::Device)
        .usage()
        .bytes_reserved
}

/// Compresses a round's pseudo-gradient to the body of a contribution, as [`crate::compress`] does.
///
/// `delta` and `error` are a buffer on `client`'s device for each tensor of the layout, of f32
/// without gaps; none of them may be another. Afterwards those of `delta` hold the next round's
/// error feedback.
///
/// # Errors
/// Those of [`crate::compress`], and [`Error::Device`] where the device cannot do it; what is in
/// `delta` is of no use then.
pub fn compress(
    client: &Client,
    layout: &Layout,
    compression: &Compression,
    error: &[Handle],
    delta: &[Handle],
) -> Result<Vec<u8>, Error> {
    let grid = Grid::new(layout, compression)?;
    let shape = Shape::new(compression);
    check_buffers(layout, "error", error)?;
    check_buffers(layout, "delta", delta)?;
    check_lengths(layout, &shape)?;
    check_device(client, &shape)?;
    let launch = |(tensor, (error, delta)): (usize, (&Handle, &Handle))| {
        launch(
            client,
            &shape,
            compression.decay(),
            layout.range(tensor).len(),
            error,
            delta,
        )
    };
    let records: Vec<Handle> = error.iter().zip(delta).enumerate().map(launch).collect();
    let records = client.read(records).map_err(|error| Error::Device {
        why: error.to_string(),
    })?;
    record::assemble(layout, compression, &grid, &shape, &records)
}

/// Whether there is a buffer for each tensor, as long as it is at least.
fn check_buffers(layout: &Layout, what: &'static str, buffers: &[Handle]) -> Result<(), Error> {
    let bytes = |values: usize| (values * size_of::<f32>()) as u64;
    let fits = |(buffer, range): (&Handle, std::ops::Range<usize>)| {
        buffer.size_in_used() >= bytes(range.len())
    };
    if buffers.len() == layout.tensors().len() && buffers.iter().zip(layout.ranges()).all(fits) {
        return Ok(());
    }
    let got = buffers
        .iter()
        .map(|buffer| buffer.size_in_used() as usize / size_of::<f32>())
        .sum();
    Err(Error::Length {
        what,
        expected: layout.parameters(),
        got,
    })
}

/// Whether 32 bits number a tensor's values and the words of its records.
fn check_lengths(layout: &Layout, shape: &Shape) -> Result<(), Error> {
    let words = |values: usize| {
        values
            .div_ceil(shape.chunk as usize)
            .saturating_mul(shape.record_words() as usize)
    };
    match layout
        .ranges()
        .map(|range| range.len())
        .find(|&values| values.max(words(values)) > u32::MAX as usize)
    {
        Some(values) => Err(Error::Device {
            why: format!("a tensor of {values} values is too long for it"),
        }),
        None => Ok(()),
    }
}

/// Whether the device has what a chunk's units need.
fn check_device(client: &Client, shape: &Shape) -> Result<(), Error> {
    let hardware = &client.properties().hardware;
    let shared = hardware.max_shared_memory_size;
    if shape.shared_bytes() > shared {
        let why = format!(
            "chunks of {} need {} bytes of shared memory, and it has {shared}",
            shape.chunk,
            shape.shared_bytes()
        );
        return Err(Error::Device { why });
    }
    if shape.units > hardware.max_units_per_cube {
        let why = format!(
            "{} threads work on a chunk, and it has {}",
            shape.units, hardware.max_units_per_cube
        );
        return Err(Error::Device { why });
    }
    Ok(())
}

/// Has one tensor compressed, and returns where the records of its chunks will be.
fn launch(
    client: &Client,
    shape: &Shape,
    decay: f32,
    length: usize,
    error: &Handle,
    delta: &Handle,
) -> Handle {
    let chunks = length.div_ceil(shape.chunk as usize);
    let words = chunks * shape.record_words() as usize;
    let records = client.empty(words * size_of::<u32>());
    let rows = chunks.div_ceil(MOST_CUBES as usize) as u32;
    let cubes = CubeCount::Static((chunks as u32).min(MOST_CUBES), rows, 1);
    // SAFETY: each buffer is as long as is said here, and the kernel leaves what is behind its
    // chunk's values alone.
    #[allow(unsafe_code)]
    unsafe {
        kernel::compress_chunks::launch_unchecked(
            client,
            cubes,
            CubeDim::new_1d(shape.units),
            BufferArg::from_raw_parts(error.clone(), length),
            BufferArg::from_raw_parts(delta.clone(), length),
            BufferArg::from_raw_parts(records.clone(), words),
            decay,
            length as u32,
            0,
            *shape,
        );
    }
    records
}

#[cfg(all(test, feature = "wgpu"))]
mod tests;
