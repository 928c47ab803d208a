//! Random values of every message of `weal-proto`, for tests and fuzzing.
//!
//! A value depends only on its seed, on every machine and for ever: BLAKE3's output stream is the
//! only source of randomness. `proto/conformance.txt` holds hashes of these values' encodings, so a
//! change here changes that file.

#![forbid(unsafe_code)]

mod manifest;
mod snapshot;

use weal_proto::round::Verdict;
use weal_proto::{
    Attestation, BlobHeader, Certificate, Closed, CommitSignature, Commitment, Decided, Difference,
    Envelope, Evidence, Leave, Named, Outline, PeerId, PlaceSet, Proposal, Recovery, Refusal,
    Request, Response, RoundNumber, RoundSet, RunId, SampleSpan, Score, Signable, Signature,
    SigningKey, SlotId, Status, Ticket, View, ViewCertificate, ViewSignature, Vote, VoteStep,
};

/// An endless stream of random bytes, drawn from a seed.
pub struct Source(blake3::OutputReader);

impl Source {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal seeded messages v1");
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A number of random size: every number of bits is equally likely.
    pub fn number(&mut self) -> u64 {
        let bits = self.below(65) as u32;
        u64::from_le_bytes(self.bytes())
            .checked_shr(64 - bits)
            .unwrap_or(0)
    }

    /// The lower half of [`Self::number`].
    pub fn short_number(&mut self) -> u32 {
        self.number() as u32
    }

    /// A number from 0 to `end`, excluding `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % end
    }

    /// A number from `from` to `to`, including both.
    pub fn within(&mut self, from: u32, to: u32) -> u32 {
        from + self.below(u64::from(to - from) + 1) as u32
    }

    /// True or false.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn any<T: Seeded>(&mut self) -> T {
        T::seeded(self)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Fewer than `end` values, strictly rising by their key.
    fn rising<T, K: Ord>(
        &mut self,
        end: u64,
        make: impl Fn(&mut Self) -> T,
        key: impl Fn(&T) -> K,
    ) -> Vec<T> {
        let mut list: Vec<T> = (0..self.below(end)).map(|_| make(self)).collect();
        list.sort_by_key(&key);
        list.dedup_by_key(|entry| key(entry));
        list
    }

    fn list<T: Seeded>(&mut self, end: u64) -> Vec<T> {
        (0..self.below(end)).map(|_| self.any()).collect()
    }

    fn signed<M: Signable + Seeded>(&mut self) -> Envelope {
        let key = SigningKey::from_seed(self.bytes());
        Envelope::sign(&key, self.bytes().into(), &M::seeded(self))
    }

    fn all_signed<M: Signable + Seeded>(&mut self, end: u64) -> Vec<Envelope> {
        self.rising(end, Self::signed::<M>, |envelope| envelope.signer)
    }
}

/// A value drawn from a [`Source`].
pub trait Seeded: Sized {
    /// Draws the next value.
    fn seeded(source: &mut Source) -> Self;

    /// Draws the first value of a seed.
    fn of_seed(seed: u64) -> Self {
        Self::seeded(&mut Source::new(seed))
    }
}

impl Seeded for RoundNumber {
    fn seeded(source: &mut Source) -> Self {
        Self(source.number())
    }
}

impl Seeded for View {
    fn seeded(source: &mut Source) -> Self {
        Self(source.short_number())
    }
}

impl Seeded for Signature {
    fn seeded(source: &mut Source) -> Self {
        Self(source.bytes())
    }
}

impl Seeded for Commitment {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            base_root: source.bytes().into(),
            blob: source.bytes().into(),
            blob_bytes: source.number(),
            spans: source.rising(4, SampleSpan::seeded, |span| (span.seed_round, span.first)),
        }
    }
}

impl Seeded for SampleSpan {
    fn seeded(source: &mut Source) -> Self {
        Self {
            seed_round: source.any(),
            first: source.number(),
            count: source.number(),
        }
    }
}

impl Seeded for Score {
    fn seeded(source: &mut Source) -> Self {
        Self {
            slot: SlotId(source.below(256) as u8),
            own_ppm: source.short_number() as i32,
            held_ppm: source.short_number() as i32,
        }
    }
}

fn place_set(source: &mut Source) -> PlaceSet {
    (0..source.below(9))
        .map(|_| SlotId(source.below(256) as u8))
        .collect()
}

impl Seeded for Refusal {
    fn seeded(source: &mut Source) -> Self {
        Self {
            slot: SlotId(source.below(256) as u8),
            verdict: source.one_of(&Verdict::ALL[1..]),
        }
    }
}

impl Seeded for Attestation {
    fn seeded(source: &mut Source) -> Self {
        let valid = place_set(source);
        let mut refused = source.rising(4, Refusal::seeded, |refusal| refusal.slot);
        refused.retain(|refusal| !valid.contains(refusal.slot));
        Self {
            round: source.any(),
            base_root: source.bytes().into(),
            valid,
            list: source.bytes().into(),
            refused,
            attempt: source.short_number(),
            scores: source.rising(4, Score::seeded, |score| score.slot),
        }
    }
}

impl Seeded for Closed {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
        }
    }
}

impl Seeded for Ticket {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            nonce: source.number(),
        }
    }
}

impl Seeded for Recovery {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            parent: source.bytes().into(),
            base_root: source.bytes().into(),
            gone: peers(source),
        }
    }
}

fn peers(source: &mut Source) -> Vec<PeerId> {
    source.rising(4, |source| PeerId::from(source.bytes()), |peer| *peer)
}

impl Seeded for Named {
    fn seeded(source: &mut Source) -> Self {
        Self {
            slot: SlotId(source.below(256) as u8),
            commitment: source.bytes().into(),
        }
    }
}

impl Seeded for Difference {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            slot: SlotId(source.below(256) as u8),
            commitment: source.bytes().into(),
        }
    }
}

impl Seeded for Leave {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
        }
    }
}

impl Seeded for Evidence {
    fn seeded(source: &mut Source) -> Self {
        Self {
            first: source.any::<Envelope>().bare(),
            second: source.any::<Envelope>().bare(),
        }
    }
}

impl Seeded for RoundSet {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            parent: source.bytes().into(),
            base_root: source.bytes().into(),
            ledger_root: source.bytes().into(),
            contributions: source.all_signed::<Commitment>(5),
            attestations: source.all_signed::<Attestation>(4),
            leaves: source.all_signed::<Leave>(3),
            evidence: source.rising(3, Evidence::seeded, |evidence| evidence.first.signer),
            attempt: source.short_number(),
            named: source.rising(4, Named::seeded, |named| named.slot),
            differences: source.rising(3, Difference::seeded, |it| (it.peer, it.slot)),
            late: source.all_signed::<Attestation>(3),
            tickets: source.all_signed::<Ticket>(3),
            gone: peers(source),
        }
    }
}

impl Seeded for Proposal {
    fn seeded(source: &mut Source) -> Self {
        let view = source.short_number();
        let proof_of_lock =
            (view > 0 && source.coin()).then(|| View(source.below(view.into()) as u32));
        Self {
            round: source.any(),
            view: View(view),
            proof_of_lock,
            value: source.bytes().into(),
        }
    }
}

impl Seeded for VoteStep {
    fn seeded(source: &mut Source) -> Self {
        source.one_of(&[Self::Prevote, Self::Precommit])
    }
}

impl Seeded for Vote {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            view: source.any(),
            step: source.any(),
            value: value(source),
        }
    }
}

fn value(source: &mut Source) -> Option<weal_proto::RoundSetHash> {
    source.coin().then(|| source.bytes().into())
}

impl Seeded for CommitSignature {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            signature: source.any(),
        }
    }
}

impl Seeded for Certificate {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            view: source.any(),
            value: source.bytes().into(),
            signatures: source.rising(9, CommitSignature::seeded, |signature| signature.peer),
        }
    }
}

impl Seeded for ViewSignature {
    fn seeded(source: &mut Source) -> Self {
        Self {
            peer: source.bytes().into(),
            step: source.any(),
            value: value(source),
            signature: source.any(),
        }
    }
}

impl Seeded for ViewCertificate {
    fn seeded(source: &mut Source) -> Self {
        Self {
            round: source.any(),
            view: source.any(),
            polka: source.coin(),
            value: value(source),
            signatures: source.rising(9, ViewSignature::seeded, |signature| {
                (signature.peer, signature.step)
            }),
            precommits: source.coin(),
        }
    }
}

impl Seeded for Decided {
    fn seeded(source: &mut Source) -> Self {
        Self {
            value: source.any(),
            certificate: source.any(),
        }
    }
}

impl Seeded for Envelope {
    fn seeded(source: &mut Source) -> Self {
        match source.below(9) {
            0 => source.signed::<Commitment>(),
            1 => source.signed::<Attestation>(),
            2 => Self {
                companion: source.bytes::<40>().to_vec(),
                ..source.signed::<Proposal>()
            },
            5 => source.signed::<Ticket>(),
            6 => source.signed::<Closed>(),
            7 => source.signed::<Recovery>(),
            3 => source.signed::<Vote>(),
            4 => source.signed::<ViewCertificate>(),
            _ => source.signed::<Leave>(),
        }
    }
}

impl Seeded for Request {
    fn seeded(source: &mut Source) -> Self {
        match source.below(5) {
            0 => Self::Status,
            1 => Self::Manifest,
            2 => Self::Decided {
                from: source.any(),
                at_most: source.short_number(),
            },
            3 => Self::RoundMessages {
                round: source.any(),
            },
            _ => Self::State {
                round: source.any(),
            },
        }
    }
}

impl Seeded for Status {
    fn seeded(source: &mut Source) -> Self {
        Self {
            decided_rounds: source.number(),
            weights_round: source.any(),
            oldest_blobs_round: source.any(),
            rules: source.short_number(),
            newest: source.bytes().into(),
        }
    }
}

impl Seeded for Response {
    fn seeded(source: &mut Source) -> Self {
        match source.below(5) {
            0 => Self::Status(source.any()),
            1 => Self::Manifest(source.bytes::<70>().to_vec()),
            2 => Self::Decided(source.list(4)),
            3 => Self::RoundMessages(source.list(6)),
            _ => Self::State {
                round: source.any(),
                tensors: (0..source.below(20))
                    .map(|_| source.bytes().into())
                    .collect(),
            },
        }
    }
}

impl Seeded for BlobHeader {
    fn seeded(source: &mut Source) -> Self {
        Self {
            run: source.bytes().into(),
            round: source.any(),
            peer: source.bytes().into(),
            base_root: source.bytes().into(),
            layout: source.bytes().into(),
            codec: source.short_number(),
        }
    }
}

impl Seeded for Outline {
    fn seeded(source: &mut Source) -> Self {
        Self {
            bytes: source.number(),
            chunks: (0..source.below(9)).map(|_| source.bytes()).collect(),
        }
    }
}

impl Seeded for RunId {
    fn seeded(source: &mut Source) -> Self {
        source.bytes().into()
    }
}
