//! Which piece to send whom: what peers want, and what is on its way to them.
//!
//! Peers say what they want, and the sender chooses, because it alone knows when its uplink is
//! free. It sends the piece that most peers still want. At an author, where nobody has anything,
//! that is a piece not sent before: each piece leaves the author once before any leaves it twice.
//!
//! Strangers may be one attacker, and peers may read slowly on purpose. Neither must hold up
//! members. So what is on its way to strangers, and to peers whose last piece was slow, never keeps
//! a piece from a member. While members get pieces, the others take turns (see [`Turns`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weal_proto::{BlobHash, Outline};

use super::action::{Gift, GiftId};
use super::turns::Turns;
use super::window::Window;
use crate::identity::PeerKey;
use crate::members::{Members, Standing};
use crate::swarm::bits::Bits;
use crate::swarm::frame::Priority;
use crate::swarm::limits::{
    FAIR_ONE_IN, GIFTS_PER_PEER, INTERESTS_PER_PEER, SHORT_PIECE, SLOW_FOR, SLOW_PEERS, WINDOW_SLOW,
};

/// What peers want, and the pieces on their way to them.
pub(super) struct Uploads {
    members: Arc<Members>,
    clients: BTreeMap<PeerKey, Client>,
    gifts: BTreeMap<GiftId, Going>,
    turns: Turns,
    /// Peers whose last piece was slow, and when. Remembered when they disconnect, too.
    slow: BTreeMap<PeerKey, Instant>,
    window: Window,
    /// Gifts so far.
    given: u64,
    random: StdRng,
}

/// A piece that is offered to a peer, or on its way.
struct Going {
    gift: Gift,
    offered: Instant,
    /// Since when its bytes are on their way.
    flows: Option<Instant>,
}

impl Going {
    /// How long it has taken since it began to flow, or was offered.
    fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.flows.unwrap_or(self.offered))
    }
}

/// One peer.
#[derive(Default)]
struct Client {
    interests: BTreeMap<BlobHash, Interest>,
    /// Pieces on their way to it.
    giving: usize,
    /// When it got its last piece, counted in gifts.
    served: u64,
}

/// A peer's interest in a blob.
#[derive(Default)]
struct Interest {
    needs_outline: bool,
    wants: Option<(Priority, Bits)>,
}

/// What makes a piece the next one: how urgent it is, how many peers want it, and chance.
type Rank = (Reverse<Priority>, usize, u32);

/// What this node has of a blob.
pub(super) type Held<'a> = (&'a Outline, &'a Bits);

impl Uploads {
    pub(super) fn new(members: Arc<Members>, seed: u64) -> Self {
        Self {
            members,
            clients: BTreeMap::new(),
            gifts: BTreeMap::new(),
            turns: Turns::default(),
            slow: BTreeMap::new(),
            window: Window::new(),
            given: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Forgets a peer, and what it wanted. Pieces on their way to it end by themselves.
    pub(super) fn disconnected(&mut self, peer: &PeerKey) {
        self.clients.remove(peer);
    }

    /// A peer needs a blob. `false` if it needs too many.
    pub(super) fn asked(&mut self, peer: PeerKey, blob: BlobHash, needs_outline: bool) -> bool {
        let gifts = &self.gifts;
        let client = self.clients.entry(peer).or_insert_with(|| {
            // Pieces may still be on their way to a peer that begins anew.
            let gifts = gifts.values().filter(|going| going.gift.to == peer);
            let giving = gifts.count();
            Client {
                giving,
                ..Client::default()
            }
        });
        let interests = &mut client.interests;
        if interests.len() >= INTERESTS_PER_PEER && !interests.contains_key(&blob) {
            return false;
        }
        interests.entry(blob).or_default().needs_outline = needs_outline;
        true
    }

    /// A peer says which pieces it wants. Nothing if it never asked for the blob.
    pub(super) fn wants(&mut self, peer: &PeerKey, blob: &BlobHash, wants: (Priority, Bits)) {
        if let Some(interest) = self.interest(peer, blob) {
            interest.wants = Some(wants);
        }
    }

    /// A peer no longer wants a piece.
    pub(super) fn cancelled(&mut self, peer: &PeerKey, blob: &BlobHash, piece: u32) {
        if let Some((_, wants)) = self
            .interest(peer, blob)
            .and_then(|interest| interest.wants.as_mut())
        {
            wants.set(piece, false);
        }
    }

    /// A peer needs nothing more of a blob.
    pub(super) fn dropped(&mut self, peer: &PeerKey, blob: &BlobHash) {
        if let Some(client) = self.clients.get_mut(peer) {
            client.interests.remove(blob);
        }
    }

    /// Peers that are interested in a blob, and whether each needs its outline.
    pub(super) fn interested<'a>(
        &'a self,
        blob: &'a BlobHash,
    ) -> impl Iterator<Item = (PeerKey, bool)> + 'a {
        self.clients.iter().filter_map(move |(peer, client)| {
            let interest = client.interests.get(blob)?;
            Some((*peer, interest.needs_outline))
        })
    }

    /// Blobs in which any peer is interested.
    pub(super) fn blobs(&self) -> BTreeSet<BlobHash> {
        let clients = self.clients.values();
        clients
            .flat_map(|client| client.interests.keys().copied())
            .collect()
    }

    /// Every peer that needed the outline of a blob has got it.
    pub(super) fn outline_sent(&mut self, blob: &BlobHash) {
        for client in self.clients.values_mut() {
            if let Some(interest) = client.interests.get_mut(blob) {
                interest.needs_outline = false;
            }
        }
    }

    /// Whether pieces are on their way to members that read at once.
    pub(super) fn serves_members(&self, now: Instant) -> bool {
        self.bytes_to_members(now) > 0
    }

    /// Whether no piece is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.gifts.is_empty()
    }

    /// The next piece to send, if the window is open and a peer wants something that is here.
    pub(super) fn next<'a>(
        &mut self,
        now: Instant,
        held: impl Fn(&BlobHash) -> Option<Held<'a>>,
    ) -> Option<Gift> {
        let window = self.window.bytes();
        let to_members = self.bytes_to_members(now);
        let is_room = to_members < window && self.offered_to_members(now) < self.window.offered();
        let members_may = is_room && (to_members == 0 || !self.pauses(now));
        let others_may = match to_members {
            0 => self.bytes_of(now, |_| true) < window,
            _ => self.turns.is_one(now),
        };
        if !members_may && !others_may {
            return None;
        }
        let order = self.order();
        let gift = order.into_iter().find_map(|to| {
            let may = match self.is_prompt_member(&to) {
                true => members_may,
                false => others_may,
            };
            if !may {
                return None;
            }
            let (blob, piece) = self.piece_for(&to, &held)?;
            let bytes = held(&blob)?.0.chunk_bytes(piece as usize)?;
            let id = GiftId(self.given);
            // On an idle uplink, bytes sent in vain cost nothing.
            let waits = bytes > SHORT_PIECE && self.flows(now);
            Some(Gift {
                id,
                to,
                blob,
                piece,
                bytes,
                waits,
            })
        })?;
        self.given += 1;
        self.cancelled(&gift.to, &gift.blob, gift.piece);
        if let Some(client) = self.clients.get_mut(&gift.to) {
            client.giving += 1;
            client.served = self.given;
        }
        if !self.is_prompt_member(&gift.to) {
            self.turns.begun(gift.id, now);
        }
        let going = Going {
            gift,
            offered: now,
            flows: (!gift.waits).then_some(now),
        };
        self.gifts.insert(gift.id, going);
        Some(gift)
    }

    /// A peer wants a piece that it was offered.
    pub(super) fn welcome(&mut self, id: GiftId, now: Instant) {
        if let Some(going) = self.gifts.get_mut(&id) {
            going.flows.get_or_insert(now);
        }
    }

    /// A piece arrived, or did not.
    pub(super) fn given(&mut self, id: GiftId, arrived: bool, now: Instant) {
        let Some(going) = self.gifts.remove(&id) else {
            return;
        };
        self.turns.ended(id, now);
        let (gift, took) = (going.gift, going.took(now));
        let is_slow = took >= self.window.slow();
        // Peers must not narrow the window by reading slowly.
        if arrived && (took < WINDOW_SLOW || self.is_prompt_member(&gift.to)) {
            self.window.arrived(gift.bytes, took);
        }
        if !is_slow {
            self.slow.remove(&gift.to);
        } else {
            self.remember_slow(gift.to, now);
        }
        if let Some(client) = self.clients.get_mut(&gift.to) {
            client.giving = client.giving.saturating_sub(1);
        }
    }

    fn interest(&mut self, peer: &PeerKey, blob: &BlobHash) -> Option<&mut Interest> {
        self.clients.get_mut(peer)?.interests.get_mut(blob)
    }

    /// Bytes offered to members that read at once, or on their way to them.
    fn bytes_to_members(&self, now: Instant) -> usize {
        self.bytes_of(now, |going| self.is_prompt_member(&going.gift.to))
    }

    /// Those that are only offered.
    fn offered_to_members(&self, now: Instant) -> usize {
        let is_offer = |going: &Going| going.flows.is_none();
        self.bytes_of(now, |going| {
            is_offer(going) && self.is_prompt_member(&going.gift.to)
        })
    }

    /// Whether the bytes of any piece are on their way.
    fn flows(&self, now: Instant) -> bool {
        self.counted(now).any(|going| going.flows.is_some())
    }

    /// Bytes of some of the pieces that are offered or on their way.
    fn bytes_of(&self, now: Instant, matches: impl Fn(&Going) -> bool) -> usize {
        let matching = self.counted(now).filter(|going| matches(going));
        matching.map(|going| going.gift.bytes).sum()
    }

    /// Pieces that are offered or on their way, without those that are so slow that they do not
    /// count.
    fn counted(&self, now: Instant) -> impl Iterator<Item = &Going> {
        let slow = self.window.slow();
        self.gifts
            .values()
            .filter(move |going| going.took(now) < slow)
    }

    /// Whether a piece began only a moment ago.
    fn pauses(&self, now: Instant) -> bool {
        let pause = self.window.pause();
        let began = self.gifts.values().map(|going| going.offered).max();
        began.is_some_and(|began| now.saturating_duration_since(began) < pause)
    }

    /// Whether a peer is a member whose last piece was not slow.
    fn is_prompt_member(&self, peer: &PeerKey) -> bool {
        self.members.standing(peer) == Standing::Member && !self.slow.contains_key(peer)
    }

    fn remember_slow(&mut self, peer: PeerKey, now: Instant) {
        let lasts = |since: &Instant| now.saturating_duration_since(*since) < SLOW_FOR;
        self.slow.retain(|_, since| lasts(since));
        if self.slow.len() < SLOW_PEERS {
            self.slow.insert(peer, now);
        }
    }

    /// Peers that may get a piece, the next one first.
    fn order(&mut self) -> Vec<PeerKey> {
        let fair = self.given % FAIR_ONE_IN == FAIR_ONE_IN - 1;
        let mut chances = StdRng::seed_from_u64(self.random.random());
        let mut order: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| client.giving < GIFTS_PER_PEER)
            .filter_map(|(peer, client)| {
                let urgent = client.most_urgent()?;
                let comes_later = !self.is_prompt_member(peer);
                let is_slow = self.slow.contains_key(peer);
                let urgency = (!fair).then_some(urgent);
                let standing = (comes_later, is_slow);
                // Otherwise all senders would begin with the same peers.
                let chance: u32 = chances.random();
                Some((
                    standing,
                    urgency,
                    client.giving,
                    client.served,
                    chance,
                    *peer,
                ))
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., peer)| peer).collect()
    }

    /// The piece that a peer gets: of the blobs that it needs most, the piece that most peers want.
    fn piece_for<'a>(
        &mut self,
        peer: &PeerKey,
        held: impl Fn(&BlobHash) -> Option<Held<'a>>,
    ) -> Option<(BlobHash, u32)> {
        let Self {
            clients,
            gifts,
            random,
            ..
        } = self;
        let is_going = |blob: &BlobHash, piece: u32| {
            let mut gifts = gifts.values().map(|going| going.gift);
            gifts.any(|gift| gift.to == *peer && gift.blob == *blob && gift.piece == piece)
        };
        let client = clients.get(peer)?;
        let mut best: Option<(Rank, BlobHash, u32)> = None;
        for (blob, interest) in &client.interests {
            let Some(((priority, wants), (_, have))) = interest.wants.as_ref().zip(held(blob))
            else {
                continue;
            };
            for piece in wants.common(have) {
                if is_going(blob, piece) {
                    continue;
                }
                let wanted = wanted_by(clients, blob, piece);
                let rank = (Reverse(*priority), wanted, random.random());
                if best.is_none_or(|(other, ..)| rank > other) {
                    best = Some((rank, *blob, piece));
                }
            }
        }
        best.map(|(_, blob, piece)| (blob, piece))
    }
}

/// How many peers want a piece.
fn wanted_by(clients: &BTreeMap<PeerKey, Client>, blob: &BlobHash, piece: u32) -> usize {
    let wants = clients.values().filter(|client| {
        let interest = client.interests.get(blob);
        interest.is_some_and(|interest| interest.wants_piece(piece))
    });
    wants.count()
}

impl Client {
    fn most_urgent(&self) -> Option<Priority> {
        let wants = self
            .interests
            .values()
            .filter_map(|interest| interest.wants.as_ref());
        wants
            .filter(|(_, pieces)| !pieces.is_empty())
            .map(|(priority, _)| *priority)
            .min()
    }
}

impl Interest {
    fn wants_piece(&self, piece: u32) -> bool {
        self.wants
            .as_ref()
            .is_some_and(|(_, pieces)| pieces.has(piece))
    }
}
