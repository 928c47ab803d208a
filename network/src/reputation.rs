//! Reputation of peers: offences earn demerits, and demerits lead to a ban.
//!
//! Only what the peer itself did counts, and only what no honest peer does, even on a bad line:
//! connections are authenticated, so wrong bytes come from the sender. Demerits fade.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Demerits that lead to a ban.
const BAN_AT: f64 = 100.0;
/// Length of a ban.
const BAN_FOR: Duration = Duration::from_secs(600);
/// Time in which demerits halve.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Demerits below this are forgotten.
const FORGOTTEN_BELOW: f64 = 0.5;
/// Limit on peers remembered. Beyond it, the peer with the fewest demerits is forgotten.
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
}

impl Offence {
    fn demerits(self) -> f64 {
        match self {
            Self::BadChunk | Self::BadOutline => 40.0,
            Self::MalformedAnswer | Self::Noise => 25.0,
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

/// The demerits of all peers.
#[derive(Debug, Default)]
pub(crate) struct Reputation {
    records: HashMap<PeerId, Record>,
}

impl Reputation {
    /// Counts an offence. Returns whether the peer is banned for it.
    pub(crate) fn offended(&mut self, peer: PeerId, offence: Offence, now: Instant) -> bool {
        if self.records.len() >= REMEMBERED && !self.records.contains_key(&peer) {
            self.forget_least_demerits(now);
        }
        let record = self.records.entry(peer).or_insert(Record {
            demerits: 0.0,
            since: now,
            banned_until: None,
        });
        record.demerits = record.demerits(now) + offence.demerits();
        record.since = now;
        let banned = record.banned_until.is_none() && record.demerits >= BAN_AT;
        if banned {
            record.banned_until = Some(now + BAN_FOR);
        }
        banned
    }

    /// The current demerits of a peer.
    pub(crate) fn demerits(&self, peer: &PeerId, now: Instant) -> f64 {
        self.records
            .get(peer)
            .map_or(0.0, |record| record.demerits(now))
    }

    /// Returns the peers whose ban is over, and forgets faded demerits.
    pub(crate) fn unbanned(&mut self, now: Instant) -> Vec<PeerId> {
        let mut unbanned = Vec::new();
        self.records.retain(|peer, record| {
            if record.banned_until.is_some_and(|until| until <= now) {
                record.banned_until = None;
                unbanned.push(*peer);
            }
            record.banned_until.is_some() || record.demerits(now) >= FORGOTTEN_BELOW
        });
        unbanned
    }

    fn forget_least_demerits(&mut self, now: Instant) {
        let best = self
            .records
            .iter()
            .filter(|(_, record)| record.banned_until.is_none())
            .min_by(|(_, a), (_, b)| a.demerits(now).total_cmp(&b.demerits(now)))
            .map(|(peer, _)| *peer);
        if let Some(best) = best {
            self.records.remove(&best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_bad_chunk_bans_a_peer_for_a_while() {
        let (mut all, peer, start) = (Reputation::default(), PeerId::random(), Instant::now());
        assert!(!all.offended(peer, Offence::BadChunk, start));
        assert!(!all.offended(peer, Offence::BadChunk, start));
        assert!(all.offended(peer, Offence::BadChunk, start));
        assert!(all.unbanned(start + BAN_FOR / 2).is_empty());
        assert_eq!(all.unbanned(start + BAN_FOR), [peer]);
        assert!(all.unbanned(start + BAN_FOR).is_empty());
    }

    #[test]
    fn demerits_fade() {
        let (mut all, peer, start) = (Reputation::default(), PeerId::random(), Instant::now());
        all.offended(peer, Offence::BadChunk, start);
        assert!((all.demerits(&peer, start + HALF_LIFE) - 20.0).abs() < 1e-9);
        all.unbanned(start + HALF_LIFE * 20);
        assert!(all.records.is_empty());
    }
}
