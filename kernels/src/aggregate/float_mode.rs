//! Whether a thread computes as IEEE 754 says.

use std::hint::black_box;

use crate::Error;

/// Checks that this thread rounds to nearest, ties to even, and keeps denormal numbers.
///
/// # Errors
/// [`Error::FloatMode`] if it does not.
pub(super) fn check() -> Result<(), Error> {
    let add = |one: f32, other: f32| black_box(black_box(one) + black_box(other));
    let multiply = |one: f32, other: f32| black_box(black_box(one) * black_box(other));
    const HALF_A_BIT: f32 = f32::EPSILON / 2.0;
    // The smallest denormal number as an operand, and a denormal number as a result.
    let keeps_denormals =
        multiply(f32::from_bits(1), 1.0) != 0.0 && multiply(f32::MIN_POSITIVE, 0.5) != 0.0;
    // Ties go to the even neighbour: down for the first two, up for the third.
    let rounds = add(1.0, HALF_A_BIT) == 1.0
        && add(-1.0, -HALF_A_BIT) == -1.0
        && add(1.0 + f32::EPSILON, HALF_A_BIT) == 1.0 + 2.0 * f32::EPSILON;
    if keeps_denormals && rounds {
        Ok(())
    } else {
        Err(Error::FloatMode)
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    #![allow(unsafe_code)] // the processor's mode

    use std::arch::asm;

    use super::*;

    /// Sets bits of this thread's MXCSR register: what a driver's library does.
    fn set_mode(bits: u32) {
        let mut mode = 0_u32;
        // SAFETY: both instructions read or write four bytes at the address, and the bits are
        // defined.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &raw mut mode);
            mode |= bits;
            asm!("ldmxcsr [{}]", in(reg) &raw const mode);
        }
    }

    #[test]
    fn every_other_mode_is_an_error() {
        assert_eq!(check(), Ok(()));
        let modes = [
            ("flush to zero", 0x8000),
            ("denormals are zero", 0x0040),
            ("round down", 0x2000),
            ("round up", 0x4000),
            ("round to zero", 0x6000),
        ];
        for (name, bits) in modes {
            let found = std::thread::spawn(move || {
                set_mode(bits);
                check()
            });
            assert_eq!(found.join().unwrap(), Err(Error::FloatMode), "{name}");
        }
    }
}
