//! Every message, as a stranger would send it: seeded values that must come back unchanged, bytes
//! that must be refused and with which error, what decoding may allocate, and the encodings that
//! may not change unnoticed.

mod allocation;
mod conformance;
mod fuzz_seeds;
mod manifest;
mod raw;
mod refusals;
mod round_trip;
mod seeded;

/// Calls a macro with the name and the type of every message that has an encoding of its own.
macro_rules! for_every_message {
    ($then:ident) => {
        $then! {
            commitment: weal_proto::Commitment,
            attestation: weal_proto::Attestation,
            leave: weal_proto::Leave,
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
            blob_request: weal_proto::BlobRequest,
            outline: weal_proto::Outline,
        }
    };
}
use for_every_message;
