//! Relays: what this node relays for others, and which peers relay for it.
//!
//! A node behind a router reserves a place at a few public peers, its relays. Others connect to it
//! through them, and both then try to open a direct connection (DCUtR). A pair that cannot stays
//! relayed: its gossip and its control requests go through the relay, and blobs only as a last
//! resort, since the relay usually has them itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, PeerId, relay};

use crate::settings::RelayLimits;

/// Relays at which a private node keeps a place. One may leave at any time.
pub(crate) const RELAYS: usize = 3;
/// Time in which a relay must answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Pause before a relay that refused, or was lost, is asked again.
const REST: Duration = Duration::from_secs(15);
/// Relays of which a refusal is remembered.
const REMEMBERED: usize = 64;

/// The configuration of the relay service.
pub(crate) fn service(limits: &RelayLimits) -> relay::Config {
    relay::Config {
        max_reservations: limits.reservations,
        max_reservations_per_peer: limits.reservations_per_peer,
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_peer,
        max_circuit_bytes: limits.circuit_bytes,
        max_circuit_duration: limits.circuit_duration,
        ..relay::Config::default()
    }
}

/// A peer that relays for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub peer: PeerId,
    /// Where others reach it.
    pub address: Multiaddr,
    pub ping: Option<Duration>,
}

#[derive(Debug)]
struct Place {
    listener: ListenerId,
    asked: Instant,
    granted: bool,
}

/// The relays of this node.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    places: HashMap<PeerId, Place>,
    /// Peers that refused, or were lost, and when.
    resting: HashMap<PeerId, Instant>,
}

impl Relays {
    /// The peer to ask for a place now, if one is needed: the nearest.
    pub(crate) fn next(&mut self, candidates: Vec<Candidate>, now: Instant) -> Option<Candidate> {
        let rests = |since: &Instant| now.saturating_duration_since(*since) < REST;
        self.resting.retain(|_, since| rests(since));
        let waits = |place: &Place| {
            place.granted || now.saturating_duration_since(place.asked) < ANSWER_WITHIN
        };
        if self.places.values().filter(|place| waits(place)).count() >= RELAYS {
            return None;
        }
        let new = candidates.into_iter().filter(|candidate| {
            let peer = &candidate.peer;
            !self.places.contains_key(peer) && !self.resting.contains_key(peer)
        });
        new.min_by_key(|candidate| candidate.ping.unwrap_or(Duration::MAX))
    }

    /// A place was asked for.
    pub(crate) fn asked(&mut self, relay: PeerId, listener: ListenerId, now: Instant) {
        let place = Place {
            listener,
            asked: now,
            granted: false,
        };
        self.places.insert(relay, place);
    }

    /// A relay granted a place, or renewed it. Returns whether it is new.
    pub(crate) fn granted(&mut self, relay: &PeerId) -> bool {
        let place = self.places.get_mut(relay);
        place.is_some_and(|place| !std::mem::replace(&mut place.granted, true))
    }

    /// A listener closed. Returns the relay that it was for, if any.
    pub(crate) fn closed(&mut self, listener: ListenerId, now: Instant) -> Option<PeerId> {
        let mut places = self.places.iter();
        let (relay, _) = places.find(|(_, place)| place.listener == listener)?;
        let relay = *relay;
        self.rest(relay, now);
        Some(relay)
    }

    /// A peer refused to be a relay, or cannot be one now.
    pub(crate) fn rest(&mut self, relay: PeerId, now: Instant) {
        self.places.remove(&relay);
        if self.resting.len() < REMEMBERED {
            self.resting.insert(relay, now);
        }
    }

    /// The peers at which this node has a place now.
    pub(crate) fn granting(&self) -> impl Iterator<Item = &PeerId> {
        let places = self.places.iter();
        places
            .filter(|(_, place)| place.granted)
            .map(|(relay, _)| relay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(ping: Option<u64>) -> Candidate {
        Candidate {
            peer: PeerId::random(),
            address: "/ip4/9.9.9.9/tcp/1".parse().unwrap(),
            ping: ping.map(Duration::from_millis),
        }
    }

    #[test]
    fn the_nearest_relays_are_asked_until_there_are_enough() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let all = [Some(30), None, Some(10), Some(20)].map(candidate);
        for expected in [2, 3, 0] {
            let next = relays.next(all.to_vec(), now).unwrap();
            assert_eq!(next, all[expected]);
            relays.asked(next.peer, ListenerId::next(), now);
        }
        assert_eq!(relays.next(all.to_vec(), now), None);
        assert_eq!(relays.granting().count(), 0);
        assert!(relays.granted(&all[2].peer));
        assert!(!relays.granted(&all[2].peer), "renewed, not new");
        assert!(!relays.granted(&all[1].peer), "never asked");
        assert_eq!(relays.granting().count(), 1);
        // Those that do not answer make room for others.
        let next = relays.next(all.to_vec(), now + ANSWER_WITHIN).unwrap();
        assert_eq!(next, all[1]);
    }

    #[test]
    fn a_lost_relay_is_replaced_and_asked_again_later() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let (near, far) = (candidate(Some(1)), candidate(Some(2)));
        let listener = ListenerId::next();
        relays.asked(near.peer, listener, now);
        relays.granted(&near.peer);
        assert_eq!(relays.closed(ListenerId::next(), now), None);
        assert_eq!(relays.closed(listener, now), Some(near.peer));
        assert_eq!(relays.granting().count(), 0);
        let both = vec![near.clone(), far.clone()];
        assert_eq!(relays.next(both.clone(), now), Some(far));
        assert_eq!(relays.next(both, now + REST), Some(near));
    }
}
