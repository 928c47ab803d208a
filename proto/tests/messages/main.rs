//! Tests of every message: random values decode to themselves, broken bytes are refused with the
//! right error, decoding allocates little, and the encodings match `conformance.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocation;
mod conformance;
mod manifest;
mod raw;
mod refusals;
mod round_trip;

/// Calls a macro with the name and type of every message that is encoded on its own.
macro_rules! for_every_message {
    ($then:ident) => {
        $then! {
            commitment: weal_proto::Commitment,
            attestation: weal_proto::Attestation,
            leave: weal_proto::Leave,
            closed: weal_proto::Closed,
            ticket: weal_proto::Ticket,
            recovery: weal_proto::Recovery,
            round_set: weal_proto::RoundSet,
            evidence: weal_proto::Evidence,
            proposal: weal_proto::Proposal,
            vote: weal_proto::Vote,
            certificate: weal_proto::Certificate,
            view_certificate: weal_proto::ViewCertificate,
            decided: weal_proto::Decided,
            envelope: weal_proto::Envelope,
            manifest: weal_proto::Manifest,
            request: weal_proto::Request,
            response: weal_proto::Response,
            blob_header: weal_proto::BlobHeader,
            outline: weal_proto::Outline,
            snapshot: weal_proto::ChainSnapshot,
        }
    };
}
use for_every_message;
