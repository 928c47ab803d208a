//! Fetching and examining contributions.

use weal_proto::{EnvelopeHash, SlotId, Verdict};

use super::Core;
use crate::interface::names::TimerId;
use crate::interface::output::{Fetch, Output};
use crate::interface::view::Phase;
use crate::rules::round_set::SignedCommitment;

impl Core {
    /// Asks for the contributions that holders of places committed to in time.
    pub(super) fn fetch(&mut self) {
        let round = self.chain.round();
        let fetch_ms = u64::from(self.chain.manifest().timing.fetch_ms);
        self.set_timer(TimerId::FetchClose(round), fetch_ms);
        self.enter(Phase::Fetching, Some(self.now.after(fetch_ms)));
        if self.has_attested_now() {
            return;
        }
        let places = self.chain.places();
        let candidates: Vec<_> = self
            .round
            .in_time()
            .filter_map(|signed| Some((places.slot_of(&signed.envelope.signer)?, signed.clone())))
            .collect();
        for (slot, signed) in candidates {
            self.examine(slot, signed);
        }
    }

    fn examine(&mut self, slot: SlotId, signed: SignedCommitment) {
        let SignedCommitment {
            envelope,
            hash,
            commitment,
        } = signed;
        let verdict = if self.evidence.contains_key(&envelope.signer) {
            Verdict::Contradicted
        } else if Some(commitment.base_root) != self.base_root() {
            Verdict::WrongBase
        } else if envelope.signer == self.me {
            Verdict::Valid
        } else {
            self.round.examining.insert(hash, slot);
            self.outputs.push(Output::Fetch(Fetch {
                slot,
                hash,
                peer: envelope.signer,
                commitment,
            }));
            return;
        };
        self.round.examined.insert(slot, verdict);
    }

    pub(super) fn validated(&mut self, commitment: EnvelopeHash, verdict: Verdict) {
        if let Some(slot) = self.round.examining.remove(&commitment) {
            self.round.examined.insert(slot, verdict);
            self.progress();
        }
    }

    /// Attests once all contributions are examined and compared. Returns whether it does.
    pub(super) fn attest_if_examined(&mut self) -> bool {
        let has_attested = self.has_attested_now();
        let ready = has_attested || (self.round.examining.is_empty() && self.compare());
        if ready {
            self.attest();
        }
        ready
    }

    pub(super) fn fetch_time_is_up(&mut self) {
        if self.round.phase == Phase::Fetching {
            self.compare_or_give_up();
        }
    }
}
