//! Members say what they found.

use weal_proto::{Attestation, Finding, StateRoot};

use super::Core;
use crate::interface::output::{Output, Record, TimerId};
use crate::interface::view::Phase;

impl Core {
    /// Says what was found so far, and waits for what others found.
    pub(super) fn attest(&mut self) {
        let round = self.chain.round();
        let attest_ms = u64::from(self.chain.manifest().timing.attest_ms);
        self.cancel_timer(TimerId::FetchClose(round));
        if !self.round.attestations.contains_key(&self.me) && self.starts_over() {
            return;
        }
        self.set_timer(TimerId::AttestClose(round), attest_ms);
        self.enter(Phase::Attesting, Some(self.now.after(attest_ms)));
        if let Some(base_root) = self.own_root() {
            self.say_attestation(base_root);
        }
    }

    /// Only members' attestations count, and each member gives one.
    fn say_attestation(&mut self, base_root: StateRoot) {
        if !self.chain.may_attest(&self.me) || self.round.attestations.contains_key(&self.me) {
            return;
        }
        // The map is sorted by commitment, as the message must be.
        let findings = self.round.examined.iter();
        let findings = findings.map(|(commitment, verdict)| Finding {
            commitment: *commitment,
            verdict: *verdict,
        });
        let attestation = Attestation {
            round: self.chain.round(),
            base_root,
            findings: findings.collect(),
        };
        let envelope = self.sign(&attestation);
        self.outputs
            .push(Output::Persist(Record::OwnAttestation(envelope.clone())));
        self.outputs.push(Output::Broadcast(envelope.clone()));
        self.round
            .attestations
            .insert(self.me, (envelope, attestation));
    }

    /// Others have begun to decide: what is known by now must do.
    pub(super) fn catch_up_with_deciders(&mut self) {
        if self.round.phase == Phase::Committing {
            self.cancel_timer(TimerId::CommitClose(self.chain.round()));
            self.reveal();
        }
        if self.round.phase < Phase::Attesting && self.round.phase > Phase::Waiting {
            self.attest();
        }
    }
}
