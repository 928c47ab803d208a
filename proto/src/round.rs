//! What is said and decided in a round.

use crate::envelope::{Envelope, Kind, Signable, Signature};
use crate::error::DecodeError;
use crate::ids::{BlobHash, EnvelopeHash, LedgerRoot, PeerId, RoundNumber, RoundSetHash, Samples, StateRoot, View};
use crate::limits;
use crate::message::{Message, Wire, list, required, rising};
use crate::wire;

const ROUND_SET_CONTEXT: &str = "commonweal round set v1";

/// "I have trained, and this is the hash of what I learnt": said before anything is revealed, so that nobody can copy
/// what he has not committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// The round trained in.
    pub round: RoundNumber,
    /// State root of the weights the training started from.
    pub base_root: StateRoot,
    /// Hash of the contribution's blob.
    pub blob: BlobHash,
    /// Its length in bytes.
    pub blob_bytes: u64,
    /// Sequences trained on: samples `0..samples` of the peer's own stream.
    pub samples: Samples,
}

impl Signable for Commitment {
    const KIND: Kind = Kind::Commitment;
}

impl Wire for Commitment {
    type Wire = wire::Commitment;
    const NAME: &'static str = "commitment";
    const MAX_BYTES: usize = 128;

    fn to_wire(&self) -> Self::Wire {
        wire::Commitment {
            round: self.round.0,
            base_root: self.base_root.to_wire(),
            blob: self.blob.to_wire(),
            blob_bytes: self.blob_bytes,
            samples: self.samples.0,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            round: RoundNumber(wire.round),
            base_root: StateRoot::from_wire("Commitment.base_root", &wire.base_root)?,
            blob: BlobHash::from_wire("Commitment.blob", &wire.blob)?,
            blob_bytes: wire.blob_bytes,
            samples: Samples(wire.samples),
        })
    }
}

/// What a voter found of one contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Here, and well formed in every respect.
    Valid = 0,
    /// Could not be fetched in time.
    Unavailable = 1,
    /// Longer than the manifest allows, or not as long as committed.
    WrongSize = 2,
    /// The header is not the commitment's.
    WrongHeader = 3,
    /// The body breaks the codec's rules.
    Malformed = 4,
    /// Values that are not finite, or a norm out of bounds.
    BadValues = 5,
    /// Trained from weights that are not the round's.
    WrongBase = 6,
}

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 7] = [
        Self::Valid,
        Self::Unavailable,
        Self::WrongSize,
        Self::WrongHeader,
        Self::Malformed,
        Self::BadValues,
        Self::WrongBase,
    ];

    fn from_number(number: u32) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|verdict| *verdict as u32 == number)
            .ok_or(DecodeError::UnknownValue { field: "Finding.verdict", value: i64::from(number) })
    }
}

/// A voter's verdict on one commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Hash of the commitment's envelope.
    pub commitment: EnvelopeHash,
    /// What was found.
    pub verdict: Verdict,
}

/// What one voter found of each commitment it heard of in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The round attested.
    pub round: RoundNumber,
    /// State root of the weights this voter holds at the round's start.
    pub base_root: StateRoot,
    /// Strictly rising by commitment.
    pub findings: Vec<Finding>,
}

impl Signable for Attestation {
    const KIND: Kind = Kind::Attestation;
}

impl Wire for Attestation {
    type Wire = wire::Attestation;
    const NAME: &'static str = "attestation";
    const MAX_BYTES: usize = 64 + limits::FINDINGS * 40;

    fn to_wire(&self) -> Self::Wire {
        let finding = |f: &Finding| wire::Finding { commitment: f.commitment.to_wire(), verdict: f.verdict as u32 };
        wire::Attestation {
            round: self.round.0,
            base_root: self.base_root.to_wire(),
            findings: self.findings.iter().map(finding).collect(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let findings = list("Attestation.findings", limits::FINDINGS, wire.findings, |f| {
            Ok(Finding {
                commitment: EnvelopeHash::from_wire("Finding.commitment", &f.commitment)?,
                verdict: Verdict::from_number(f.verdict)?,
            })
        })?;
        Ok(Self {
            round: RoundNumber(wire.round),
            base_root: StateRoot::from_wire("Attestation.base_root", &wire.base_root)?,
            findings: rising("Attestation.findings", findings, |f| f.commitment)?,
        })
    }
}

/// "Do not wait for me from this round on."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The first round without this peer.
    pub round: RoundNumber,
}

impl Signable for Leave {
    const KIND: Kind = Kind::Leave;
}

impl Wire for Leave {
    type Wire = wire::Leave;
    const NAME: &'static str = "leave";
    const MAX_BYTES: usize = 16;

    fn to_wire(&self) -> Self::Wire {
        wire::Leave { round: self.round.0 }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self { round: RoundNumber(wire.round) })
    }
}

/// Two signed messages that contradict each other. Whether they do is for the rules to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The one with the smaller hash.
    pub first: Envelope,
    /// The other.
    pub second: Envelope,
}

impl Wire for Evidence {
    type Wire = wire::Evidence;
    const NAME: &'static str = "evidence";
    const MAX_BYTES: usize = 2 * limits::ENVELOPE_BYTES;

    fn to_wire(&self) -> Self::Wire {
        wire::Evidence { first: Some(self.first.to_wire()), second: Some(self.second.to_wire()) }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self { first: envelope("Evidence.first", wire.first)?, second: envelope("Evidence.second", wire.second)? })
    }
}

/// What a round decides. Its validity is a function of these bytes and of what was decided before, so that a voter who
/// misses a blob can still vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundSet {
    /// The round decided.
    pub round: RoundNumber,
    /// Hash of the round set before; the run id for round 0.
    pub parent: RoundSetHash,
    /// State root of the weights at the round's start.
    pub base_root: StateRoot,
    /// Hash of the ledger that this round is decided by.
    pub ledger_root: LedgerRoot,
    /// Commitment envelopes of the chosen contributions, strictly rising by signer. They are applied in this order.
    pub contributions: Vec<Envelope>,
    /// The proof: attestation envelopes, strictly rising by signer.
    pub attestations: Vec<Envelope>,
    /// Leave envelopes, strictly rising by signer.
    pub leaves: Vec<Envelope>,
    /// Proven contradictions, at most one for each peer, strictly rising by signer of the first.
    pub evidence: Vec<Evidence>,
}

impl RoundSet {
    /// Names this round set.
    pub fn hash(&self) -> RoundSetHash {
        blake3::derive_key(ROUND_SET_CONTEXT, &self.encode()).into()
    }
}

impl Wire for RoundSet {
    type Wire = wire::RoundSet;
    const NAME: &'static str = "round set";
    const MAX_BYTES: usize = limits::ROUND_SET_BYTES;

    fn to_wire(&self) -> Self::Wire {
        wire::RoundSet {
            round: self.round.0,
            parent: self.parent.to_wire(),
            base_root: self.base_root.to_wire(),
            ledger_root: self.ledger_root.to_wire(),
            contributions: self.contributions.iter().map(Wire::to_wire).collect(),
            attestations: self.attestations.iter().map(Wire::to_wire).collect(),
            leaves: self.leaves.iter().map(Wire::to_wire).collect(),
            evidence: self.evidence.iter().map(Wire::to_wire).collect(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let evidence = list("RoundSet.evidence", limits::EVIDENCE, wire.evidence, Evidence::from_wire)?;
        Ok(Self {
            round: RoundNumber(wire.round),
            parent: RoundSetHash::from_wire("RoundSet.parent", &wire.parent)?,
            base_root: StateRoot::from_wire("RoundSet.base_root", &wire.base_root)?,
            ledger_root: LedgerRoot::from_wire("RoundSet.ledger_root", &wire.ledger_root)?,
            contributions: by_signer("RoundSet.contributions", limits::CONTRIBUTIONS, wire.contributions)?,
            attestations: by_signer("RoundSet.attestations", limits::VOTERS, wire.attestations)?,
            leaves: by_signer("RoundSet.leaves", limits::LEAVES, wire.leaves)?,
            evidence: rising("RoundSet.evidence", evidence, |e| e.first.signer)?,
        })
    }
}

fn envelope(field: &'static str, wire: Option<wire::Envelope>) -> Result<Envelope, DecodeError> {
    Envelope::from_wire(required(field, wire)?)
}

fn by_signer(field: &'static str, limit: usize, wire: Vec<wire::Envelope>) -> Result<Vec<Envelope>, DecodeError> {
    rising(field, list(field, limit, wire, Envelope::from_wire)?, |e| e.signer)
}

/// A proposer's value for a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The round to decide.
    pub round: RoundNumber,
    /// The attempt this proposal belongs to.
    pub view: View,
    /// An earlier view in which more than two thirds of the weight prevoted this value.
    pub proof_of_lock: Option<View>,
    /// The value.
    pub value: RoundSet,
}

impl Signable for Proposal {
    const KIND: Kind = Kind::Proposal;
}

impl Wire for Proposal {
    type Wire = wire::Proposal;
    const NAME: &'static str = "proposal";
    const MAX_BYTES: usize = limits::PAYLOAD_BYTES;

    fn to_wire(&self) -> Self::Wire {
        wire::Proposal {
            round: self.round.0,
            view: self.view.0,
            proof_of_lock_view_plus_one: self.proof_of_lock.map_or(0, |view| view.0.saturating_add(1)),
            value: Some(self.value.to_wire()),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            proof_of_lock: wire.proof_of_lock_view_plus_one.checked_sub(1).map(View),
            value: RoundSet::from_wire(required("Proposal.value", wire.value)?)?,
        })
    }
}

/// The two votes of Tendermint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteStep {
    /// "This value may be decided."
    Prevote,
    /// "I saw more than two thirds prevote it."
    Precommit,
}

impl VoteStep {
    fn to_wire(self) -> i32 {
        match self {
            Self::Prevote => wire::VoteStep::Prevote.into(),
            Self::Precommit => wire::VoteStep::Precommit.into(),
        }
    }

    fn from_wire(field: &'static str, number: i32) -> Result<Self, DecodeError> {
        match wire::VoteStep::try_from(number) {
            Ok(wire::VoteStep::Prevote) => Ok(Self::Prevote),
            Ok(wire::VoteStep::Precommit) => Ok(Self::Precommit),
            _ => Err(DecodeError::UnknownValue { field, value: i64::from(number) }),
        }
    }
}

/// A vote for a value, or for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// The round to decide.
    pub round: RoundNumber,
    /// The attempt.
    pub view: View,
    /// Which of the two votes.
    pub step: VoteStep,
    /// The round set voted for; `None` is nil.
    pub value: Option<RoundSetHash>,
}

impl Signable for Vote {
    const KIND: Kind = Kind::Vote;
}

impl Wire for Vote {
    type Wire = wire::Vote;
    const NAME: &'static str = "vote";
    const MAX_BYTES: usize = 64;

    fn to_wire(&self) -> Self::Wire {
        wire::Vote {
            round: self.round.0,
            view: self.view.0,
            step: self.step.to_wire(),
            value: optional_to_wire(self.value),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            step: VoteStep::from_wire("Vote.step", wire.step)?,
            value: optional_from_wire("Vote.value", &wire.value)?,
        })
    }
}

fn optional_to_wire(value: Option<RoundSetHash>) -> Vec<u8> {
    value.map_or_else(Vec::new, RoundSetHash::to_wire)
}

fn optional_from_wire(field: &'static str, bytes: &[u8]) -> Result<Option<RoundSetHash>, DecodeError> {
    if bytes.is_empty() { Ok(None) } else { RoundSetHash::from_wire(field, bytes).map(Some) }
}

/// One voter's precommit in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// The voter.
    pub peer: PeerId,
    /// The signature of its precommit's envelope.
    pub signature: Signature,
}

/// Proof that more than two thirds of the weight precommitted a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The round decided.
    pub round: RoundNumber,
    /// The attempt that decided it.
    pub view: View,
    /// The round set decided.
    pub value: RoundSetHash,
    /// Strictly rising by peer.
    pub signatures: Vec<CommitSignature>,
}

impl Wire for Certificate {
    type Wire = wire::Certificate;
    const NAME: &'static str = "certificate";
    const MAX_BYTES: usize = limits::CERTIFICATE_BYTES;

    fn to_wire(&self) -> Self::Wire {
        let signature =
            |s: &CommitSignature| wire::CommitSignature { peer: s.peer.to_wire(), signature: s.signature.0.to_vec() };
        wire::Certificate {
            round: self.round.0,
            view: self.view.0,
            value: self.value.to_wire(),
            signatures: self.signatures.iter().map(signature).collect(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let signatures = list("Certificate.signatures", limits::VOTERS, wire.signatures, |s| {
            Ok(CommitSignature {
                peer: PeerId::from_wire("CommitSignature.peer", &s.peer)?,
                signature: Signature::from_wire("CommitSignature.signature", &s.signature)?,
            })
        })?;
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            value: RoundSetHash::from_wire("Certificate.value", &wire.value)?,
            signatures: rising("Certificate.signatures", signatures, |s| s.peer)?,
        })
    }
}

/// One voter's vote in a [`ViewCertificate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSignature {
    /// The voter.
    pub peer: PeerId,
    /// Which of the two votes.
    pub step: VoteStep,
    /// What it voted for.
    pub value: Option<RoundSetHash>,
    /// The signature of the vote's envelope.
    pub signature: Signature,
}

/// Proof that voters moved on within a round: a polka (prevotes for one value), or a round certificate of the engine
/// (precommits of a view, or votes that skip to a later one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewCertificate {
    /// The round.
    pub round: RoundNumber,
    /// The attempt.
    pub view: View,
    /// True for a polka.
    pub polka: bool,
    /// The polka's value.
    pub value: Option<RoundSetHash>,
    /// Strictly rising by peer and step.
    pub signatures: Vec<ViewSignature>,
    /// True for a certificate of precommits, false for one that skips.
    pub precommits: bool,
}

impl Signable for ViewCertificate {
    const KIND: Kind = Kind::ViewCertificate;
}

impl Wire for ViewCertificate {
    type Wire = wire::ViewCertificate;
    const NAME: &'static str = "view certificate";
    const MAX_BYTES: usize = limits::CERTIFICATE_BYTES;

    fn to_wire(&self) -> Self::Wire {
        let signature = |s: &ViewSignature| wire::ViewSignature {
            peer: s.peer.to_wire(),
            step: s.step.to_wire(),
            value: optional_to_wire(s.value),
            signature: s.signature.0.to_vec(),
        };
        wire::ViewCertificate {
            round: self.round.0,
            view: self.view.0,
            polka: self.polka,
            value: optional_to_wire(self.value),
            signatures: self.signatures.iter().map(signature).collect(),
            precommits: self.precommits,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let signatures = list("ViewCertificate.signatures", limits::VOTERS, wire.signatures, |s| {
            Ok(ViewSignature {
                peer: PeerId::from_wire("ViewSignature.peer", &s.peer)?,
                step: VoteStep::from_wire("ViewSignature.step", s.step)?,
                value: optional_from_wire("ViewSignature.value", &s.value)?,
                signature: Signature::from_wire("ViewSignature.signature", &s.signature)?,
            })
        })?;
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            polka: wire.polka,
            value: optional_from_wire("ViewCertificate.value", &wire.value)?,
            signatures: rising("ViewCertificate.signatures", signatures, |s| (s.peer, s.step))?,
            precommits: wire.precommits,
        })
    }
}

/// A decided round with its proof: what a latecomer verifies, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub value: RoundSet,
    /// The proof.
    pub certificate: Certificate,
}

impl Wire for Decided {
    type Wire = wire::Decided;
    const NAME: &'static str = "decided round";
    const MAX_BYTES: usize = limits::DECIDED_BYTES;

    fn to_wire(&self) -> Self::Wire {
        wire::Decided { value: Some(self.value.to_wire()), certificate: Some(self.certificate.to_wire()) }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            value: RoundSet::from_wire(required("Decided.value", wire.value)?)?,
            certificate: Certificate::from_wire(required("Decided.certificate", wire.certificate)?)?,
        })
    }
}
