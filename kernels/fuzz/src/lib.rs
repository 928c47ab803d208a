//! Shared by the fuzz target and the generator of its seed inputs.

use weal_kernels::{Compression, Layout, TensorSpec};

/// The number of different results of [`shape`].
pub const SHAPES: u8 = 6;

/// A small layout with settings: full and short chunks, single values, extreme densities.
pub fn shape(choice: u8) -> (Layout, Compression) {
    let (lengths, chunk, keep): (&[usize], usize, usize) = match choice % SHAPES {
        0 => (&[8], 8, 2),
        1 => (&[1, 1, 1], 4096, 64),
        2 => (&[70, 33], 32, 3),
        3 => (&[40], 16, 16),
        4 => (&[40_000], 32_768, 2),
        _ => (&[5000, 130], 4096, 64),
    };
    let tensors = lengths.iter().enumerate();
    let tensors = tensors
        .map(|(i, &length)| TensorSpec::new(format!("t{i}"), [length]))
        .collect();
    let layout = Layout::new(tensors).expect("a valid layout");
    (
        layout,
        Compression {
            chunk,
            keep,
            ..Compression::default()
        },
    )
}
