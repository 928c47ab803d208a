//! Messages that contradict each other: another peer's, and this node's own.

use weal_proto::{Envelope, Kind};

use super::Core;
use crate::interface::event::{DropCause, Event};
use crate::rules::content::Content;
use crate::rules::evidence;

impl Core {
    /// A second message in a slot. The first contradiction of a peer is forwarded, so that everyone
    /// can prove it. More of them would be noise.
    pub(super) fn contradicted(
        &mut self,
        first: &Envelope,
        second: &Envelope,
    ) -> Result<(), DropCause> {
        if self.note_equivocation(first, second) {
            Ok(())
        } else {
            Err(DropCause::Contradicted)
        }
    }

    /// Keeps two contradicting messages as evidence. Returns whether they prove something new.
    pub(super) fn note_equivocation(&mut self, first: &Envelope, second: &Envelope) -> bool {
        let peer = first.signer;
        let round = self.chain.round();
        if peer == self.me {
            self.own_key_elsewhere(second);
            return false;
        }
        // Only peers with an account can be banned.
        let has_account = self.chain.ledger().account(&peer).is_some();
        if !has_account || self.evidence.contains_key(&peer) {
            return false;
        }
        self.evidence
            .insert(peer, evidence::pair(first.clone(), second.clone()));
        self.report(Event::Equivocation {
            peer,
            round,
            kind: second.kind,
        });
        true
    }

    /// Notices a message that this node signed, and does not remember. Kinds that a peer may repeat
    /// do not matter: this node forgets those itself.
    pub(super) fn check_own_key(&mut self, envelope: &Envelope, content: &Content) {
        if envelope.signer == self.me && content.slot().is_some() {
            self.own_key_elsewhere(envelope);
        }
    }

    /// Another machine uses this node's key, or this node's disk was rolled back. Either way, this
    /// node must not vote against what it has signed.
    fn own_key_elsewhere(&mut self, envelope: &Envelope) {
        self.report(Event::OwnKeyElsewhere {
            round: self.chain.round(),
            kind: envelope.kind,
        });
        if matches!(envelope.kind, Kind::Vote | Kind::Proposal) && !self.round.voting_stopped {
            self.stop_voting("another machine has voted with this node's key".into());
        }
    }
}
