//! How much a host answers to a peer that asks.

use weal_proto::limits;

/// Bytes of a round's messages in one answer.
pub const ROUND_MESSAGES_BYTES: usize = limits::RESPONSE_BYTES / 2;
/// Bytes of decided rounds in one answer. The first of them is sent however long it is.
pub const DECIDED_BYTES: usize = limits::RESPONSE_BYTES / 2;
