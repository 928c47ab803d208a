//! A peer without a GPU that acts for many keys.

use std::cell::RefCell;
use std::rc::Rc;

use weal_coordinator_free::sim::{Act, Dishonest, Glimpse, Random, Said};
use weal_proto::{Commitment, Envelope, Kind, RoundNumber, SigningKey, Ticket};

use crate::forging::Forged;
use crate::lab::Lab;

/// The keys of a crowd.
pub(crate) const KEYS: usize = 100;
/// Nonces that a key tries for a ticket in a round.
const TRIES: u64 = 1 << 12;

/// A peer that asks for places under many keys, and commits under those that win one.
pub(crate) struct Crowd {
    keys: Vec<SigningKey>,
    lab: Rc<RefCell<Lab>>,
    /// The last round in which it acted.
    acted: Option<RoundNumber>,
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crowd").finish_non_exhaustive()
    }
}

impl Crowd {
    pub(crate) fn new(index: usize, lab: &Rc<RefCell<Lab>>) -> Self {
        let mut random = Random::new(lab.borrow().seed() ^ (index as u64) << 16);
        let keys: Vec<_> = (0..KEYS)
            .map(|_| SigningKey::from_seed(random.bytes()))
            .collect();
        let peers = keys.iter().map(SigningKey::peer);
        lab.borrow_mut().enter_crowd(index, peers);
        Self {
            keys,
            lab: Rc::clone(lab),
            acted: None,
        }
    }

    /// The first commitment of a member in the running round, if that was heard just now.
    fn begun(&self, glimpse: &Glimpse<'_>) -> Option<Commitment> {
        let heard = glimpse.heard.filter(|one| one.kind == Kind::Commitment)?;
        let commitment: Commitment = heard.open().ok()?;
        let round = glimpse.chain.round();
        let is_new = commitment.round == round && self.acted < Some(round);
        let is_member = glimpse.chain.ledger().is_member(&heard.signer);
        (is_new && is_member).then_some(commitment)
    }

    /// A commitment to something worthless under a key that holds a place.
    fn commit(&self, glimpse: &Glimpse<'_>, key: &SigningKey, like: &Commitment) -> Vec<Act> {
        let forged = Forged {
            run: glimpse.run,
            round: like.round,
            base_root: like.base_root,
            peer: key.peer(),
        };
        let Some((blob, blob_bytes)) = self.lab.borrow_mut().forged(&forged) else {
            return Vec::new();
        };
        let commitment = Commitment {
            blob,
            blob_bytes,
            ..like.clone()
        };
        let signed = Envelope::sign(key, glimpse.run, &commitment);
        vec![Act::Serve(blob), Act::Say(Said::to_all(signed))]
    }

    /// A ticket for a key that has none.
    fn ticket(glimpse: &Glimpse<'_>, key: &SigningKey) -> Option<Act> {
        let round = glimpse.chain.round();
        let bits = glimpse.chain.manifest().membership.ticket_bits;
        let ticket = (0..TRIES)
            .map(|nonce| Ticket { round, nonce })
            .find(|ticket| ticket.work_bits(glimpse.run, key.peer()) >= bits)?;
        let signed = Envelope::sign(key, glimpse.run, &ticket);
        Some(Act::Say(Said::to_all(signed)))
    }
}

impl Dishonest for Crowd {
    fn say(&mut self, _: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        vec![Said::to_all(envelope)]
    }

    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        let Some(begun) = self.begun(glimpse) else {
            return Vec::new();
        };
        self.acted = Some(begun.round);
        let (chain, ledger) = (glimpse.chain, glimpse.chain.ledger());
        let mut acts = Vec::new();
        for key in &self.keys {
            let peer = key.peer();
            if chain.places().slot_of(&peer).is_some() {
                acts.extend(self.commit(glimpse, key, &begun));
            } else if !ledger.is_member(&peer) && !ledger.has_ticket(&peer) {
                acts.extend(Self::ticket(glimpse, key));
            }
        }
        acts
    }
}
