//! Limits that every peer enforces, whatever the manifest says.

/// Voters in a certificate, and attestations in a round set.
pub const VOTERS: usize = 256;
/// Contributions applied in a round.
pub const CONTRIBUTIONS: usize = 256;
/// Findings in an attestation.
pub const FINDINGS: usize = 1_024;
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
/// Steps of the outer learning rate.
pub const OUTER_RATES: usize = 256;
/// Tensors of a model.
pub const TENSORS: usize = 4_096;
/// Decided rounds in an answer.
pub const DECIDED_BATCH: usize = 64;
/// Envelopes in an answer to a request for a round's messages.
pub const ROUND_MESSAGES: usize = 4_096;
/// Chunks of a blob: 32 GiB, a tensor of 8 G weights.
pub const BLOB_CHUNKS: usize = 1 << 15;
/// The only version of the contribution codec.
pub const CODEC: u32 = 2;

/// Bytes of a name in a manifest.
pub const NAME_BYTES: usize = 256;
/// Bytes of a manifest.
pub const MANIFEST_BYTES: usize = 256 << 10;
/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 128;
/// Bytes of an attestation.
pub const ATTESTATION_BYTES: usize = 64 + FINDINGS * FINDING_BYTES;
/// Bytes of a finding in an attestation.
pub const FINDING_BYTES: usize = 40;
/// Bytes of a vote.
pub const VOTE_BYTES: usize = 64;
/// Bytes of a leave.
pub const LEAVE_BYTES: usize = 16;
/// Bytes of a proposal, which is the largest payload of an envelope.
pub const PAYLOAD_BYTES: usize = ROUND_SET_BYTES + 64;
/// Bytes of an envelope.
pub const ENVELOPE_BYTES: usize = PAYLOAD_BYTES + 256;
/// Bytes of an encoded round set.
pub const ROUND_SET_BYTES: usize = 1 << 20;
/// Bytes of a certificate of any kind.
pub const CERTIFICATE_BYTES: usize = VOTERS * 160 + 128;
/// Bytes of a decided round.
pub const DECIDED_BYTES: usize = ROUND_SET_BYTES + CERTIFICATE_BYTES;
/// Bytes of a request.
pub const REQUEST_BYTES: usize = 128;
/// Bytes of an answer to a control request.
pub const RESPONSE_BYTES: usize = 4 << 20;
/// Bytes of a request for a part of a blob.
pub const BLOB_REQUEST_BYTES: usize = 64;
/// Bytes of an answer to it: a chunk, or an outline, which may be a little longer.
pub const BLOB_ANSWER_BYTES: usize = BLOB_CHUNKS * 32 + 64;
/// Bytes of a contribution's header.
pub const BLOB_HEADER_BYTES: usize = 256;
