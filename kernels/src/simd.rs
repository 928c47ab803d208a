//! Vector widths chosen at run time.
//!
//! Programs are compiled for the oldest processor they may run on, which on x86-64 has vectors of
//! 128 bits. Hot functions here are compiled a second time for 256 bits (AVX2), and that version
//! runs where it can. Both give the same result bit for bit: the source is the same, and the
//! compiler neither reorders nor fuses floating-point operations. A test of each such function
//! compares both versions. On other architectures the plain version already uses the widest vectors
//! (NEON on aarch64).

/// Defines a function that calls `$inner`, compiled for AVX2 if the processor has it. `$inner` and
/// everything it calls must be `#[inline(always)]`.
macro_rules! multiversion {
    (
        $(#[$doc:meta])*
        $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $output:ty
            = $inner:ident
    ) => {
        $(#[$doc])*
        $visible fn $name($($argument: $type),*) -> $output {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                fn compiled_for_avx2($($argument: $type),*) -> $output {
                    $inner($($argument),*)
                }
                if $crate::simd::has_avx2() {
                    // SAFETY: the processor has all features that `compiled_for_avx2` enables.
                    #[allow(unsafe_code)]
                    return unsafe { compiled_for_avx2($($argument),*) };
                }
            }
            $inner($($argument),*)
        }
    };
}
pub(crate) use multiversion;

/// Prefetches the cache lines of the 64 values from `start` on. Any pointer is safe.
#[inline(always)]
pub(crate) fn prefetch(start: *const f32) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..4 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no visible effect, and never faults.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(16 * line).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

/// Whether the processor has AVX2 and the bit manipulation instructions that came with it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
}
