//! The messages of the protocol: their schema, typed ids, signed envelopes, and a limit on every
//! length.
//!
//! Messages arrive from strangers. [`Message::decode`] therefore refuses, in this order: more bytes
//! than the type allows; lists, parts and ids beyond their limits, before anything is allocated for
//! them; bytes that do not follow the schema; values without a meaning; and any encoding but the
//! canonical one. So each value has one byte string, a hash of the bytes identifies the value, and
//! decoding costs a small multiple of the bytes.
//!
//! ```
//! use weal_proto::{Commitment, Envelope, Message, RoundNumber, RunId, SampleSpan, SigningKey};
//!
//! let key = SigningKey::from_seed([7; 32]);
//! let run = RunId::from([1; 32]);
//! let commitment = Commitment {
//!     round: RoundNumber(3),
//!     base_root: [2; 32].into(),
//!     blob: [3; 32].into(),
//!     blob_bytes: 1234,
//!     spans: vec![SampleSpan { seed_round: RoundNumber(3), first: 0, count: 80 }],
//! };
//! let envelope = Envelope::sign(&key, run, &commitment);
//! let received = Envelope::decode(&envelope.encode())?;
//! received.verify(run)?;
//! assert_eq!(received.open::<Commitment>()?, commitment);
//! # Ok::<(), weal_proto::DecodeError>(())
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`ids`] | hashes, keys, numbers: one type each |
//! | [`message`] | the trait of every message: encode and decode |
//! | [`envelope`] | who signed what, for which run |
//! | [`manifest`] | what defines a run, and the rules that it must keep |
//! | [`round`] | commitments, attestations, the round set, votes, certificates |
//! | [`exchange`] | control requests and answers |
//! | [`blob`] | the header of a contribution, and requests for parts of a blob |
//! | [`outline`] | how a blob is cut into chunks, named and verified |
//! | [`snapshot`] | what decided rounds lead to, as a node stores it |

#![forbid(unsafe_code)]

pub mod blob;
pub mod envelope;
pub mod error;
pub mod exchange;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod message;
pub mod outline;
pub mod round;
mod schema;
mod shape;
pub mod snapshot;
mod wire;

pub use blob::BlobHeader;
pub use envelope::{Envelope, Kind, Signable, Signature, SigningKey};
pub use error::{DecodeError, ManifestError, OutlineError};
pub use exchange::{Request, Response, Status};
pub use ids::{
    BlobHash, EnvelopeHash, LayoutHash, LedgerRoot, PayloadHash, PeerId, RoundNumber, RoundSetHash,
    RunId, Samples, Seed, SlotId, SnapshotHash, StateRoot, View, Weight,
};
pub use manifest::Manifest;
pub use message::Message;
pub use outline::{CHUNK_BYTES, Outline};
pub use round::{
    Attestation, Certificate, Closed, CommitSignature, Commitment, Decided, Difference, Evidence,
    Leave, ListHash, Named, PlaceSet, Proposal, Recovery, Refusal, RoundSet, SampleSpan, Score,
    Ticket, Verdict, ViewCertificate, ViewSignature, Vote, VoteStep,
};
pub use snapshot::ChainSnapshot;
