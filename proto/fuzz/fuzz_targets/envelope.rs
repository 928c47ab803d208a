//! An envelope from a stranger, and whatever it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weal_proto::{
    Attestation, Closed, Commitment, Envelope, Kind, Leave, Message, Proposal, Recovery, Signable,
    Ticket, ViewCertificate, Vote,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::decode(bytes) else {
        return;
    };
    assert_eq!(envelope.encode(), bytes);
    match envelope.kind {
        Kind::Commitment => open::<Commitment>(&envelope),
        Kind::Attestation => open::<Attestation>(&envelope),
        Kind::Proposal => open::<Proposal>(&envelope),
        Kind::Vote => open::<Vote>(&envelope),
        Kind::ViewCertificate => open::<ViewCertificate>(&envelope),
        Kind::Leave => open::<Leave>(&envelope),
        Kind::Ticket => open::<Ticket>(&envelope),
        Kind::Closed => open::<Closed>(&envelope),
        Kind::Recovery => open::<Recovery>(&envelope),
    }
});

fn open<M: Signable>(envelope: &Envelope) {
    if let Ok(message) = envelope.open::<M>() {
        assert_eq!(message.encode(), envelope.payload);
    }
}
