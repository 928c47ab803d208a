//! Decoding allocates at most a small multiple of its input, whatever the input announces.

#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use weal_proto::{DecodeError, Message, Response};
use weal_proto_seeded::Seeded;

use super::for_every_message;
use super::raw::Raw;
use super::round_trip::damaged;

/// Counts the bytes that this thread holds. A reallocation counts old and new bytes, because both
/// exist during the copy.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: the caller upholds the contract of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller upholds the contract of the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The peak of bytes held while `work` ran, beyond those held before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    PEAK.set(0);
    let result = work();
    (result, PEAK.get())
}

/// Decodes, and checks the bytes allocated: prost's copy, ours, and the encoding for comparison,
/// each with spare capacity.
fn decode_frugally<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let (result, peak) = peak_of(|| M::decode(bytes));
    let bound = 6 * bytes.len() + 1_024;
    assert!(
        peak <= bound,
        "{}: {peak} bytes allocated for {} received",
        M::NAME,
        bytes.len()
    );
    result
}

/// `entries` empty entries of a field, nested in parts.
fn bomb(levels: &[u32], entries: usize) -> Vec<u8> {
    let (innermost, outer) = levels.split_last().unwrap();
    let entries = Raw::new().parts(*innermost, &Raw::new(), entries);
    outer
        .iter()
        .rev()
        .fold(entries, |part, field| Raw::new().part(*field, &part))
        .done()
}

macro_rules! frugal {
    ($($name:ident: $message:ty),* $(,)?) => {$(
        mod $name {
            use super::*;

            #[test]
            fn valid_messages_cost_little() {
                for seed in 0..200 {
                    decode_frugally::<$message>(&<$message>::of_seed(seed).encode()).unwrap();
                }
            }

            #[test]
            fn damaged_messages_cost_little() {
                for seed in 0..1_000 {
                    let bytes = damaged(<$message>::of_seed(seed).encode(), seed);
                    let _ = decode_frugally::<$message>(&bytes);
                }
            }

            #[test]
            fn empty_entries_cost_nothing() {
                let most = <$message>::MAX_BYTES.saturating_sub(32) / 2;
                for field in 1..=12 {
                    let _ = decode_frugally::<$message>(&bomb(&[field], most));
                    for inner in 1..=8 {
                        let bytes = bomb(&[field, inner], most.min(100_000));
                        let _ = decode_frugally::<$message>(&bytes);
                    }
                }
            }
        }
    )*};
}

for_every_message!(frugal);

#[test]
fn a_list_split_into_parts_does_not_exceed_its_limit() {
    let half = Raw::new().parts(2, &Raw::new(), 1_000);
    let merged = Raw::new().parts(4, &half, 1_000).done();
    assert!(decode_frugally::<Response>(&merged).is_err());
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    let promise = Raw::new()
        .then(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f])
        .done();
    assert!(matches!(
        decode_frugally::<Response>(&promise),
        Err(DecodeError::Malformed { .. })
    ));
}
