//! What peers say to one another: the schema, typed ids, signed envelopes, and a limit for every
//! length.
//!
//! Everything here arrives from strangers. [`Message::decode`] therefore refuses, in this order:
//! more bytes than the type may have; lists, parts and ids out of their limits, before anything is
//! allocated for them; bytes that are not the schema's; values that stand for nothing; and any
//! encoding but the canonical one. So one value has one byte string, a hash of the bytes names the
//! value, and decoding costs a small multiple of the bytes.
//!
//! ```
//! use weal_proto::{Commitment, Envelope, Message, RoundNumber, RunId, Samples, SigningKey};
//!
//! let key = SigningKey::from_seed([7; 32]);
//! let run = RunId::from([1; 32]);
//! let commitment = Commitment {
//!     round: RoundNumber(3),
//!     base_root: [2; 32].into(),
//!     blob: [3; 32].into(),
//!     blob_bytes: 1234,
//!     samples: Samples(80),
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
//! | [`message`] | the trait every message has, and how it is decoded |
//! | [`envelope`] | who signed what, for which run |
//! | [`manifest`] | what fixes a run, and the rules it must keep |
//! | [`round`] | commitments, attestations, the round set, votes, certificates |
//! | [`exchange`] | requests and answers between two peers |
//! | [`blob`] | the header of a contribution, and chunk requests |
//! | [`outline`] | how a blob is cut into chunks, named and verified |

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
mod shape;
mod wire;

pub use blob::{BlobHeader, BlobPart, BlobRequest};
pub use envelope::{Envelope, Kind, Signable, Signature, SigningKey};
pub use error::{DecodeError, OutlineError};
pub use exchange::{Request, Response, Status};
pub use ids::{
    BlobHash, EnvelopeHash, LayoutHash, LedgerRoot, PeerId, RoundNumber, RoundSetHash, RunId,
    Samples, Seed, StateRoot, View, Weight,
};
pub use manifest::{Manifest, ManifestError};
pub use message::Message;
pub use outline::{CHUNK_BYTES, Outline};
pub use round::{
    Attestation, Certificate, CommitSignature, Commitment, Decided, Evidence, Finding, Leave,
    Proposal, RoundSet, Verdict, ViewCertificate, ViewSignature, Vote, VoteStep,
};
