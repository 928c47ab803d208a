//! Fetching and examining contributions.

use weal_proto::{EnvelopeHash, Verdict};

use super::Core;
use crate::interface::names::TimerId;
use crate::interface::output::{Fetch, Output};
use crate::interface::view::Phase;
use crate::rules::round_set::{SignedCommitment, choose};

impl Core {
    /// Asks for the contributions that peers committed to in time, up to the manifest's limit.
    pub(super) fn fetch(&mut self) {
        let round = self.chain.round();
        let fetch_ms = u64::from(self.chain.manifest().timing.fetch_ms);
        self.set_timer(TimerId::FetchClose(round), fetch_ms);
        self.enter(Phase::Fetching, Some(self.now.after(fetch_ms)));
        if self.round.attestations.contains_key(&self.me) {
            return;
        }
        let limit = usize::try_from(self.chain.manifest().limits.peers).unwrap_or(usize::MAX);
        let candidates = self
            .round
            .committed()
            .copied()
            .filter(|peer| !self.evidence.contains_key(peer));
        for peer in choose(candidates, limit, self.chain.ledger(), self.chain.seed()) {
            if let Some(signed) = self.round.commitments.get(&peer).cloned() {
                self.examine(signed);
            }
        }
    }

    fn examine(&mut self, signed: SignedCommitment) {
        let SignedCommitment {
            envelope,
            hash,
            commitment,
        } = signed;
        if envelope.signer == self.me {
            self.round.examined.insert(hash, Verdict::Valid);
        } else if Some(commitment.base_root) != self.base_root() {
            self.round.examined.insert(hash, Verdict::WrongBase);
        } else {
            self.round.examining.insert(hash);
            self.outputs.push(Output::Fetch(Fetch {
                hash,
                peer: envelope.signer,
                commitment,
            }));
        }
    }

    pub(super) fn validated(&mut self, commitment: EnvelopeHash, verdict: Verdict) {
        if self.round.examining.remove(&commitment) {
            self.round.examined.insert(commitment, verdict);
            self.progress();
        }
    }

    /// Attests once all contributions are examined. Returns whether it does.
    pub(super) fn attest_if_examined(&mut self) -> bool {
        let examined = self.round.examining.is_empty();
        if examined {
            self.attest();
        }
        examined
    }

    pub(super) fn fetch_time_is_up(&mut self) {
        if self.round.phase == Phase::Fetching {
            self.attest();
        }
    }
}
