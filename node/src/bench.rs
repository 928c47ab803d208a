//! Measures how fast this machine compresses, checks and applies contributions, for `weal bench
//! codec`.

use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use weal_kernels::{
    Compression, Contribution, Error, Layout, OuterStep, Rule, apply, compress, decode,
    max_body_bytes, state,
};
use weal_proto::manifest::PPM;
use weal_trainer::{CompressSpeed, OpenDevice};

/// Runs of each measurement; the best one counts.
const RUNS: usize = 5;
/// The least difference of two times: with tiny models it may be noise, or negative.
const NANOSECOND: f64 = 1e-9;
/// Parameters that a thread copies at a time.
const COPIED: usize = 1 << 16;
/// Memory traffic per parameter, in bytes: compressing reads Δ and e and writes e; copying and the
/// outer step read once and write once.
const COMPRESS_BYTES: usize = 3 * size_of::<f32>();
const COPY_BYTES: usize = 2 * size_of::<f32>();

/// The result. Speeds count the memory traffic that cannot be avoided, so that each compares with
/// the speed of a copy.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CodecSpeed {
    /// Parameters of the model.
    pub parameters: usize,
    /// Contributions that were applied together.
    pub contributions: usize,
    /// Threads that were used.
    pub threads: usize,
    /// Bits on the wire per value kept, headers included.
    pub bits_per_value: f64,
    /// Bytes of the pseudo-gradient in f32, divided by the bytes of the contribution.
    pub ratio_f32: f64,
    /// Memory copy; bytes read and bytes written both count.
    pub copy_bytes_per_second: f64,
    /// Error feedback, top-k, quantiser and coder together: 12 bytes per parameter.
    pub compress_bytes_per_second: f64,
    /// Checking one received contribution, on one thread.
    pub check_values_per_second: f64,
    /// Decoding and summing the contributions, without the outer step.
    pub aggregate_values_per_second: f64,
    /// The outer step alone: 8 bytes per parameter.
    pub outer_step_bytes_per_second: f64,
    /// The state root: 4 bytes per parameter.
    pub root_bytes_per_second: f64,
    /// Seconds to compress one pseudo-gradient into a contribution.
    pub compress_seconds: f64,
    /// Seconds to decode all contributions and compute the next weights.
    pub apply_seconds: f64,
    /// The GPU's speeds, if the device is a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSpeed>,
}

/// Speeds of a GPU that has pseudo-gradient and error feedback in its memory.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GpuSpeed {
    /// Name of the GPU.
    pub device: String,
    /// Memory copy on the GPU; bytes read and bytes written both count.
    pub copy_bytes_per_second: f64,
    /// Compressing: 12 bytes per parameter.
    pub compress_bytes_per_second: f64,
    /// Seconds to compress one contribution.
    pub compress_seconds: f64,
}

/// Measures the codec on a model with this layout.
///
/// # Errors
/// When the compression does not fit the layout.
pub(crate) fn codec(
    layout: &Layout,
    compression: &Compression,
    contributions: usize,
) -> Result<CodecSpeed, Error> {
    let parameters = layout.parameters();
    let (mut theta, mut error, mut delta) = (
        noise(0, parameters),
        noise(1, parameters),
        noise(2, parameters),
    );

    let copy = best(|| {
        let pieces = delta.par_chunks(COPIED).zip(theta.par_chunks_mut(COPIED));
        pieces.for_each(|(from, to)| to.copy_from_slice(from));
    });

    // `compress` leaves the next error feedback in `delta`. The old error feedback serves as the
    // next pseudo-gradient.
    let mut bodies = Vec::new();
    let mut compress_seconds = f64::INFINITY;
    for _ in 0..contributions.max(RUNS) {
        let (body, seconds) = timed(|| compress(layout, compression, &error, &mut delta));
        bodies.push(body?);
        compress_seconds = compress_seconds.min(seconds);
        std::mem::swap(&mut error, &mut delta);
    }
    bodies.truncate(contributions);
    drop((error, delta));

    let max_bytes = max_body_bytes(layout, compression)?;
    let check = best(|| decode(layout, compression, &bodies[0], max_bytes).is_ok());
    let read = |body: &Vec<u8>| decode(layout, compression, body, max_bytes);
    let received = bodies.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let silent = compress(
        layout,
        compression,
        &vec![0.0; parameters],
        &mut vec![0.0; parameters],
    )?;
    let silent = bodies
        .iter()
        .map(|_| read(&silent))
        .collect::<Result<Vec<_>, _>>()?;
    let mut apply_all = |set: &[Contribution]| {
        let step = OuterStep {
            contributions: set,
            coefficients_ppm: &vec![PPM; set.len()],
            alpha: 1e-3,
            rule: Rule::MeanOfSenders,
        };
        best(|| apply(layout, &mut theta, &step).is_ok())
    };
    let (outer, all) = (apply_all(&silent), apply_all(&received));
    let root = best(|| state::root(layout, &theta).is_ok());

    let values: usize = received.iter().map(Contribution::values).sum();
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let speed = |bytes: usize, seconds: f64| (bytes * parameters) as f64 / seconds;
    Ok(CodecSpeed {
        parameters,
        contributions,
        threads: rayon::current_num_threads(),
        bits_per_value: 8.0 * bytes as f64 / values as f64,
        ratio_f32: (contributions * parameters * size_of::<f32>()) as f64 / bytes as f64,
        copy_bytes_per_second: speed(COPY_BYTES, copy),
        compress_bytes_per_second: speed(COMPRESS_BYTES, compress_seconds),
        check_values_per_second: received[0].values() as f64 / check,
        aggregate_values_per_second: values as f64 / (all - outer).max(NANOSECOND),
        outer_step_bytes_per_second: speed(COPY_BYTES, outer),
        root_bytes_per_second: speed(size_of::<f32>(), root),
        compress_seconds,
        apply_seconds: all,
        gpu: None,
    })
}

/// Measures the GPU's compressor on a model with this layout; `None` if `device` is the CPU.
///
/// # Errors
/// When the device fails.
pub(crate) fn gpu(
    layout: &Layout,
    compression: &Compression,
    device: &OpenDevice,
) -> Result<Option<GpuSpeed>, weal_trainer::Error> {
    let parameters = layout.parameters();
    let buffers = (&noise(1, parameters)[..], &noise(2, parameters)[..]);
    let measured = device.compress_speed(layout, compression, buffers, RUNS)?;
    Ok(measured.map(
        |CompressSpeed {
             compress_seconds,
             copy_seconds,
         }| GpuSpeed {
            device: device.name().to_owned(),
            copy_bytes_per_second: (COPY_BYTES * parameters) as f64 / copy_seconds,
            compress_bytes_per_second: (COMPRESS_BYTES * parameters) as f64 / compress_seconds,
            compress_seconds,
        },
    ))
}

/// The shortest time of [`RUNS`] runs, in seconds.
fn best<T>(mut run: impl FnMut() -> T) -> f64 {
    (0..RUNS)
        .map(|_| timed(&mut run).1)
        .fold(f64::INFINITY, f64::min)
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let output = std::hint::black_box(run());
    (output, start.elapsed().as_secs_f64())
}

/// Many small values and a few large ones, as in a pseudo-gradient.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let value = |place: usize| {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        let mut bits = (place as u64 ^ seed << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
        uniform * uniform * uniform / 64.0
    };
    (0..count).into_par_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_kernels::TensorSpec;

    #[test]
    fn the_results_are_consistent() {
        let layout = Layout::new(vec![
            TensorSpec::new("a", [512, 1024]),
            TensorSpec::new("b", [100]),
        ])
        .unwrap();
        let compression = Compression {
            keep: 64,
            ..Compression::default()
        };
        let speed = codec(&layout, &compression, 3).unwrap();
        assert_eq!(
            (speed.parameters, speed.contributions),
            (512 * 1024 + 100, 3)
        );
        assert!((8.0..9.0).contains(&speed.bits_per_value), "{speed:?}");
        assert!((230.0..250.0).contains(&speed.ratio_f32), "{speed:?}");
        assert!(speed.apply_seconds > 0.0 && speed.compress_seconds > 0.0);
    }
}
