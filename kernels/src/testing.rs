//! Inputs for tests. They are made from integers by exact scaling, so they are equal on all
//! machines.

use weal_testing::SplitMix64;

use crate::{Compression, Layout, TensorSpec};

/// `count` values with a few large ones, as in pseudo-gradients: u³ / 64, where u is the top 24
/// bits of the generator's output, in units of 2^-23, minus 1.
pub(crate) fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut random = SplitMix64(seed);
    let mut value = || {
        let u = ((random.next() >> 40) as f32 - 8_388_608.0) / 8_388_608.0;
        u * u * u / 64.0
    };
    (0..count).map(|_| value()).collect()
}

/// A layout of one-dimensional tensors `t0`, `t1`… with these lengths.
pub(crate) fn layout(lengths: &[usize]) -> Layout {
    let tensors = lengths.iter().enumerate();
    Layout::new(
        tensors
            .map(|(i, &length)| TensorSpec::new(format!("t{i}"), [length]))
            .collect(),
    )
    .unwrap()
}

/// Settings with the default decay.
pub(crate) fn settings(chunk: usize, keep: usize) -> Compression {
    Compression {
        chunk,
        keep,
        ..Compression::default()
    }
}

/// The bits of floats, to compare -0 with +0 and NaN with NaN exactly.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The result of `compute`, which must be the same on pools of 1, 2, 3 and 8 threads.
pub(crate) fn on_any_number_of_threads<T: PartialEq + std::fmt::Debug + Send>(
    compute: impl Fn() -> T + Sync,
) -> T {
    let on = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(&compute)
    };
    let alone = on(1);
    for threads in [2, 3, 8] {
        assert_eq!(on(threads), alone, "with {threads} threads");
    }
    alone
}
