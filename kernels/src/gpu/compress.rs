//! The host's side of the compressor: checks its inputs, launches the kernel, and reads records
//! back.

use cubecl::MemoryScope;
use cubecl::client::Client;
use cubecl::prelude::{BufferArg, CubeCount, CubeDim};
use cubecl::server::Handle;

use super::shape::Shape;
use super::{kernel, record};
use crate::grid::Grid;
use crate::{Compression, Error, Layout};

/// The most cubes along one axis: the number WebGPU guarantees.
const MOST_CUBES: u32 = 65_535;

/// Bytes of device memory this process has reserved, whether in use or kept for reuse.
pub fn memory_bytes(client: &Client) -> u64 {
    client
        .memory_report(MemoryScope::Device)
        .usage()
        .bytes_reserved
}

/// Compresses a round's pseudo-gradient to the body of a contribution, as [`crate::compress`] does.
///
/// `delta` and `error` each have one buffer of contiguous f32 per tensor of the layout, on
/// `client`'s device; all of them must be distinct. Afterwards `delta` holds the next round's error
/// feedback.
///
/// # Errors
/// The errors of [`crate::compress`], and [`Error::Device`] if the device cannot do it. The
/// contents of `delta` are unusable then.
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

/// Checks that each tensor has a buffer of at least its length.
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

/// Checks that 32-bit indices reach a tensor's values and the words of its records.
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
            why: format!("a tensor of {values} values is too long for 32-bit indices"),
        }),
        None => Ok(()),
    }
}

/// Checks that the device has enough shared memory and threads for a cube.
fn check_device(client: &Client, shape: &Shape) -> Result<(), Error> {
    let hardware = &client.properties().hardware;
    let shared = hardware.max_shared_memory_size;
    if shape.shared_bytes() > shared {
        let why = format!(
            "chunks of {} values need {} bytes of shared memory, and it has {shared}",
            shape.chunk,
            shape.shared_bytes()
        );
        return Err(Error::Device { why });
    }
    if shape.units > hardware.max_units_per_cube {
        let why = format!(
            "a chunk needs {} threads per workgroup, and it allows {}",
            shape.units, hardware.max_units_per_cube
        );
        return Err(Error::Device { why });
    }
    Ok(())
}

/// Launches the kernel for one tensor, and returns the buffer for the records of its chunks.
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
    // SAFETY: each buffer has at least the length passed here, and the kernel stays within it.
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
