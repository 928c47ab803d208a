//! Who signed what, for which run.
//!
//! The signature is over `domain ‖ run ‖ payload as sent`, where the domain names the kind: bytes
//! signed as one kind of message, or for one run, are never valid as another. Signatures are
//! Ed25519 under ZIP-215 rules, so that all verifiers agree on which are valid.

use std::fmt;

use crate::error::DecodeError;
use crate::ids::{EnvelopeHash, PeerId, RunId};
use crate::limits;
use crate::message::{Message, Wire};
use crate::round::{Attestation, Commitment, Leave, Proposal, ViewCertificate, Vote};
use crate::shape::{Shape, exact, id, plain};
use crate::wire;

const HASH_CONTEXT: &str = "commonweal envelope v1";

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Kind {
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
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 6] = [
        Self::Commitment,
        Self::Attestation,
        Self::Proposal,
        Self::Vote,
        Self::ViewCertificate,
        Self::Leave,
    ];

    /// The longest payload of this kind, in bytes: what is longer is refused before its signature
    /// is looked at.
    pub const fn max_payload_bytes(self) -> usize {
        match self {
            Self::Commitment => Commitment::MAX_BYTES,
            Self::Attestation => Attestation::MAX_BYTES,
            Self::Proposal => Proposal::MAX_BYTES,
            Self::Vote => Vote::MAX_BYTES,
            Self::ViewCertificate => ViewCertificate::MAX_BYTES,
            Self::Leave => Leave::MAX_BYTES,
        }
    }

    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Commitment => b"commonweal commitment v1",
            Self::Attestation => b"commonweal attestation v1",
            Self::Proposal => b"commonweal proposal v1",
            Self::Vote => b"commonweal vote v1",
            Self::ViewCertificate => b"commonweal view certificate v1",
            Self::Leave => b"commonweal leave v1",
        }
    }

    fn from_number(number: u32) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as u32 == number)
            .ok_or(DecodeError::UnknownValue {
                field: "Envelope.kind",
                value: i64::from(number),
            })
    }
}

/// A message that is sent signed.
pub trait Signable: Message {
    /// The envelope's kind for this message.
    const KIND: Kind;
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signature({})",
            hex::encode(self.0.get(..4).unwrap_or_default())
        )
    }
}

impl Signature {
    pub(crate) fn from_wire(field: &'static str, bytes: &[u8]) -> Result<Self, DecodeError> {
        let length = bytes.len();
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| DecodeError::WrongLength {
                field,
                bytes: length,
                expected: 64,
            })
    }
}

/// A peer's secret key. Signing is deterministic: the same message is signed with the same bytes
/// after a restart.
#[derive(Clone)]
pub struct SigningKey(ed25519_consensus::SigningKey);

impl SigningKey {
    /// The key of a 32-byte secret seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_consensus::SigningKey::from(seed))
    }

    /// The secret seed: whoever has it is this peer.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn peer(&self) -> PeerId {
        self.0.verification_key().to_bytes().into()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.peer().short())
    }
}

/// A signed message, with its payload exactly as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is.
    pub kind: Kind,
    /// Who signed.
    pub signer: PeerId,
    /// The run it belongs to.
    pub run: RunId,
    /// The message's canonical encoding.
    pub payload: Vec<u8>,
    /// Over domain, run and payload.
    pub signature: Signature,
}

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
        }
    }

    /// An envelope put together from a message and a signature that was stored apart, as
    /// certificates do.
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
        }
    }

    /// Checks run and signature.
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
    /// When the envelope is of another kind, or the payload is not a canonical `M`.
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

    /// Names this signed message.
    pub fn hash(&self) -> EnvelopeHash {
        blake3::derive_key(HASH_CONTEXT, &self.encode()).into()
    }
}

fn signed_bytes(kind: Kind, run: RunId, payload: &[u8]) -> Vec<u8> {
    [kind.domain(), run.as_bytes().as_slice(), payload].concat()
}

impl Wire for Envelope {
    type Wire = wire::Envelope;
    const SHAPE: Shape = Shape {
        name: "envelope",
        most_bytes: limits::ENVELOPE_BYTES,
        fields: &[
            plain(1),
            id(2, "Envelope.signer"),
            id(3, "Envelope.run"),
            plain(4),
            exact(5, "Envelope.signature", 64),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Envelope {
            kind: self.kind as u32,
            signer: self.signer.to_wire(),
            run: self.run.to_wire(),
            payload: self.payload.clone(),
            signature: self.signature.0.to_vec(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let kind = Kind::from_number(wire.kind)?;
        let (bytes, limit) = (wire.payload.len(), kind.max_payload_bytes());
        if bytes > limit {
            return Err(DecodeError::TooLong {
                message: "envelope payload",
                bytes,
                limit,
            });
        }
        Ok(Self {
            kind,
            signer: PeerId::from_wire("Envelope.signer", &wire.signer)?,
            run: RunId::from_wire("Envelope.run", &wire.run)?,
            payload: wire.payload,
            signature: Signature::from_wire("Envelope.signature", &wire.signature)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RoundNumber;

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
    fn no_domain_leads_another() {
        for one in Kind::ALL {
            for other in Kind::ALL.into_iter().filter(|other| *other != one) {
                assert!(
                    !one.domain().starts_with(other.domain()),
                    "{one:?} and {other:?} could sign for one another"
                );
            }
        }
    }
}
