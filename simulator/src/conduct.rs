//! What dishonest peers do with messages and blobs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use weal_coordinator_free::Millis;
use weal_coordinator_free::sim::{Act, Audience, Dishonest, Glimpse, Lie, Said};
use weal_proto::{BlobHash, Envelope, Kind};

use crate::crowd::Crowd;
use crate::lab::Lab;
use crate::mischief::{Mischief, Mischievous};
use crate::theft::{Theft, Thief};

/// The round from which [`Conduct::Vanish`] is silent.
const VANISHES: u64 = 15;
/// How long [`Conduct::Drip`] keeps a contribution back after its time, in milliseconds: the end of
/// the fetch phase is then near.
const DRIP_MS: u64 = 2_700;

/// What a peer does with messages and blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// It sends what its core sends.
    Plain,
    /// It reveals to nobody.
    WithholdAll,
    /// It reveals to every other peer.
    WithholdSome,
    /// It reveals when the time to fetch is nearly over.
    Drip,
    /// It makes nothing, and commits to somebody else's work.
    Steal(Theft),
    /// It makes nothing, and acts for many keys.
    Crowd,
    /// It keeps to the rules for some rounds, and is silent from then on.
    Vanish,
    /// It signs contradictory messages.
    Equivocate(Lie),
    /// It cheats in the agreement.
    Agreement(Mischief),
    /// It proposes nothing.
    NoProposals,
    /// It votes for nothing.
    NoVotes,
}

/// A peer that behaves like this. `None` for one that equivocates: the simulator has those.
pub(crate) fn actor(
    conduct: Conduct,
    index: usize,
    lab: &Rc<RefCell<Lab>>,
) -> Option<Box<dyn Dishonest>> {
    Some(match conduct {
        Conduct::Equivocate(_) => return None,
        Conduct::Agreement(mischief) => Box::new(Mischievous::new(mischief, index, lab)),
        Conduct::Steal(theft) => Box::new(Thief::new(theft, lab)),
        Conduct::Crowd => Box::new(Crowd::new(index, lab)),
        Conduct::Drip => Box::new(Dripping::default()),
        _ => Box::new(Plain { conduct }),
    })
}

/// A peer that sends a part of what its core sends.
#[derive(Debug)]
struct Plain {
    conduct: Conduct,
}

impl Plain {
    fn keeps_back(&self, glimpse: &Glimpse<'_>, own: &Envelope) -> bool {
        match self.conduct {
            Conduct::NoProposals => own.kind == Kind::Proposal,
            Conduct::NoVotes => own.kind == Kind::Vote,
            Conduct::Vanish => glimpse.chain.round().0 >= VANISHES,
            _ => false,
        }
    }
}

impl Dishonest for Plain {
    fn say(&mut self, glimpse: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        let own = envelope.signer == glimpse.key.peer();
        if own && self.keeps_back(glimpse, &envelope) {
            return Vec::new();
        }
        vec![Said::to_all(envelope)]
    }

    fn serve(&mut self, _: &BlobHash) -> Audience {
        match self.conduct {
            Conduct::WithholdAll => Audience::Only(Vec::new()),
            Conduct::WithholdSome => Audience::Even,
            _ => Audience::All,
        }
    }
}

/// A peer that reveals when the time to fetch is nearly over: some get it, and some do not.
#[derive(Debug, Default)]
struct Dripping {
    /// Blobs that should be revealed by now, and since when.
    due: BTreeMap<BlobHash, Option<Millis>>,
}

impl Dishonest for Dripping {
    fn say(&mut self, _: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        vec![Said::to_all(envelope)]
    }

    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        let now = glimpse.now;
        let is_over = |since: &mut Option<Millis>| {
            let since = *since.get_or_insert(now);
            now.since(since) >= DRIP_MS
        };
        let over = self.due.iter_mut().filter_map(|(blob, since)| {
            let is_over = is_over(since);
            is_over.then_some(Act::Serve(*blob))
        });
        over.collect()
    }

    /// The first time nobody is served; the second time, [`Self::add`] has asked for it.
    fn serve(&mut self, blob: &BlobHash) -> Audience {
        if self.due.remove(blob).is_some() {
            return Audience::All;
        }
        self.due.insert(*blob, None);
        Audience::Only(Vec::new())
    }
}
