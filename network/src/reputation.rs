//! Reputation of peers and of address blocks: offences earn demerits, and demerits lead to a ban.
//!
//! Only what the peer itself did counts, and only what no honest peer does, even on a bad line:
//! connections are authenticated, so wrong bytes come from the sender. Demerits fade, and bans end.
//!
//! A banned peer can come back under a new key. So its ban counts against its address block, too,
//! and after some bans no stranger from that block is let in for a while. Members are.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::origin::Origin;

/// Demerits that lead to a ban, of a peer or of an address block.
const BAN_AT: f64 = 100.0;
/// Demerits of an address block for each peer from it that is banned.
const BLOCK_DEMERITS: f64 = 40.0;
/// Length of a ban.
const BAN_FOR: Duration = Duration::from_secs(600);
/// Time in which demerits halve.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Demerits below this are forgotten.
const FORGOTTEN_BELOW: f64 = 0.5;
/// Limit on peers remembered, and on address blocks. Beyond it, the one with the fewest demerits is
/// forgotten.
const REMEMBERED: usize = 4096;

/// A peer's breach of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It sent bytes that do not match the chunk asked for.
    BadChunk,
    /// It sent an outline of another blob.
    BadOutline,
    /// Its answer was too long, or of an unknown kind.
    MalformedAnswer,
    /// Its request was too long or malformed.
    MalformedRequest,
    /// It sent more useless gossip than honest peers ever do.
    Noise,
    /// It sent more bytes unasked than honest peers ever do.
    Flood,
}

impl Offence {
    fn demerits(self) -> f64 {
        match self {
            Self::BadChunk | Self::BadOutline => 40.0,
            Self::MalformedAnswer | Self::Noise | Self::Flood => 25.0,
            Self::MalformedRequest => 10.0,
        }
    }
}

#[derive(Debug)]
struct Record {
    demerits: f64,
    since: Instant,
    banned_until: Option<Instant>,
}

impl Record {
    fn demerits(&self, now: Instant) -> f64 {
        let halvings =
            now.saturating_duration_since(self.since).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.demerits * (-halvings).exp2()
    }
}

/// Whom an offence bans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bans {
    pub peer: bool,
    /// The address block of the peer.
    pub block: Option<Origin>,
}

/// Whose ban is over.
#[derive(Debug, Default)]
pub(crate) struct Unbanned {
    pub peers: Vec<PeerId>,
    pub blocks: Vec<Origin>,
}

/// The demerits of all peers, and of their address blocks.
#[derive(Debug, Default)]
pub(crate) struct Reputation {
    peers: Records<PeerId>,
    blocks: Records<Origin>,
}

impl Reputation {
    /// Counts an offence of a peer that is connected from `origin`. Returns who is banned for it.
    pub(crate) fn offended(
        &mut self,
        peer: PeerId,
        origin: Option<Origin>,
        offence: Offence,
        now: Instant,
    ) -> Bans {
        let banned = self.peers.add(peer, offence.demerits(), now);
        let block = origin.filter(|origin| {
            banned && origin.is_internet() && self.blocks.add(*origin, BLOCK_DEMERITS, now)
        });
        Bans {
            peer: banned,
            block,
        }
    }

    /// The current demerits of a peer.
    pub(crate) fn demerits(&self, peer: &PeerId, now: Instant) -> f64 {
        let record = self.peers.0.get(peer);
        record.map_or(0.0, |record| record.demerits(now))
    }

    /// Returns whose ban is over, and forgets faded demerits.
    pub(crate) fn unbanned(&mut self, now: Instant) -> Unbanned {
        Unbanned {
            peers: self.peers.unbanned(now),
            blocks: self.blocks.unbanned(now),
        }
    }
}

#[derive(Debug)]
struct Records<K>(HashMap<K, Record>);

impl<K> Default for Records<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Records<K> {
    /// Adds demerits. Returns whether that leads to a ban.
    fn add(&mut self, to: K, demerits: f64, now: Instant) -> bool {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&to) {
            self.forget_least_demerits(now);
        }
        let record = self.0.entry(to).or_insert(Record {
            demerits: 0.0,
            since: now,
            banned_until: None,
        });
        record.demerits = record.demerits(now) + demerits;
        record.since = now;
        let banned = record.banned_until.is_none() && record.demerits >= BAN_AT;
        if banned {
            record.banned_until = Some(now + BAN_FOR);
        }
        banned
    }

    fn unbanned(&mut self, now: Instant) -> Vec<K> {
        let mut unbanned = Vec::new();
        self.0.retain(|of, record| {
            if record.banned_until.is_some_and(|until| until <= now) {
                record.banned_until = None;
                unbanned.push(*of);
            }
            record.banned_until.is_some() || record.demerits(now) >= FORGOTTEN_BELOW
        });
        unbanned
    }

    fn forget_least_demerits(&mut self, now: Instant) {
        let best = self
            .0
            .iter()
            .filter(|(_, record)| record.banned_until.is_none())
            .min_by(|(_, a), (_, b)| a.demerits(now).total_cmp(&b.demerits(now)))
            .map(|(of, _)| *of);
        if let Some(best) = best {
            self.0.remove(&best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three bad chunks. Returns who is banned for the last one.
    fn offend(all: &mut Reputation, peer: PeerId, from: &str, now: Instant) -> Bans {
        let origin = Some(Origin::of(&from.parse().unwrap()));
        let mut send = || all.offended(peer, origin, Offence::BadChunk, now);
        assert_eq!([send(), send()], [Bans::default(); 2]);
        send()
    }

    #[test]
    fn the_third_bad_chunk_bans_a_peer_for_a_while() {
        let (mut all, peer, start) = (Reputation::default(), PeerId::random(), Instant::now());
        let bans = offend(&mut all, peer, "/ip4/8.8.8.1/tcp/1", start);
        assert!(bans.peer && bans.block.is_none());
        assert!(all.unbanned(start + BAN_FOR / 2).peers.is_empty());
        assert_eq!(all.unbanned(start + BAN_FOR).peers, [peer]);
        assert!(all.unbanned(start + BAN_FOR).peers.is_empty());
    }

    #[test]
    fn new_keys_from_one_block_get_the_block_banned_for_a_while() {
        let (mut all, start) = (Reputation::default(), Instant::now());
        let mut banned = |host: u8| {
            let from = format!("/ip4/8.8.8.{host}/tcp/1");
            offend(&mut all, PeerId::random(), &from, start).block
        };
        let block = Origin::of(&"/ip4/8.8.8.0/tcp/1".parse().unwrap());
        assert_eq!([banned(1), banned(2), banned(3)], [None, None, Some(block)]);
        assert!(all.unbanned(start + BAN_FOR / 2).blocks.is_empty());
        assert_eq!(all.unbanned(start + BAN_FOR).blocks, [block]);
    }

    #[test]
    fn peers_behind_one_local_proxy_do_not_answer_for_each_other() {
        let (mut all, start) = (Reputation::default(), Instant::now());
        for _ in 0..10 {
            let bans = offend(&mut all, PeerId::random(), "/ip4/127.0.0.1/tcp/1", start);
            assert!(bans.peer && bans.block.is_none());
        }
    }

    #[test]
    fn demerits_fade() {
        let (mut all, peer, start) = (Reputation::default(), PeerId::random(), Instant::now());
        all.offended(peer, None, Offence::BadChunk, start);
        assert!((all.demerits(&peer, start + HALF_LIFE) - 20.0).abs() < 1e-9);
        all.unbanned(start + HALF_LIFE * 20);
        assert!(all.peers.0.is_empty());
    }

    #[test]
    fn the_memory_for_demerits_is_bounded() {
        let (mut all, start) = (Reputation::default(), Instant::now());
        for _ in 0..REMEMBERED + 10 {
            all.offended(PeerId::random(), None, Offence::Noise, start);
        }
        assert!(all.peers.0.len() <= REMEMBERED);
    }
}
