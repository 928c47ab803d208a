//! The hash over everything that happened.

use weal_proto::{Decided, Envelope, Message as _};

use crate::interface::input::Input;
use crate::interface::output::{Output, Record};
use crate::interface::time::Millis;

/// Hashes every input and output of every peer, in order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hasher: blake3::Hasher,
}

impl Trace {
    pub fn input(&mut self, at: Millis, peer: usize, input: &Input) {
        self.number(at.0).number(peer as u64);
        match input {
            Input::Received { id, envelope } => {
                self.tag("received").number(id.0).envelope(envelope)
            }
            Input::Synced(decided) => decided.iter().fold(self.tag("synced"), Self::decided),
            // The others are small, and their debug form says all.
            small => self.tag(&format!("{small:?}")),
        };
    }

    pub fn output(&mut self, output: &Output) {
        match output {
            Output::Broadcast(envelope) => self.tag("broadcast").envelope(envelope),
            Output::Persist(Record::Decided(decided)) => self.tag("decided").decided(decided),
            Output::Persist(Record::AgreementLog { round, bytes }) => {
                self.tag("log").number(round.0).bytes(bytes)
            }
            Output::Persist(
                Record::OwnCommitment(envelope)
                | Record::OwnAttestation(envelope)
                | Record::OwnLeave(envelope),
            ) => self.tag("own").envelope(envelope),
            small => self.tag(&format!("{small:?}")),
        };
    }

    pub fn finish(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    fn tag(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.hasher.update(&number.to_le_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
        self
    }

    /// Who signed what: the signature is made from it.
    fn envelope(&mut self, envelope: &Envelope) -> &mut Self {
        self.number(envelope.kind as u64)
            .bytes(envelope.signer.as_bytes())
            .bytes(&envelope.payload)
    }

    fn decided<'a>(&'a mut self, decided: &Decided) -> &'a mut Self {
        self.bytes(&decided.encode())
    }
}
