//! Envelopes: who signed what, for which run.
//!
//! The signature is over `domain ‖ run ‖ payload as sent`. The domain names the kind of message, so
//! bytes signed as one kind, or for one run, are never valid as another. Signatures are Ed25519
//! under the rules of ZIP-215, so that all verifiers agree on which are valid.

use std::fmt;

use crate::error::DecodeError;
use crate::ids::{EnvelopeHash, PayloadHash, PeerId, RunId};
use crate::limits;
use crate::message::{Message, Standalone};
use crate::schema::{Value, message, numbered};
use crate::shape::Form;

/// BLAKE3 context under which an envelope is hashed.
const CONTEXT: &str = "commonweal envelope v2";
/// BLAKE3 context under which a payload is hashed.
const PAYLOAD_CONTEXT: &str = "commonweal payload v2";
/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

numbered! {
    /// The kind of message in an envelope.
    pub enum Kind: u32 {
        /// A [`crate::Commitment`].
        Commitment = 1,
        /// An [`crate::Attestation`].
        Attestation = 2,
        /// A [`crate::Proposal`].
        Proposal = 3,
        /// A [`crate::Vote`].
        Vote = 4,
        /// A [`crate::ViewCertificate`].
        ViewCertificate = 5,
        /// A [`crate::Leave`].
        Leave = 6,
        /// A [`crate::Ticket`].
        Ticket = 7,
        /// A [`crate::Closed`].
        Closed = 8,
        /// A [`crate::Recovery`].
        Recovery = 9,
    }
}

impl Kind {
    /// Limit on the payload in bytes, checked before the signature.
    pub const fn max_payload_bytes(self) -> usize {
        match self {
            Self::Commitment => limits::COMMITMENT_BYTES,
            Self::Attestation => limits::ATTESTATION_BYTES,
            Self::Proposal => limits::PROPOSAL_BYTES,
            Self::Vote => limits::VOTE_BYTES,
            Self::ViewCertificate => limits::CERTIFICATE_BYTES,
            Self::Leave => limits::LEAVE_BYTES,
            Self::Ticket => limits::TICKET_BYTES,
            Self::Closed => limits::CLOSED_BYTES,
            Self::Recovery => limits::RECOVERY_BYTES,
        }
    }

    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Commitment => b"commonweal commitment v2",
            Self::Attestation => b"commonweal attestation v2",
            Self::Proposal => b"commonweal proposal v2",
            Self::Vote => b"commonweal vote v2",
            Self::ViewCertificate => b"commonweal view certificate v2",
            Self::Leave => b"commonweal leave v2",
            Self::Ticket => b"commonweal ticket v2",
            Self::Closed => b"commonweal closed v2",
            Self::Recovery => b"commonweal recovery v2",
        }
    }
}

/// A message that is sent signed.
pub trait Signable: Message {
    /// The kind of its envelope.
    const KIND: Kind;
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signature({})",
            hex::encode(self.0.get(..4).unwrap_or_default())
        )
    }
}

impl Value for Signature {
    type Wire = Vec<u8>;
    const FORM: Form = Form::Exact(SIGNATURE_BYTES);

    fn to_field(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn from_field(field: &'static str, wire: Vec<u8>) -> Result<Self, DecodeError> {
        match wire.as_slice().try_into() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(DecodeError::WrongLength {
                field,
                bytes: wire.len(),
                expected: SIGNATURE_BYTES,
            }),
        }
    }
}

/// A peer's secret key. Signing is deterministic: the same message gets the same signature after a
/// restart.
#[derive(Clone)]
pub struct SigningKey(ed25519_consensus::SigningKey);

impl SigningKey {
    /// The key derived from a 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_consensus::SigningKey::from(seed))
    }

    /// The seed. Anyone who has it can sign as this peer.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key.
    pub fn peer(&self) -> PeerId {
        self.0.verification_key().to_bytes().into()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.peer().short())
    }
}

message! {
    /// A signed message, with its payload exactly as signed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Envelope("envelope", limits::ENVELOPE_BYTES, check_payload) {
        /// The kind of the payload.
        pub kind: Kind = 1,
        /// The peer that signed.
        pub signer: PeerId = 2,
        /// The run that the message belongs to.
        pub run: RunId = 3,
        /// Canonical encoding of the message.
        pub payload: Vec<u8> = 4,
        /// Signature over domain, run and payload.
        pub signature: Signature = 5,
        /// What travels beside the message without being signed: the encoded round set beside a
        /// proposal that is sent, otherwise nothing. No hash covers it.
        pub companion: Vec<u8> = 6,
    }
}

fn check_payload(envelope: &Envelope) -> Result<(), DecodeError> {
    let (bytes, limit) = (envelope.payload.len(), envelope.kind.max_payload_bytes());
    if bytes > limit {
        return Err(DecodeError::TooLong {
            message: "envelope payload",
            bytes,
            limit,
        });
    }
    let (bytes, limit) = match envelope.kind {
        Kind::Proposal => (envelope.companion.len(), limits::ROUND_SET_BYTES),
        _ => (envelope.companion.len(), 0),
    };
    if bytes > limit {
        return Err(DecodeError::TooLong {
            message: "what travels beside an envelope",
            bytes,
            limit,
        });
    }
    Ok(())
}

impl Standalone for Envelope {}

impl Envelope {
    /// Signs a message for a run.
    pub fn sign<M: Signable>(key: &SigningKey, run: RunId, message: &M) -> Self {
        let payload = message.encode();
        let signature = Signature(key.0.sign(&signed_bytes(M::KIND, run, &payload)).to_bytes());
        Self {
            kind: M::KIND,
            signer: key.peer(),
            run,
            payload,
            signature,
            companion: Vec::new(),
        }
    }

    /// Rebuilds an envelope from a message and its signature, which certificates store apart.
    pub fn from_parts<M: Signable>(
        signer: PeerId,
        run: RunId,
        message: &M,
        signature: Signature,
    ) -> Self {
        Self {
            kind: M::KIND,
            signer,
            run,
            payload: message.encode(),
            signature,
            companion: Vec::new(),
        }
    }

    /// Checks the run and the signature.
    ///
    /// # Errors
    /// [`DecodeError::WrongRun`] or [`DecodeError::BadSignature`].
    pub fn verify(&self, run: RunId) -> Result<(), DecodeError> {
        if self.run != run {
            return Err(DecodeError::WrongRun);
        }
        let key = ed25519_consensus::VerificationKey::try_from(*self.signer.as_bytes())
            .map_err(|_| DecodeError::BadSignature)?;
        key.verify(
            &self.signature.0.into(),
            &signed_bytes(self.kind, self.run, &self.payload),
        )
        .map_err(|_| DecodeError::BadSignature)
    }

    /// Decodes the payload.
    ///
    /// # Errors
    /// If the envelope is of another kind, or the payload is not a canonical `M`.
    pub fn open<M: Signable>(&self) -> Result<M, DecodeError> {
        self.check_kind(M::KIND)?;
        M::decode(&self.payload)
    }

    /// Refuses an envelope of another kind.
    pub(crate) fn check_kind(&self, expected: Kind) -> Result<(), DecodeError> {
        if self.kind == expected {
            Ok(())
        } else {
            Err(DecodeError::WrongKind {
                found: self.kind as u32,
                expected: expected as u32,
            })
        }
    }

    /// The same message without what travels beside it.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            companion: Vec::new(),
            ..self.clone()
        }
    }

    /// The hash that identifies this signed message.
    pub fn hash(&self) -> EnvelopeHash {
        let bytes = if self.companion.is_empty() {
            self.encode()
        } else {
            self.bare().encode()
        };
        blake3::derive_key(CONTEXT, &bytes).into()
    }

    /// The hash of what is said, whoever signs it.
    pub fn payload_hash(&self) -> PayloadHash {
        blake3::derive_key(PAYLOAD_CONTEXT, &self.payload).into()
    }
}

fn signed_bytes(kind: Kind, run: RunId, payload: &[u8]) -> Vec<u8> {
    [kind.domain(), run.as_bytes().as_slice(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RoundNumber;
    use crate::round::Leave;

    fn run() -> RunId {
        [9; 32].into()
    }

    fn envelope() -> Envelope {
        Envelope::sign(
            &SigningKey::from_seed([1; 32]),
            run(),
            &Leave {
                round: RoundNumber(4),
            },
        )
    }

    #[test]
    fn a_signed_message_verifies_and_opens() {
        let received = Envelope::decode(&envelope().encode()).unwrap();
        assert_eq!(received.verify(run()), Ok(()));
        assert_eq!(
            received.open::<Leave>(),
            Ok(Leave {
                round: RoundNumber(4)
            })
        );
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let bytes = envelope().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let verdict = Envelope::decode(&changed).and_then(|e| e.verify(run()));
            assert!(verdict.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_message_of_another_run_is_refused() {
        assert_eq!(
            envelope().verify([8; 32].into()),
            Err(DecodeError::WrongRun)
        );
    }

    #[test]
    fn bytes_signed_as_one_kind_are_not_valid_as_another() {
        let mut forged = envelope();
        forged.kind = Kind::Vote;
        assert_eq!(forged.verify(run()), Err(DecodeError::BadSignature));
    }

    #[test]
    fn no_domain_is_a_prefix_of_another() {
        for one in Kind::ALL {
            for other in Kind::ALL.into_iter().filter(|other| *other != one) {
                assert!(
                    !one.domain().starts_with(other.domain()),
                    "a signature of {one:?} could be valid for {other:?}"
                );
            }
        }
    }
}
