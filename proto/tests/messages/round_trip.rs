//! An encoding decodes to its message, and nothing else decodes.

use proptest::collection::vec as list_of;
use proptest::prelude::*;
use weal_proto::round::Verdict;
use weal_proto::{
    Attestation, BlobHeader, Certificate, CommitSignature, Message, PlaceSet, Refusal, RoundNumber,
    Score, Signature, SlotId, View, ViewCertificate, ViewSignature, VoteStep, limits,
};
use weal_proto_seeded::{Seeded, Source};

use super::for_every_message;

/// Damages a valid encoding: changes, removes, inserts or repeats bytes.
pub(crate) fn damaged(mut bytes: Vec<u8>, seed: u64) -> Vec<u8> {
    let mut source = Source::new(seed);
    for _ in 0..=source.below(4) {
        let at = source.below(bytes.len() as u64 + 1) as usize;
        let until = bytes.len().min(at + source.below(40) as usize);
        match source.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..until)),
            2 => bytes.insert(at, source.bytes::<1>()[0]),
            3 => bytes.extend_from_within(at..until),
            _ => bytes[at..until]
                .iter_mut()
                .take(1)
                .for_each(|byte| *byte ^= source.bytes::<1>()[0]),
        }
    }
    bytes
}

/// Checks that decoding accepts only what encoding returns.
fn nothing_but_itself<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert_eq!(
            message.encode(),
            bytes,
            "{}: accepted, but not the canonical encoding",
            M::NAME
        );
    }
}

macro_rules! round_trips {
    ($($name:ident: $message:ty),* $(,)?) => {$(
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn decodes_to_itself(seed: u64) {
                    let message = <$message>::of_seed(seed);
                    let bytes = message.encode();
                    prop_assert!(bytes.len() <= <$message>::MAX_BYTES);
                    prop_assert_eq!(<$message>::decode(&bytes), Ok(message));
                }

                #[test]
                fn random_bytes_do_not_panic(bytes in list_of(any::<u8>(), 0..300)) {
                    nothing_but_itself::<$message>(&bytes);
                }

                #[test]
                fn a_damaged_encoding_does_not_panic(seed: u64, damage: u64) {
                    let bytes = damaged(<$message>::of_seed(seed).encode(), damage);
                    nothing_but_itself::<$message>(&bytes);
                }

                #[test]
                fn one_byte_more_or_less_is_refused(seed: u64, byte: u8) {
                    let bytes = <$message>::of_seed(seed).encode();
                    let longer = [&bytes[..], &[byte]].concat();
                    nothing_but_itself::<$message>(&longer);
                    let too_long = vec![byte; <$message>::MAX_BYTES + 1];
                    prop_assert!(<$message>::decode(&too_long).is_err());
                    if let Some((_, shorter)) = bytes.split_last() {
                        nothing_but_itself::<$message>(shorter);
                    }
                }
            }
        }
    )*};
}

for_every_message!(round_trips);

proptest! {
    #[test]
    fn a_blob_splits_into_its_header_and_body(
        seed: u64,
        body in list_of(any::<u8>(), 0..100),
    ) {
        let header = BlobHeader::of_seed(seed);
        let blob = header.lead(&body);
        prop_assert_eq!(BlobHeader::split(&blob), Ok((header, &body[..])));
    }

    #[test]
    fn a_damaged_blob_does_not_panic(seed: u64, damage: u64) {
        let blob = damaged(BlobHeader::of_seed(seed).lead(b"body"), damage);
        if let Ok((header, body)) = BlobHeader::split(&blob) {
            prop_assert_eq!(header.lead(body), blob);
        }
    }
}

/// The `n`th id in rising order.
fn nth_id(n: usize) -> [u8; 32] {
    let mut id = [0xff; 32];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    id
}

#[test]
fn the_longest_honest_messages_fit_their_limits() {
    let (round, view, signature) = (RoundNumber(u64::MAX), View(u32::MAX), Signature([0xff; 64]));
    fits(Attestation {
        round,
        base_root: [1; 32].into(),
        valid: PlaceSet::default(),
        list: [2; 32].into(),
        refused: (0..=255)
            .map(|slot| Refusal {
                slot: SlotId(slot),
                verdict: Verdict::Contradicted,
            })
            .collect(),
        attempt: u32::MAX,
        scores: (0..=255)
            .map(|slot| Score {
                slot: SlotId(slot),
                own_ppm: i32::MIN,
                held_ppm: i32::MIN,
            })
            .collect(),
    });

    let commit = |n| CommitSignature {
        peer: nth_id(n).into(),
        signature,
    };
    let signatures = (0..limits::VOTERS).map(commit).collect();
    fits(Certificate {
        round,
        view,
        value: [1; 32].into(),
        signatures,
    });

    let value = Some([1; 32].into());
    let vote = |n| ViewSignature {
        peer: nth_id(n).into(),
        step: VoteStep::Precommit,
        value,
        signature,
    };
    let signatures = (0..limits::VOTERS).map(vote).collect();
    fits(ViewCertificate {
        round,
        view,
        polka: true,
        value,
        signatures,
        precommits: true,
    });
}

fn fits<M: Message + PartialEq + std::fmt::Debug>(message: M) {
    assert_eq!(M::decode(&message.encode()), Ok(message));
}
