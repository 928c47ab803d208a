//! What a round decides.

use crate::envelope::{Envelope, Kind};
use crate::error::DecodeError;
use crate::ids::{LedgerRoot, PayloadHash, PeerId, RoundNumber, RoundSetHash, SlotId, StateRoot};
use crate::limits;
use crate::message::{Message, Standalone};
use crate::schema::{Value, message, rising};
use crate::shape::Form;

/// BLAKE3 context under which a round set is hashed.
const CONTEXT: &str = "commonweal round set v2";

message! {
    /// What a round decides.
    ///
    /// Whether it is valid depends only on its bytes and on what was decided before, so a voter
    /// without the blobs can still vote.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RoundSet("round set", limits::ROUND_SET_BYTES, sorted) {
        /// The round decided.
        pub round: RoundNumber = 1,
        /// Hash of the previous round set, or the run id for round 0.
        pub parent: RoundSetHash = 2,
        /// State root of the weights at the start of the round.
        pub base_root: StateRoot = 3,
        /// Hash of the ledger whose weights decide this round.
        pub ledger_root: LedgerRoot = 4,
        /// Commitment envelopes of the chosen contributions, rising by place. They are applied in
        /// this order.
        pub contributions: Vec<Envelope> = 5[limits::CONTRIBUTIONS],
        /// The proof: attestation envelopes, strictly rising by signer.
        pub attestations: Vec<Envelope> = 6[limits::VOTERS],
        /// Leave envelopes, strictly rising by signer.
        pub leaves: Vec<Envelope> = 7[limits::LEAVES],
        /// Evidence of equivocation: at most one piece per peer, strictly rising by the signer of
        /// the first message.
        pub evidence: Vec<Evidence> = 8[limits::EVIDENCE],
        /// The attempt that all attestations belong to.
        pub attempt: u32 = 9,
        /// What attestations name besides the chosen contributions; strictly rising by place.
        pub named: Vec<Named> = 10[limits::SLOTS],
        /// Where an attestation names another commitment than `contributions` and `named` do;
        /// strictly rising by peer and place.
        pub differences: Vec<Difference> = 11[limits::DIFFERENCES],
        /// Attestations of earlier rounds that no round set holds yet, strictly rising by round and
        /// signer.
        pub late: Vec<Envelope> = 12[limits::LATE],
        /// Ticket envelopes, strictly rising by signer.
        pub tickets: Vec<Envelope> = 13[limits::TICKETS],
        /// Voters that are gone for ever, strictly rising. Only a round that operators decide has
        /// any: see [`Recovery`](super::Recovery).
        pub gone: Vec<PeerId> = 14[limits::VOTERS],
    }
}

message! {
    /// A commitment that attestations name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Named("named commitment", 48) {
        /// The committer's place.
        pub slot: SlotId = 1,
        /// Hash of the commitment's payload.
        pub commitment: PayloadHash = 2,
    }
}

message! {
    /// Another commitment that one attestation names for a place, because the place's holder
    /// committed twice.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Difference("difference", 80) {
        /// The signer of the attestation.
        pub peer: PeerId = 1,
        /// The committer's place.
        pub slot: SlotId = 2,
        /// Hash of the commitment's payload.
        pub commitment: PayloadHash = 3,
    }
}

impl RoundSet {
    /// The hash that identifies this round set.
    pub fn hash(&self) -> RoundSetHash {
        blake3::derive_key(CONTEXT, &self.encode()).into()
    }
}

fn sorted(set: &RoundSet) -> Result<(), DecodeError> {
    all_of(
        "RoundSet.contributions",
        Kind::Commitment,
        &set.contributions,
    )?;
    by_signer(
        "RoundSet.attestations",
        Kind::Attestation,
        &set.attestations,
    )?;
    by_signer("RoundSet.leaves", Kind::Leave, &set.leaves)?;
    by_signer("RoundSet.tickets", Kind::Ticket, &set.tickets)?;
    all_of("RoundSet.late", Kind::Attestation, &set.late)?;
    rising("RoundSet.named", &set.named, |named| named.slot)?;
    rising("RoundSet.differences", &set.differences, |difference| {
        (difference.peer, difference.slot)
    })?;
    rising("RoundSet.gone", &set.gone, |peer| *peer)?;
    rising("RoundSet.evidence", &set.evidence, |e| e.first.signer)
}

/// Refuses envelopes that are not all of one kind and strictly rising by signer.
fn by_signer(field: &'static str, kind: Kind, envelopes: &[Envelope]) -> Result<(), DecodeError> {
    all_of(field, kind, envelopes)?;
    rising(field, envelopes, |envelope| envelope.signer)
}

/// Refuses envelopes that are not all of one kind, or that have something beside them.
fn all_of(field: &'static str, kind: Kind, envelopes: &[Envelope]) -> Result<(), DecodeError> {
    envelopes.iter().try_for_each(|envelope| {
        envelope.check_kind(kind)?;
        alone(field, envelope)
    })
}

fn alone(field: &'static str, envelope: &Envelope) -> Result<(), DecodeError> {
    if envelope.companion.is_empty() {
        return Ok(());
    }
    Err(DecodeError::WrongLength {
        field,
        bytes: envelope.companion.len(),
        expected: 0,
    })
}

impl Standalone for RoundSet {}

/// A hash that is empty bytes if absent.
impl Value for Option<RoundSetHash> {
    type Wire = Vec<u8>;
    const FORM: Form = Form::Plain;

    fn to_field(&self) -> Vec<u8> {
        self.as_ref().map_or_else(Vec::new, Value::to_field)
    }

    fn from_field(field: &'static str, wire: Vec<u8>) -> Result<Self, DecodeError> {
        if wire.is_empty() {
            Ok(None)
        } else {
            RoundSetHash::from_field(field, wire).map(Some)
        }
    }
}

message! {
    /// Two signed messages of one peer that contradict each other. The rules check whether they do.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Evidence("evidence", limits::EVIDENCE_BYTES, bare) {
        /// The message with the smaller hash.
        pub first: Envelope = 1,
        /// The other message.
        pub second: Envelope = 2,
    }
}

fn bare(evidence: &Evidence) -> Result<(), DecodeError> {
    alone("Evidence.first", &evidence.first)?;
    alone("Evidence.second", &evidence.second)
}

impl Standalone for Evidence {}
