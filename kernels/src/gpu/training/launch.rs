//! Buffers, and the cubes of a launch.

use cubecl::client::Client;
use cubecl::prelude::{BufferArg, CubeCount};
use cubecl::server::Handle;

/// Units (threads) of a cube: the number WebGPU guarantees.
pub(super) const UNITS: u32 = 256;
/// The most cubes along one axis: the number WebGPU guarantees.
const MOST_CUBES: usize = 65_535;

/// A buffer of contiguous f32, or of other values of 32 bits, on a device.
#[derive(Clone, Debug)]
pub struct Values {
    /// The buffer.
    pub handle: Handle,
    /// Number of values.
    pub length: usize,
}

impl Values {
    /// A buffer with undefined contents.
    pub fn empty(client: &Client, length: usize) -> Self {
        Self {
            handle: client.empty(length.max(1) * size_of::<f32>()),
            length,
        }
    }

    /// # Panics
    /// If the number of values is not `expected`, or the buffer is too short for it.
    pub(super) fn check(&self, what: &str, expected: usize) {
        let bytes = (self.length * size_of::<f32>()) as u64;
        assert!(
            self.length == expected && self.handle.size_in_used() >= bytes,
            "{what}: {} values instead of {expected}",
            self.length
        );
    }

    pub(super) fn argument(&self) -> BufferArg {
        // SAFETY: `check` compared the number of values with the buffer.
        #[allow(unsafe_code)]
        unsafe {
            BufferArg::from_raw_parts(self.handle.clone(), self.length)
        }
    }
}

/// A grid of at least that many cubes. The last row of cubes may extend past the number.
pub(super) fn grid(cubes: usize) -> CubeCount {
    let rows = cubes.div_ceil(MOST_CUBES).max(1);
    CubeCount::Static(cubes.clamp(1, MOST_CUBES) as u32, rows as u32, 1)
}

/// A grid with one unit for each of `values`.
pub(super) fn grid_of_units(values: usize) -> CubeCount {
    grid(values.div_ceil(UNITS as usize))
}

/// A number of values as kernels count them.
///
/// # Panics
/// If it has more than 32 bits.
pub(super) fn count(values: usize) -> u32 {
    assert!(
        u32::try_from(values).is_ok(),
        "{values} values are too many for 32-bit indices"
    );
    values as u32
}
