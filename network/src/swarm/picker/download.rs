//! One wanted blob: which pieces are here, which are on their way, and who may send the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weal_proto::{BlobHash, Outline};

use super::action::{Action, Arrived};
use super::arrival::{Arrival, take_late};
use super::holder::{Holder, Said};
use super::pace::Pace;
use crate::error::{Cause, FetchError};
use crate::identity::PeerKey;
use crate::reputation::Offence;
use crate::swarm::bits::Bits;
use crate::swarm::frame::{Body, Frame, Priority};
use crate::swarm::limits::{RELAYED_AFTER, STARVED};

/// What to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub blob: BlobHash,
    pub priority: Priority,
    /// A longer blob is not fetched.
    pub max_bytes: u64,
    /// How long to look for a peer that has the blob.
    pub patience: Duration,
}

pub(super) struct Download {
    order: Order,
    outline: Option<Arc<Outline>>,
    /// Pieces that are here. `None` until there is room for them.
    have: Option<Bits>,
    holders: BTreeMap<PeerKey, Holder>,
    arrivals: Vec<Arrival>,
    pace: Pace,
    /// When the outline or a piece arrived last.
    progress: Instant,
    /// A piece was refused, because too many were on their way.
    refused: bool,
}

impl Download {
    pub(super) fn new(order: Order, now: Instant) -> Self {
        Self {
            order,
            outline: None,
            have: None,
            holders: BTreeMap::new(),
            arrivals: Vec::new(),
            pace: Pace::default(),
            progress: now,
            refused: false,
        }
    }

    /// Somebody else wants the blob too, perhaps more urgently.
    pub(super) fn also(&mut self, order: Order) {
        self.order.priority = self.order.priority.min(order.priority);
        self.order.max_bytes = self.order.max_bytes.max(order.max_bytes);
        self.order.patience = self.order.patience.max(order.patience);
    }

    pub(super) fn outline(&self) -> Option<&Arc<Outline>> {
        self.outline.as_ref()
    }

    /// What is here, and its outline.
    pub(super) fn held(&self) -> Option<(&Outline, &Bits)> {
        Some((self.outline.as_deref()?, self.have.as_ref()?))
    }

    pub(super) fn arrivals_from(&self, matches: impl Fn(&PeerKey) -> bool) -> usize {
        let arrivals = self.arrivals.iter();
        arrivals.filter(|arrival| matches(&arrival.from)).count()
    }

    pub(super) fn connected(&mut self, peer: PeerKey, now: Instant) {
        self.holders.insert(peer, Holder::new(now));
    }

    pub(super) fn disconnected(&mut self, peer: &PeerKey) {
        self.holders.remove(peer);
    }

    /// Whether a peer is asked.
    pub(super) fn asks(&self, peer: &PeerKey) -> bool {
        self.holders.contains_key(peer)
    }

    /// Whether peers behind relays are to be asked, too: nothing has arrived for long.
    pub(super) fn needs_relayed(&self, now: Instant) -> bool {
        let pause = RELAYED_AFTER.min(self.order.patience / 2);
        now.saturating_duration_since(self.progress) >= pause
    }

    /// A peer answers.
    pub(super) fn heard(
        &mut self,
        from: PeerKey,
        body: Body,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(holder) = self.holders.get_mut(&from) else {
            return;
        };
        match body {
            Body::Outline(outline) => self.outlined(from, outline, now, actions),
            Body::Here => {
                holder.is_here();
                self.tell(now, actions);
            }
            Body::NotHere => holder.is_not_here(now),
            Body::NotYet { milliseconds } => holder.is_not_yet(milliseconds, now),
            Body::Ask { .. } | Body::Want { .. } | Body::Cancel { .. } | Body::Drop => {}
        }
    }

    fn outlined(
        &mut self,
        from: PeerKey,
        outline: Outline,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if self.outline.is_some() {
            return;
        }
        let (blob, limit) = (self.order.blob, self.order.max_bytes);
        if outline.verify(&blob).is_err() {
            self.blame(from, Offence::BadOutline, actions);
            return;
        }
        if outline.bytes > limit {
            let bytes = outline.bytes;
            let error = FetchError::TooLarge {
                hash: blob,
                bytes,
                limit,
            };
            actions.push(Action::Failed { blob, error });
            return;
        }
        let outline = Arc::new(outline);
        self.outline = Some(Arc::clone(&outline));
        self.progress = now;
        actions.push(Action::Prepare { blob, outline });
    }

    /// There is room for the blob, and these pieces of it are here.
    pub(super) fn prepared(&mut self, have: Bits, now: Instant, actions: &mut Vec<Action>) {
        if have.is_complete() {
            let blob = self.order.blob;
            actions.push(Action::Done { blob });
        }
        self.have = Some(have);
        self.tell(now, actions);
    }

    /// Whether a piece from a peer is welcome.
    pub(super) fn welcomes(&self, from: PeerKey, piece: u32, now: Instant) -> bool {
        let wanted = self
            .have
            .as_ref()
            .is_some_and(|have| piece < have.pieces() && !have.has(piece));
        let holder = self.holders.get(&from);
        let may = holder.is_some_and(|holder| !holder.has_lied() && !holder.is_resting(now));
        let only_late = self
            .arrivals
            .iter()
            .all(|arrival| arrival.piece != piece || (arrival.late && arrival.from != from));
        wanted && may && only_late
    }

    /// A welcome piece has no room.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// A peer begins to send a welcome piece.
    pub(super) fn begun(
        &mut self,
        from: PeerKey,
        piece: u32,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.arrivals.push(Arrival {
            from,
            piece,
            began: now,
            late: false,
        });
        self.cancel(piece, &from, actions);
    }

    /// Stops taking a late piece from a peer that matches. Returns whether there was one.
    pub(super) fn stop_late(
        &mut self,
        matches: impl Fn(&PeerKey) -> bool,
        actions: &mut Vec<Action>,
    ) -> bool {
        let stopped = take_late(&mut self.arrivals, matches);
        let blob = self.order.blob;
        actions.extend(
            stopped.map(|Arrival { from, piece, .. }| Action::StopTaking { from, blob, piece }),
        );
        stopped.is_some()
    }

    /// A piece arrived, or did not.
    pub(super) fn ended(
        &mut self,
        from: PeerKey,
        piece: u32,
        how: Arrived,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let same = |arrival: &Arrival| arrival.from == from && arrival.piece == piece;
        let Some(place) = self.arrivals.iter().position(same) else {
            return;
        };
        let arrival = self.arrivals.swap_remove(place);
        match how {
            Arrived::Stored => self.stored(arrival, now, actions),
            Arrived::Forged => {
                self.blame(from, Offence::BadChunk, actions);
                self.tell_again(now, actions);
            }
            Arrived::Failed => {
                if let Some(holder) = self.holders.get_mut(&from) {
                    holder.failed(now);
                }
                self.tell_again(now, actions);
            }
        }
    }

    fn stored(&mut self, arrival: Arrival, now: Instant, actions: &mut Vec<Action>) {
        let took = now.saturating_duration_since(arrival.began);
        self.pace.arrived(took);
        self.progress = now;
        if let (Some(holder), false) = (self.holders.get_mut(&arrival.from), arrival.late) {
            holder.succeeded();
        }
        let (blob, piece) = (self.order.blob, arrival.piece);
        if arrival.late {
            // Others were told that they may send it too.
            self.cancel(piece, &arrival.from, actions);
        }
        for slower in self.arrivals.extract_if(.., |other| other.piece == piece) {
            actions.push(Action::StopTaking {
                from: slower.from,
                blob,
                piece,
            });
        }
        if let Some(have) = &mut self.have {
            have.set(piece, true);
            if have.is_complete() {
                actions.push(Action::Done { blob });
            }
        }
    }

    /// Time passes: asks again, notices late pieces, and gives up in the end.
    pub(super) fn tick(&mut self, is_room: bool, now: Instant, actions: &mut Vec<Action>) {
        let blob = self.order.blob;
        let outline = self.outline.is_none();
        for (peer, holder) in &mut self.holders {
            if holder.is_due(now) {
                actions.push(send(*peer, blob, Body::Ask { outline }));
            }
        }
        if self.mark_late(now) || (self.refused && is_room) {
            self.refused = false;
            self.tell_again(now, actions);
        }
        self.tell(now, actions);
        if now.saturating_duration_since(self.progress) >= self.patience() {
            let error = self.failure();
            actions.push(Action::Failed { blob, error });
        }
    }

    fn mark_late(&mut self, now: Instant) -> bool {
        let late_after = self.pace.late_after(self.wanted().is_empty());
        let mut any = false;
        for arrival in &mut self.arrivals {
            let took = now.saturating_duration_since(arrival.began);
            if !arrival.late && took >= late_after {
                arrival.late = true;
                any = true;
                if let Some(holder) = self.holders.get_mut(&arrival.from) {
                    holder.failed(now);
                }
            }
        }
        any
    }

    /// Pieces that any peer may send.
    fn wanted(&self) -> Bits {
        let Some(have) = &self.have else {
            return Bits::default();
        };
        let mut wanted = have.complement();
        for arrival in self.arrivals.iter().filter(|arrival| !arrival.late) {
            wanted.set(arrival.piece, false);
        }
        wanted
    }

    /// Tells every holder again what is wanted. Those that rest are told that nothing is.
    fn tell_again(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (blob, priority) = (self.order.blob, self.order.priority);
        let pieces = Bits::none(self.have.as_ref().map_or(0, Bits::pieces));
        for (peer, holder) in &mut self.holders {
            if holder.told && !holder.is_ready(now) {
                let pieces = pieces.clone();
                actions.push(send(*peer, blob, Body::Want { priority, pieces }));
            }
            holder.told = false;
        }
        self.tell(now, actions);
    }

    /// Tells holders that do not know it yet what is wanted.
    fn tell(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.have.is_none() {
            return;
        }
        let wanted = self.wanted();
        let (blob, priority) = (self.order.blob, self.order.priority);
        for (peer, holder) in &mut self.holders {
            if holder.is_ready(now) && !holder.told {
                holder.told = true;
                let mut pieces = wanted.clone();
                let theirs = self.arrivals.iter().filter(|arrival| arrival.from == *peer);
                theirs.for_each(|arrival| pieces.set(arrival.piece, false));
                actions.push(send(*peer, blob, Body::Want { priority, pieces }));
            }
        }
    }

    fn cancel(&self, piece: u32, sender: &PeerKey, actions: &mut Vec<Action>) {
        let others = self.holders.iter();
        let others = others.filter(|(peer, holder)| holder.told && *peer != sender);
        actions
            .extend(others.map(|(peer, _)| send(*peer, self.order.blob, Body::Cancel { piece })));
    }

    fn blame(&mut self, peer: PeerKey, offence: Offence, actions: &mut Vec<Action>) {
        if let Some(holder) = self.holders.get_mut(&peer) {
            holder.lied(offence);
        }
        actions.push(Action::Blame { peer, offence });
        actions.push(send(peer, self.order.blob, Body::Drop));
    }

    /// Nothing more is needed: ends what is on its way.
    pub(super) fn end(&self, actions: &mut Vec<Action>) {
        let blob = self.order.blob;
        for arrival in &self.arrivals {
            let (from, piece) = (arrival.from, arrival.piece);
            actions.push(Action::StopTaking { from, blob, piece });
        }
        let holders = self.holders.keys();
        actions.extend(holders.map(|peer| send(*peer, blob, Body::Drop)));
    }

    fn patience(&self) -> Duration {
        let mut said = self.holders.values().map(Holder::said);
        if said.any(|said| matches!(said, Said::Here | Said::NotYet)) {
            STARVED.max(self.order.patience)
        } else {
            self.order.patience
        }
    }

    fn failure(&self) -> FetchError {
        let hash = self.order.blob;
        let causes: Vec<_> = self
            .holders
            .iter()
            .map(|(peer, holder)| Cause {
                peer: *peer,
                why: holder.why(),
            })
            .collect();
        match &self.have {
            _ if causes.is_empty() => FetchError::NoHolders { hash },
            Some(have) => FetchError::Incomplete {
                hash,
                missing: have.complement().count() as usize,
                causes,
            },
            None => FetchError::NotFound { hash, causes },
        }
    }
}

fn send(to: PeerKey, blob: BlobHash, body: Body) -> Action {
    let frame = Frame { blob, body };
    Action::Send { to, frame }
}
