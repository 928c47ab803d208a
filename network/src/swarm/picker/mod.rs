//! Decides which pieces of blobs to send, to take, and from whom. It does no I/O and reads no
//! clock: events go in with the time, and [`Action`]s come out, so that a whole swarm can be
//! simulated and tested.
//!
//! A fetcher asks its peers for a blob, and tells all that have some of it which pieces it wants.
//! A peer with a free uplink chooses among them (see [`uploads`]) and begins to send, or, while
//! other pieces are on their way from it, offers the piece first. The fetcher then cancels the
//! piece with all others; a piece that two peers begin at the same moment is refused to the second.
//! Pieces are sent on from the moment they are verified.

mod action;
mod arrival;
mod download;
mod holder;
#[cfg(test)]
mod hostile;
mod pace;
#[cfg(test)]
mod tests;
mod turns;
mod uploads;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use weal_proto::{BlobHash, Outline};

pub(crate) use self::action::{Action, Arrived, Gift, GiftId};
pub(crate) use self::download::Order;

use self::download::Download;
use self::uploads::Uploads;
use super::bits::Bits;
use super::frame::{Body, Frame};
use super::limits::{ARRIVALS_FROM_MEMBERS, ARRIVALS_FROM_STRANGERS, ARRIVALS_PER_PEER, NOT_YET};
use crate::identity::PeerKey;
use crate::members::{Members, Standing};
use crate::reputation::Offence;
use crate::service::Found;

/// The state of all exchanges of blobs.
pub(crate) struct Picker {
    members: Arc<Members>,
    peers: BTreeSet<PeerKey>,
    /// Those of them that are connected through a relay only.
    relayed: BTreeSet<PeerKey>,
    downloads: BTreeMap<BlobHash, Download>,
    /// Complete blobs that peers are interested in.
    shelf: BTreeMap<BlobHash, (Arc<Outline>, Bits)>,
    uploads: Uploads,
    /// Whether this node sends blobs at all.
    gives: bool,
    actions: Vec<Action>,
}

impl Picker {
    /// `seed` breaks ties.
    pub(crate) fn new(members: Arc<Members>, seed: u64) -> Self {
        Self {
            uploads: Uploads::new(Arc::clone(&members), seed),
            members,
            peers: BTreeSet::new(),
            relayed: BTreeSet::new(),
            downloads: BTreeMap::new(),
            shelf: BTreeMap::new(),
            gives: true,
            actions: Vec::new(),
        }
    }

    /// What to do now. Empty the list after each event.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether this node sends blobs from now on. While it does not, it says to everybody that it
    /// has none, so that peers ask others.
    pub(crate) fn set_giving(&mut self, gives: bool, now: Instant) {
        if std::mem::replace(&mut self.gives, gives) == gives {
            return;
        }
        if gives {
            self.give(now);
            return;
        }
        for blob in self.uploads.blobs() {
            self.answer(&blob, &Body::NotHere);
        }
    }

    /// A peer is connected.
    pub(crate) fn connected(&mut self, peer: PeerKey, now: Instant) {
        self.relayed.remove(&peer);
        self.peers.insert(peer);
        self.greet(peer, now);
    }

    /// A peer is connected through a relay only. It is asked for blobs that no other peer sends,
    /// and may ask for any.
    pub(crate) fn connected_through_relay(&mut self, peer: PeerKey, now: Instant) {
        self.relayed.insert(peer);
        self.peers.insert(peer);
        self.greet(peer, now);
    }

    fn greet(&mut self, peer: PeerKey, now: Instant) {
        let is_direct = !self.relayed.contains(&peer);
        for download in self.downloads.values_mut() {
            if is_direct || download.asks(&peer) {
                download.connected(peer, now);
            }
        }
        self.tick(now);
    }

    /// A peer is gone, with all that it asked for.
    pub(crate) fn disconnected(&mut self, peer: &PeerKey) {
        self.peers.remove(peer);
        self.relayed.remove(peer);
        self.uploads.disconnected(peer);
        for download in self.downloads.values_mut() {
            download.disconnected(peer);
        }
        self.clear_shelf();
    }

    /// A peer begins anew, as after a restart: what it asked for is forgotten.
    pub(crate) fn restarted(&mut self, peer: &PeerKey) {
        self.uploads.disconnected(peer);
        self.clear_shelf();
    }

    /// This node must tell a peer everything again.
    pub(crate) fn lost_touch(&mut self, peer: PeerKey, now: Instant) {
        if self.peers.contains(&peer) {
            self.greet(peer, now);
        }
    }

    /// Wants a blob.
    pub(crate) fn want(&mut self, order: Order, now: Instant) {
        if let Some(download) = self.downloads.get_mut(&order.blob) {
            download.also(order);
            return;
        }
        let mut download = Download::new(order, now);
        for peer in self.peers.difference(&self.relayed) {
            download.connected(*peer, now);
        }
        self.downloads.insert(order.blob, download);
        let interested = self.uploads.interested(&order.blob);
        for (peer, _) in interested.filter(|_| self.gives) {
            let (to, blob, body) = (peer, order.blob, Body::Here);
            let frame = Frame { blob, body };
            self.actions.push(Action::Send { to, frame });
        }
        self.tick(now);
    }

    /// No longer wants a blob that is not complete, or is done with one that is.
    pub(crate) fn end(&mut self, blob: &BlobHash, now: Instant) {
        let Some(download) = self.downloads.remove(blob) else {
            return;
        };
        download.end(&mut self.actions);
        match download.held() {
            Some((outline, have)) if have.is_complete() => {
                let whole = (Arc::new(outline.clone()), have.clone());
                self.shelf.insert(*blob, whole);
                self.clear_shelf();
            }
            _ => self.answer(blob, &Body::NotHere),
        }
        self.give(now);
    }

    /// There is room for a wanted blob, and these pieces of it are here.
    pub(crate) fn prepared(&mut self, blob: &BlobHash, have: Bits, now: Instant) {
        let Some(download) = self.downloads.get_mut(blob) else {
            return;
        };
        download.prepared(have, now, &mut self.actions);
        if let Some(outline) = download.outline().cloned() {
            self.show(blob, &outline);
        }
        self.give(now);
    }

    /// What the service knows of a blob that a peer asked for.
    pub(crate) fn looked_up(&mut self, blob: &BlobHash, found: Found<Arc<Outline>>, now: Instant) {
        if self.downloads.contains_key(blob) {
            return;
        }
        match found {
            Found::Here(outline) => {
                let pieces = u32::try_from(outline.chunks.len()).unwrap_or(u32::MAX);
                self.show(blob, &outline);
                self.shelf.insert(*blob, (outline, Bits::all(pieces)));
                self.clear_shelf();
                self.give(now);
            }
            Found::NotHere => self.answer(blob, &Body::NotHere),
            Found::NotYet => {
                let milliseconds = u32::try_from(NOT_YET.as_millis()).unwrap_or(u32::MAX);
                self.answer(blob, &Body::NotYet { milliseconds });
            }
        }
    }

    /// A complete blob is gone, or damaged.
    pub(crate) fn withdrawn(&mut self, blob: &BlobHash) {
        if self.shelf.remove(blob).is_some() {
            self.answer(blob, &Body::NotHere);
        }
    }

    /// A frame of a peer.
    pub(crate) fn heard(&mut self, from: PeerKey, frame: Frame, now: Instant) {
        let Frame { blob, body } = frame;
        match body {
            Body::Ask { outline } => self.asked(from, blob, outline),
            Body::Want { priority, pieces } => {
                if self.fits(&blob, &pieces) {
                    self.uploads.wants(&from, &blob, (priority, pieces));
                } else {
                    let offence = Offence::MalformedRequest;
                    self.actions.push(Action::Blame {
                        peer: from,
                        offence,
                    });
                }
                self.give(now);
            }
            Body::Cancel { piece } => self.uploads.cancelled(&from, &blob, piece),
            Body::Drop => {
                self.uploads.dropped(&from, &blob);
                self.clear_shelf();
            }
            answer => {
                if let Some(download) = self.downloads.get_mut(&blob) {
                    download.heard(from, answer, now, &mut self.actions);
                }
            }
        }
    }

    /// A peer begins to send a piece. Returns the outline to check it with, if it is welcome.
    pub(crate) fn begun(
        &mut self,
        from: PeerKey,
        blob: &BlobHash,
        piece: u32,
        now: Instant,
    ) -> Option<Arc<Outline>> {
        let download = self.downloads.get(blob)?;
        let outline = Arc::clone(download.outline()?);
        if !download.welcomes(from, piece, now) {
            return None;
        }
        let is_room = self.make_room(&from);
        let download = self.downloads.get_mut(blob)?;
        if !is_room {
            download.refuse();
            return None;
        }
        download.begun(from, piece, now, &mut self.actions);
        Some(outline)
    }

    /// A piece from a peer arrived, or did not.
    pub(crate) fn ended(
        &mut self,
        from: PeerKey,
        (blob, piece): (&BlobHash, u32),
        how: Arrived,
        now: Instant,
    ) {
        if let Some(download) = self.downloads.get_mut(blob) {
            download.ended(from, piece, how, now, &mut self.actions);
        }
        self.give(now);
    }

    /// A peer wants a piece that it was offered.
    pub(crate) fn welcome(&mut self, id: GiftId, now: Instant) {
        self.uploads.welcome(id, now);
        self.give(now);
    }

    /// A piece to a peer arrived, or did not.
    pub(crate) fn given(&mut self, id: GiftId, arrived: bool, now: Instant) {
        self.uploads.given(id, arrived, now);
        self.give(now);
    }

    /// Time passes. Call it several times a second.
    pub(crate) fn tick(&mut self, now: Instant) {
        let room = self.is_room_for(Standing::Member) && self.is_room_for(Standing::Stranger);
        for download in self.downloads.values_mut() {
            let unasked = self.relayed.iter().filter(|peer| !download.asks(peer));
            let unasked: Vec<_> = unasked.copied().collect();
            if !unasked.is_empty() && download.needs_relayed(now) {
                for peer in unasked {
                    download.connected(peer, now);
                }
            }
            download.tick(room, now, &mut self.actions);
        }
        self.give(now);
    }

    /// Whether pieces are on their way to members.
    pub(crate) fn serves_members(&self, now: Instant) -> bool {
        self.uploads.serves_members(now)
    }

    /// Whether time matters: something is wanted, or on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.downloads.is_empty() && self.uploads.is_idle()
    }

    fn asked(&mut self, from: PeerKey, blob: BlobHash, needs_outline: bool) {
        let send = |body| Action::Send {
            to: from,
            frame: Frame { blob, body },
        };
        if !self.gives || !self.uploads.asked(from, blob, needs_outline) {
            self.actions.push(send(Body::NotHere));
            return;
        }
        let downloaded = self.downloads.get(&blob);
        let outline = downloaded.map_or_else(
            || self.shelf.get(&blob).map(|(outline, _)| outline),
            Download::outline,
        );
        match outline {
            Some(outline) if needs_outline => {
                let outline = outline.as_ref().clone();
                self.actions.push(send(Body::Outline(outline)));
                self.actions.push(send(Body::Here));
            }
            Some(_) => self.actions.push(send(Body::Here)),
            None if downloaded.is_some() => self.actions.push(send(Body::Here)),
            None => self.actions.push(Action::LookUp { blob }),
        }
    }

    /// Tells every peer that is interested in a blob.
    fn answer(&mut self, blob: &BlobHash, body: &Body) {
        for (to, _) in self.uploads.interested(blob) {
            let (blob, body) = (*blob, body.clone());
            let frame = Frame { blob, body };
            self.actions.push(Action::Send { to, frame });
        }
    }

    /// Tells every peer that is interested in a blob that it is here, or will be.
    fn show(&mut self, blob: &BlobHash, outline: &Arc<Outline>) {
        if !self.gives {
            return;
        }
        for (to, needs_outline) in self.uploads.interested(blob) {
            let outline = needs_outline.then(|| Body::Outline(outline.as_ref().clone()));
            for body in outline.into_iter().chain([Body::Here]) {
                let frame = Frame { blob: *blob, body };
                self.actions.push(Action::Send { to, frame });
            }
        }
        self.uploads.outline_sent(blob);
    }

    /// Whether a set of pieces can be one of this blob, as far as this node knows.
    fn fits(&self, blob: &BlobHash, pieces: &Bits) -> bool {
        let downloaded = self.downloads.get(blob).and_then(Download::outline);
        let outline = downloaded.or_else(|| self.shelf.get(blob).map(|(outline, _)| outline));
        outline.is_none_or(|outline| outline.chunks.len() == pieces.pieces() as usize)
    }

    fn give(&mut self, now: Instant) {
        if !self.gives {
            return;
        }
        let Self {
            downloads,
            shelf,
            uploads,
            actions,
            ..
        } = self;
        let held = |blob: &BlobHash| match downloads.get(blob) {
            Some(download) => download.held(),
            None => shelf
                .get(blob)
                .map(|(outline, have)| (outline.as_ref(), have)),
        };
        while let Some(gift) = uploads.next(now, held) {
            actions.push(Action::Give(gift));
        }
    }

    /// Whether a peer may send one more piece now. If too many pieces are on their way, one that is
    /// late makes room: a few peers that drip hold up nobody else.
    fn make_room(&mut self, from: &PeerKey) -> bool {
        let theirs = self.downloads.values();
        let theirs = theirs.map(|download| download.arrivals_from(|peer| peer == from));
        if theirs.sum::<usize>() >= ARRIVALS_PER_PEER {
            return false;
        }
        let standing = self.members.standing(from);
        if self.is_room_for(standing) {
            return true;
        }
        let same = |peer: &PeerKey| self.members.standing(peer) == standing;
        let mut downloads = self.downloads.values_mut();
        downloads.any(|download| download.stop_late(same, &mut self.actions))
    }

    fn is_room_for(&self, standing: Standing) -> bool {
        let limit = match standing {
            Standing::Member => ARRIVALS_FROM_MEMBERS,
            Standing::Stranger => ARRIVALS_FROM_STRANGERS,
        };
        let same = |peer: &PeerKey| self.members.standing(peer) == standing;
        let arrivals = self.downloads.values();
        arrivals
            .map(|download| download.arrivals_from(same))
            .sum::<usize>()
            < limit
    }

    /// Forgets complete blobs that nobody is interested in.
    fn clear_shelf(&mut self) {
        let uploads = &self.uploads;
        self.shelf
            .retain(|blob, _| uploads.interested(blob).next().is_some());
    }
}
