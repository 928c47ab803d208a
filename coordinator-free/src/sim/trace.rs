//! A hash over everything that happened.

use weal_proto::{Decided, Envelope, Message as _};

use crate::interface::event::Event;
use crate::interface::input::Input;
use crate::interface::output::{Apply, Output, Record};
use crate::interface::time::Millis;

/// Hashes every input and output of every peer, in order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hasher: blake3::Hasher,
}

impl Trace {
    pub(super) fn input(&mut self, at: Millis, peer: usize, input: &Input) {
        self.number(at.0).number(peer as u64);
        match input {
            Input::Received(envelope) => self.tag("received").envelope(envelope),
            Input::Synced(decided) => decided.iter().fold(self.tag("synced"), Self::decided),
            // The other inputs are small, and their debug form is complete.
            small => self.tag(&format!("{small:?}")),
        };
    }

    pub(super) fn output(&mut self, output: &Output) {
        match output {
            Output::Broadcast(envelope) => self.tag("broadcast").envelope(envelope),
            Output::Persist(Record::Decided(decided)) => self.tag("decided").decided(decided),
            Output::Persist(Record::Snapshot(snapshot)) => {
                self.tag("snapshot").bytes(&snapshot.encode())
            }
            Output::Persist(Record::AgreementLog { round, bytes }) => {
                self.tag("log").number(round.0).bytes(bytes)
            }
            Output::Persist(Record::InTime(envelopes)) => {
                envelopes.iter().fold(self.tag("in time"), Self::envelope)
            }
            Output::Persist(
                Record::OwnCommitment(envelope)
                | Record::OwnClosed(envelope)
                | Record::OwnAttestation(envelope)
                | Record::OwnRecovery(envelope)
                | Record::OwnLeave(envelope),
            ) => self.tag("own").envelope(envelope),
            Output::Fetch(fetch) => self
                .tag("fetch")
                .bytes(fetch.hash.as_bytes())
                .bytes(fetch.peer.as_bytes())
                .bytes(&fetch.commitment.encode()),
            Output::Apply(apply) => self.apply(apply),
            Output::Report(event) => self.event(event),
            small => self.tag(&format!("{small:?}")),
        };
    }

    fn apply(&mut self, apply: &Apply) -> &mut Self {
        self.tag("apply")
            .number(apply.round.0)
            .bytes(apply.base_root.as_bytes())
            .number(apply.outer_rate_ppm.into())
            .tag(&format!("{:?}", apply.rule));
        for chosen in &apply.contributions {
            self.bytes(chosen.peer.as_bytes())
                .bytes(chosen.commitment.blob.as_bytes())
                .number(chosen.commitment.blob_bytes)
                .number(chosen.commitment.samples().0)
                .number(chosen.coefficient_ppm.into());
        }
        self
    }

    /// The wording of a cause is not part of the trace.
    fn event(&mut self, event: &Event) -> &mut Self {
        match event {
            Event::RootMismatch {
                round,
                ours,
                theirs,
            } => self
                .tag("root mismatch")
                .number(round.0)
                .bytes(ours.as_bytes())
                .bytes(theirs.as_bytes()),
            Event::SyncRefused { round, cause: _ } => self.tag("sync refused").number(round.0),
            Event::ProposalRefused {
                round,
                view,
                cause: _,
            } => self
                .tag("proposal refused")
                .number(round.0)
                .number(view.0.into()),
            Event::EngineFault { round, cause: _ } => self.tag("engine fault").number(round.0),
            small => self.tag(&format!("Report({small:?})")),
        }
    }

    pub(super) fn finish(&self) -> [u8; 32] {
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

    /// Who signed what. The signature follows from it.
    fn envelope(&mut self, envelope: &Envelope) -> &mut Self {
        self.number(envelope.kind as u64)
            .bytes(envelope.signer.as_bytes())
            .bytes(&envelope.payload)
    }

    fn decided<'a>(&'a mut self, decided: &Decided) -> &'a mut Self {
        self.bytes(&decided.encode())
    }
}
