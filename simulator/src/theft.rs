//! Peers that make nothing, and commit to somebody else's work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use weal_coordinator_free::sim::{Act, Dishonest, Glimpse, Said};
use weal_proto::{Commitment, Envelope, Kind, RoundNumber};

use crate::lab::Lab;

/// What a thief commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theft {
    /// The blob that another peer has just committed to.
    Running,
    /// A blob of the round before, which every peer holds and serves.
    Old,
    /// A copy of a body that another peer has revealed, under its own name.
    Revealed,
}

/// A peer that commits to somebody else's work.
pub(crate) struct Thief {
    theft: Theft,
    lab: Rc<RefCell<Lab>>,
    /// The first commitment of another peer that was heard, by round.
    heard: BTreeMap<RoundNumber, Commitment>,
    /// The last round in which it committed.
    committed: Option<RoundNumber>,
}

impl std::fmt::Debug for Thief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thief")
            .field("theft", &self.theft)
            .finish_non_exhaustive()
    }
}

impl Thief {
    pub(crate) fn new(theft: Theft, lab: &Rc<RefCell<Lab>>) -> Self {
        Self {
            theft,
            lab: Rc::clone(lab),
            heard: BTreeMap::new(),
            committed: None,
        }
    }

    fn note(&mut self, glimpse: &Glimpse<'_>) {
        let heard = glimpse.heard.filter(|one| one.kind == Kind::Commitment);
        let Some(heard) = heard.filter(|one| one.signer != glimpse.key.peer()) else {
            return;
        };
        if let Ok(commitment) = heard.open::<Commitment>() {
            let round = commitment.round;
            self.heard.retain(|before, _| before.0 + 2 > round.0);
            self.heard.entry(round).or_insert(commitment);
        }
    }

    /// The commitment to send now, if the time has come.
    fn steal(&self, glimpse: &Glimpse<'_>) -> Option<Commitment> {
        let round = glimpse.chain.round();
        if self.committed >= Some(round) {
            return None;
        }
        let running = self.heard.get(&round)?;
        let (blob, blob_bytes) = match self.theft {
            Theft::Running => (running.blob, running.blob_bytes),
            Theft::Old => {
                let old = self.heard.get(&round.previous()?)?;
                (old.blob, old.blob_bytes)
            }
            Theft::Revealed if !(glimpse.is_served)(&running.blob) => return None,
            Theft::Revealed => {
                let mut lab = self.lab.borrow_mut();
                lab.copied(&running.blob, glimpse.key.peer())?
            }
        };
        Some(Commitment {
            blob,
            blob_bytes,
            ..running.clone()
        })
    }
}

impl Dishonest for Thief {
    fn say(&mut self, _: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        vec![Said::to_all(envelope)]
    }

    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        self.note(glimpse);
        let Some(stolen) = self.steal(glimpse) else {
            return Vec::new();
        };
        self.committed = Some(stolen.round);
        let mut acts = vec![Act::Say(Said::to_all(glimpse.sign(&stolen)))];
        if self.theft == Theft::Revealed {
            acts.push(Act::Serve(stolen.blob));
        }
        acts
    }
}
