//! Writes valid contributions as seeds for the fuzzer:
//! `cargo run --example seeds -- corpus/decode`.

use std::path::PathBuf;

use weal_kernels::compress;
use weal_kernels_fuzz::{SHAPES, shape};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "corpus/decode".into()),
    );
    std::fs::create_dir_all(&folder)?;
    for choice in 0..SHAPES {
        let (layout, compression) = shape(choice);
        for peer in 0..4u64 {
            // Peer 0 has learnt nothing. Every other peer has a different pseudo-gradient.
            let learnt =
                |i: u64| ((i + 1).wrapping_mul(peer * 0x9e37_79b9) % 1009) as f32 / 1009.0 - 0.5;
            let error = vec![0.0; layout.parameters()];
            let mut delta = error.clone();
            if peer > 0 {
                delta
                    .iter_mut()
                    .zip(0..)
                    .for_each(|(delta, i)| *delta = learnt(i));
            }
            let body = compress(&layout, &compression, &error, &mut delta).expect("finite");
            std::fs::write(
                folder.join(format!("shape-{choice}-peer-{peer}")),
                [&[choice][..], &body].concat(),
            )?;
        }
    }
    Ok(())
}
