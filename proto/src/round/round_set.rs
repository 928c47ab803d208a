//! What a round decides.

use crate::envelope::{Envelope, Kind};
use crate::error::DecodeError;
use crate::ids::{LedgerRoot, RoundNumber, RoundSetHash, StateRoot};
use crate::limits;
use crate::message::{Message, Standalone};
use crate::schema::{Value, message, rising};
use crate::shape::Form;

/// BLAKE3 context under which a round set is hashed.
const CONTEXT: &str = "commonweal round set v1";

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
        /// Commitment envelopes of the chosen contributions, strictly rising by signer. They are
        /// applied in this order.
        pub contributions: Vec<Envelope> = 5[limits::CONTRIBUTIONS],
        /// The proof: attestation envelopes, strictly rising by signer.
        pub attestations: Vec<Envelope> = 6[limits::VOTERS],
        /// Leave envelopes, strictly rising by signer.
        pub leaves: Vec<Envelope> = 7[limits::LEAVES],
        /// Evidence of equivocation: at most one piece per peer, strictly rising by the signer of
        /// the first message.
        pub evidence: Vec<Evidence> = 8[limits::EVIDENCE],
    }
}

impl RoundSet {
    /// The hash that identifies this round set.
    pub fn hash(&self) -> RoundSetHash {
        blake3::derive_key(CONTEXT, &self.encode()).into()
    }
}

fn sorted(set: &RoundSet) -> Result<(), DecodeError> {
    by_signer(
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
    rising("RoundSet.evidence", &set.evidence, |e| e.first.signer)
}

/// Refuses envelopes that are not all of one kind and strictly rising by signer.
fn by_signer(field: &'static str, kind: Kind, envelopes: &[Envelope]) -> Result<(), DecodeError> {
    envelopes
        .iter()
        .try_for_each(|envelope| envelope.check_kind(kind))?;
    rising(field, envelopes, |envelope| envelope.signer)
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
    pub struct Evidence("evidence", 2 * limits::ENVELOPE_BYTES + 16) {
        /// The message with the smaller hash.
        pub first: Envelope = 1,
        /// The other message.
        pub second: Envelope = 2,
    }
}

impl Standalone for Evidence {}
