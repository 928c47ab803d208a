//! Attestations: each member signs what it found.

use weal_proto::{Attestation, Finding, StateRoot};

use super::Core;
use crate::interface::names::TimerId;
use crate::interface::output::{Output, Record};
use crate::interface::view::Phase;

impl Core {
    /// Attests what this node has found so far, and waits for the others' attestations.
    pub(super) fn attest(&mut self) {
        let round = self.chain.round();
        let attest_ms = u64::from(self.chain.manifest().timing.attest_ms);
        self.cancel_timer(TimerId::FetchClose(round));
        let has_attested = self.round.attestations.contains_key(&self.me);
        if !has_attested && self.restart_if_weights_differ() {
            return;
        }
        self.set_timer(TimerId::AttestClose(round), attest_ms);
        self.enter(Phase::Attesting, Some(self.now.after(attest_ms)));
        if let Some(base_root) = self.base_root() {
            self.sign_attestation(base_root);
        }
    }

    /// Only members may attest, and each of them once.
    fn sign_attestation(&mut self, base_root: StateRoot) {
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

    /// Other voters have begun to decide, so this node attests what it knows by now.
    pub(super) fn skip_to_attesting(&mut self) {
        if self.round.phase == Phase::Committing {
            self.cancel_timer(TimerId::CommitClose(self.chain.round()));
            self.reveal();
        }
        if self.round.phase < Phase::Attesting && self.round.phase > Phase::Waiting {
            self.attest();
        }
    }
}
