//! What a peer's offences cost it.
//!
//! Only what the peer itself did counts, and only what no honest peer on a bad line does:
//! connections are authenticated, so a wrong byte is the sender's. Offences fade; a peer with too
//! many is shut out for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Demerits at which a peer is shut out.
const SHUT_OUT_AT: f64 = 100.0;
/// For how long.
const SHUT_OUT_FOR: Duration = Duration::from_secs(600);
/// Demerits halve in so long.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Demerits below this are forgotten.
const FORGOTTEN_BELOW: f64 = 0.5;
/// Peers remembered at most; beyond, those with the fewest demerits are forgotten.
const REMEMBERED: usize = 4096;

/// What a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It sent bytes that are not the chunk asked for.
    BadChunk,
    /// It sent an outline that is not that of the blob asked for.
    BadOutline,
    /// Its answer was too long, or of an unknown kind.
    MalformedAnswer,
    /// Its request was too long, or not understandable.
    MalformedRequest,
}

impl Offence {
    fn demerits(self) -> f64 {
        match self {
            Self::BadChunk | Self::BadOutline => 40.0,
            Self::MalformedAnswer => 25.0,
            Self::MalformedRequest => 10.0,
        }
    }
}

#[derive(Debug)]
struct Record {
    demerits: f64,
    since: Instant,
    shut_out_until: Option<Instant>,
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
pub(super) struct Reputation {
    records: HashMap<PeerId, Record>,
}

impl Reputation {
    /// Counts an offence; true where it shuts the peer out.
    pub(super) fn offended(&mut self, peer: PeerId, offence: Offence, now: Instant) -> bool {
        if self.records.len() >= REMEMBERED && !self.records.contains_key(&peer) {
            self.forget_the_best(now);
        }
        let record = self.records.entry(peer).or_insert(Record {
            demerits: 0.0,
            since: now,
            shut_out_until: None,
        });
        record.demerits = record.demerits(now) + offence.demerits();
        record.since = now;
        let shuts_out = record.shut_out_until.is_none() && record.demerits >= SHUT_OUT_AT;
        if shuts_out {
            record.shut_out_until = Some(now + SHUT_OUT_FOR);
        }
        shuts_out
    }

    /// The demerits of a peer now.
    pub(super) fn demerits(&self, peer: &PeerId, now: Instant) -> f64 {
        self.records
            .get(peer)
            .map_or(0.0, |record| record.demerits(now))
    }

    /// Those whose time outside is over; forgets what has faded.
    pub(super) fn readmitted(&mut self, now: Instant) -> Vec<PeerId> {
        let mut readmitted = Vec::new();
        self.records.retain(|peer, record| {
            if record.shut_out_until.is_some_and(|until| until <= now) {
                record.shut_out_until = None;
                readmitted.push(*peer);
            }
            record.shut_out_until.is_some() || record.demerits(now) >= FORGOTTEN_BELOW
        });
        readmitted
    }

    fn forget_the_best(&mut self, now: Instant) {
        let best = self
            .records
            .iter()
            .filter(|(_, record)| record.shut_out_until.is_none())
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
    fn the_third_bad_chunk_shuts_a_peer_out_for_a_while() {
        let (mut all, peer, start) = (Reputation::default(), PeerId::random(), Instant::now());
        assert!(!all.offended(peer, Offence::BadChunk, start));
        assert!(!all.offended(peer, Offence::BadChunk, start));
        assert!(all.offended(peer, Offence::BadChunk, start));
        assert!(all.readmitted(start + SHUT_OUT_FOR / 2).is_empty());
        assert_eq!(all.readmitted(start + SHUT_OUT_FOR), [peer]);
        assert!(all.readmitted(start + SHUT_OUT_FOR).is_empty());
    }

    #[test]
    fn offences_fade() {
        let (mut all, peer, start) = (Reputation::default(), PeerId::random(), Instant::now());
        all.offended(peer, Offence::BadChunk, start);
        assert!((all.demerits(&peer, start + HALF_LIFE) - 20.0).abs() < 1e-9);
        all.readmitted(start + HALF_LIFE * 20);
        assert!(all.records.is_empty());
    }
}
