//! Limits that every peer enforces, whatever the manifest says.

/// Voters in a certificate, and attestations in a round set.
pub const VOTERS: usize = 256;
/// Contributions applied in a round.
pub const CONTRIBUTIONS: usize = 256;
/// Places in a round: peers that may commit.
pub const SLOTS: usize = 256;
/// Spans of samples in a commitment.
pub const SPANS: usize = 4;
/// Commitments that single attestations of a round set name in place of the others'.
pub const DIFFERENCES: usize = 256;
/// Attestations of earlier rounds in a round set.
pub const LATE: usize = 256;
/// How many rounds late an attestation may be included.
pub const LATE_ROUNDS: u64 = 3;
/// Tickets in a round set.
pub const TICKETS: usize = 16;
/// Attempts to attest a round. No round reaches this many: that would take months.
pub const ATTEMPTS: u32 = 1 << 16;
/// Leaves in a round set.
pub const LEAVES: usize = 64;
/// Pieces of evidence in a round set.
pub const EVIDENCE: usize = 16;
/// Founders of a run.
pub const FOUNDERS: usize = 128;
/// Data sources of a run.
pub const SOURCES: usize = 1_024;
/// Token shards of a run.
pub const SHARDS: usize = 4_096;
/// Tokens that end a text.
pub const EOS_TOKENS: usize = 32;
/// Steps of the outer learning rate.
pub const OUTER_RATES: usize = 256;
/// Accounts in a snapshot.
pub const SNAPSHOT_ACCOUNTS: usize = 1 << 16;
/// Newcomers that wait for a place.
pub const WAITING_TICKETS: usize = 256;
/// Ranges of samples that were dealt and not trained on.
pub const RETURNED_SAMPLES: usize = 4_096;
/// Past rounds whose decision and voters a node remembers.
pub const PAST_ROUNDS: usize = 64;
/// Attesters of a past round: those of its round set, and those that later rounds decided.
pub const PAST_ATTESTERS: usize = VOTERS + LATE_ROUNDS as usize * LATE;
/// Rounds whose contributions are being measured.
pub const UNSETTLED_ROUNDS: usize = 16;
/// Tensors of a model.
pub const TENSORS: usize = 4_096;
/// Decided rounds in an answer.
pub const DECIDED_BATCH: usize = 64;
/// Envelopes in an answer to a request for a round's messages.
pub const ROUND_MESSAGES: usize = 4_096;
/// Chunks of a blob: 32 GiB, a tensor of 8 G weights.
pub const BLOB_CHUNKS: usize = 1 << 15;
/// The version of the rules. Nodes with other rules would come to other decisions, so they refuse
/// each other: it stands in the manifest, in every status, and in what every signature covers.
pub const RULES: u32 = 2;
/// The only version of the contribution codec.
pub const CODEC: u32 = 2;

/// Bytes of a name in a manifest.
pub const NAME_BYTES: usize = 256;
/// Bytes of a manifest.
pub const MANIFEST_BYTES: usize = 256 << 10;
/// Bytes of the settings of a tokeniser.
pub const TOKENISER_SETTINGS_BYTES: u64 = 4 << 20;
/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 128 + SPANS * 48;
/// Bytes of an attestation.
pub const ATTESTATION_BYTES: usize =
    160 + SLOTS / 8 + SLOTS * (REFUSAL_BYTES + 2) + SLOTS * (SCORE_BYTES + 2);
/// Bytes of a score in an attestation.
pub const SCORE_BYTES: usize = 16;
/// Bytes of a refusal in an attestation.
pub const REFUSAL_BYTES: usize = 8;
/// Bytes of a vote.
pub const VOTE_BYTES: usize = 64;
/// Bytes of a leave.
pub const LEAVE_BYTES: usize = 16;
/// Bytes of a ticket.
pub const TICKET_BYTES: usize = 24;
/// Bytes of the notice that a commit phase is over.
pub const CLOSED_BYTES: usize = 16;
/// Bytes of a recovery.
pub const RECOVERY_BYTES: usize = 96 + VOTERS * 34;
/// Bytes of a proposal.
pub const PROPOSAL_BYTES: usize = 64;
/// Bytes of an envelope. The longest is a proposal with its round set.
pub const ENVELOPE_BYTES: usize = ROUND_SET_BYTES + 512;
/// Bytes of evidence: two envelopes, of which none is longer than an attestation's.
pub const EVIDENCE_BYTES: usize = 2 * (ATTESTATION_BYTES + 256) + 16;
/// Bytes of an encoded round set.
pub const ROUND_SET_BYTES: usize = 1 << 20;
/// Bytes of a certificate of any kind.
pub const CERTIFICATE_BYTES: usize = VOTERS * 160 + 128;
/// Bytes of a decided round.
pub const DECIDED_BYTES: usize = ROUND_SET_BYTES + CERTIFICATE_BYTES;
/// Bytes of a snapshot.
pub const SNAPSHOT_BYTES: usize = 16 << 20;
/// Bytes of a request.
pub const REQUEST_BYTES: usize = 128;
/// Bytes of an answer to a control request.
pub const RESPONSE_BYTES: usize = 4 << 20;
/// Bytes of an outline, or of a chunk: an outline may be a little longer.
pub const BLOB_ANSWER_BYTES: usize = BLOB_CHUNKS * 32 + 64;
/// Bytes of a contribution's header.
pub const BLOB_HEADER_BYTES: usize = 256;
