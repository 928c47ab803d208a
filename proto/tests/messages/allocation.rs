//! Decoding may not allocate more than a small multiple of what it is given, whatever that says of
//! itself.

#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use weal_proto::{DecodeError, Message, Response};

use super::for_every_message;
use super::raw::Raw;
use super::round_trip::damaged;
use super::seeded::Seeded;

/// Counts what this thread holds. Growing counts as old and new at once, since both are there while
/// it is copied.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes held at once while `work` ran, beyond those held before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    PEAK.set(0);
    let result = work();
    (result, PEAK.get())
}

/// Decodes and checks what that allocated: prost's copy, ours, and the encoding it is compared
/// with, each with a list's room to grow.
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

/// As many empty entries of one field as the message's limit lets through, in so many levels of
/// parts.
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
            fn honest_messages_cost_little() {
                for seed in 0..200 {
                    decode_frugally::<$message>(&<$message>::of_seed(seed).encode()).unwrap();
                }
            }

            #[test]
            fn damaged_messages_cost_little() {
                for seed in 0..1_000 {
                    let _ = decode_frugally::<$message>(&damaged(<$message>::of_seed(seed).encode(), seed));
                }
            }

            #[test]
            fn empty_entries_cost_nothing() {
                let most = <$message>::MAX_BYTES.saturating_sub(32) / 2;
                for field in 1..=12 {
                    let _ = decode_frugally::<$message>(&bomb(&[field], most));
                    for inner in 1..=8 {
                        let _ = decode_frugally::<$message>(&bomb(&[field, inner], most.min(100_000)));
                    }
                }
            }
        }
    )*};
}

for_every_message!(frugal);

#[test]
fn a_list_in_parts_is_not_merged_past_its_limit() {
    let half = Raw::new().parts(2, &Raw::new(), 1_000);
    let merged = Raw::new().parts(4, &half, 1_000).done();
    assert!(decode_frugally::<Response>(&merged).is_err());
}

#[test]
fn a_length_that_is_not_there_allocates_nothing() {
    let promise = Raw::new()
        .then(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f])
        .done();
    assert!(matches!(
        decode_frugally::<Response>(&promise),
        Err(DecodeError::Malformed { .. })
    ));
}
