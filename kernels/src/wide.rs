//! The widest vectors that a processor has, found out at run time.
//!
//! A program is compiled for the least processor it may meet: on x86-64 one with vectors of 128
//! bits. What is hot here is compiled a second time for those of 256 bits (AVX2), and that code is
//! taken where it can run. Both compute the same, bit for bit: the source is the same, the compiler
//! keeps the order of every floating-point operation, and it never fuses two into one; tests of
//! each such function hold both against one another. On other architectures the plain code has the
//! widest vectors already (NEON on aarch64).

/// Defines a function that does what `$inner` does, which must be `#[inline(always)]`, and so must
/// be what that calls.
macro_rules! widest {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $output:ty = $inner:ident) => {
        $(#[$doc])*
        $visible fn $name($($argument: $type),*) -> $output {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                fn compiled_for_avx2($($argument: $type),*) -> $output {
                    $inner($($argument),*)
                }
                if $crate::wide::has_avx2() {
                    // SAFETY: the processor has all that is enabled there.
                    #[allow(unsafe_code)]
                    return unsafe { compiled_for_avx2($($argument),*) };
                }
            }
            $inner($($argument),*)
        }
    };
}
pub(crate) use widest;

/// Asks for the cache lines of the 64 values from there on, which are about to be used; harmless
/// wherever it points.
#[inline(always)]
pub(crate) fn prefetch(start: *const f32) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..4 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, and never faults.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(16 * line).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

/// Whether the processor has AVX2 and the instructions on bits that came with it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
}
