//! Who forwards gossip to whom, and the filter against duplicates.
//!
//! The mesh is made of random circles through all peers. A peer's neighbours are the next ones on
//! each circle, in both directions, that it is connected to and that are up: so the mesh closes
//! over peers that go, as gossipsub's does by grafting, and peers that are up stay connected
//! through it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use weal_proto::{Envelope, EnvelopeHash, Message as _};

use crate::interface::time::Millis;
use crate::sim::random::Random;

/// How long a message id is remembered, in milliseconds: as in `weal_network::REMEMBERED`. A peer
/// neither takes nor sends a message again within this time.
const REMEMBERED_MS: u64 = 30_000;

/// A message on its way, with what all its hops need to know.
#[derive(Debug)]
pub(in crate::sim) struct Gossip {
    pub envelope: Envelope,
    pub id: EnvelopeHash,
    pub bytes: u64,
}

impl Gossip {
    pub(in crate::sim) fn new(envelope: Envelope) -> Arc<Self> {
        Arc::new(Self {
            id: envelope.hash(),
            bytes: envelope.encode().len() as u64,
            envelope,
        })
    }
}

/// Random circles through all peers.
#[derive(Debug)]
pub(in crate::sim) struct Mesh {
    /// Peers in the order of each circle.
    circles: Vec<Vec<usize>>,
    /// Each peer's place on each circle.
    places: Vec<Vec<usize>>,
}

impl Mesh {
    /// A mesh for neighbourhoods of up to `degree` peers.
    pub(in crate::sim) fn new(peers: usize, degree: usize, random: &mut Random) -> Self {
        let circles: Vec<_> = (0..degree.div_ceil(2))
            .map(|_| random.shuffled(peers))
            .collect();
        let places = circles.iter().map(|circle| {
            let mut places = vec![0; circle.len()];
            for (place, peer) in circle.iter().enumerate() {
                places[*peer] = place;
            }
            places
        });
        Self {
            places: places.collect(),
            circles,
        }
    }

    /// The nearest peers on the circles, among those that the peer `reaches`: `degree` of them or
    /// one more, sorted, each once; fewer only if it reaches fewer.
    pub(in crate::sim) fn neighbours(
        &self,
        peer: usize,
        degree: usize,
        reaches: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let steps = degree.div_ceil(self.circles.len().max(1) * 2);
        let mut found = Vec::with_capacity(degree);
        for (circle, places) in self.circles.iter().zip(&self.places) {
            let (length, place) = (circle.len(), places[peer]);
            let ahead = (1..length).map(|step| circle[(place + step) % length]);
            let behind = (1..length).map(|step| circle[(place + length - step) % length]);
            found.extend(ahead.filter(|other| reaches(*other)).take(steps));
            found.extend(behind.filter(|other| reaches(*other)).take(steps));
        }
        found.sort_unstable();
        found.dedup();
        self.fill(peer, degree, reaches, &mut found);
        found
    }

    /// Adds peers to those `found`, up to `degree`: on small circles many are found twice.
    fn fill(
        &self,
        peer: usize,
        degree: usize,
        reaches: impl Fn(usize) -> bool,
        found: &mut Vec<usize>,
    ) {
        let Some((circle, places)) = self.circles.first().zip(self.places.first()) else {
            return;
        };
        let ahead = (1..circle.len()).map(|step| circle[(places[peer] + step) % circle.len()]);
        for other in ahead.filter(|other| reaches(*other)) {
            if found.len() >= degree {
                return;
            }
            if let Err(place) = found.binary_search(&other) {
                found.insert(place, other);
            }
        }
    }
}

/// The messages that a peer has lately seen or sent.
#[derive(Debug, Default)]
pub(in crate::sim) struct SeenMessages {
    known: HashSet<EnvelopeHash>,
    oldest: VecDeque<(Millis, EnvelopeHash)>,
}

impl SeenMessages {
    /// Notes a message. Returns whether it is new.
    pub(in crate::sim) fn note(&mut self, now: Millis, id: EnvelopeHash) -> bool {
        while let Some((at, old)) = self.oldest.front().copied() {
            if now.since(at) < REMEMBERED_MS {
                break;
            }
            self.oldest.pop_front();
            self.known.remove(&old);
        }
        let is_new = self.known.insert(id);
        if is_new {
            self.oldest.push_back((now, id));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn peers_that_are_up_stay_connected_whoever_is_down() {
        for seed in 0..20 {
            let mesh = Mesh::new(30, 6, &mut Random::new(seed));
            let up = |peer: usize| peer as u64 % 3 != seed % 3;
            let (mut reached, mut open) =
                (BTreeSet::new(), Vec::from_iter((0..30).find(|p| up(*p))));
            while let Some(peer) = open.pop() {
                if reached.insert(peer) {
                    open.extend(mesh.neighbours(peer, 6, |other| other != peer && up(other)));
                }
            }
            assert_eq!(reached.len(), 20, "seed {seed}");
        }
    }

    #[test]
    fn a_peer_has_as_many_neighbours_as_the_degree_says() {
        let mesh = Mesh::new(100, 6, &mut Random::new(1));
        let most = (0..100).map(|peer| mesh.neighbours(peer, 6, |other| other != peer).len());
        assert!(most.clone().all(|n| n == 6));
        let small = Mesh::new(9, 6, &mut Random::new(1));
        let reached = |peer: usize| small.neighbours(peer, 6, |other| other != peer);
        assert!((0..9).all(|peer| reached(peer).len() == 6));
        let few = small.neighbours(0, 6, |other| other == 3 || other == 4);
        assert_eq!(few, [3, 4]);
    }

    #[test]
    fn a_message_counts_as_new_again_after_half_a_minute() {
        let mut seen = SeenMessages::default();
        let id = EnvelopeHash::from([1; 32]);
        assert!(seen.note(Millis(5), id));
        assert!(!seen.note(Millis(30_004), id));
        assert!(seen.note(Millis(30_005), id));
    }
}
