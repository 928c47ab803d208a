//! Blobs and weights on their way from peer to peer.

use std::collections::BTreeMap;

use weal_proto::{BlobHash, Commitment, RoundNumber, StateRoot};

use super::event::Local;
use super::network::{Parcel, TrafficKind};
use super::world::World;
use crate::interface::time::Millis;

/// Bytes of a request for a blob, its answer's framing included.
const REQUEST_BYTES: u64 = 100;

/// Where a blob that a peer needs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// On the peer's disk.
    Here,
    /// On its way: it arrives then.
    Arrives(Millis),
    /// No connected peer serves it, or the transfer failed.
    Nowhere,
}

impl World {
    /// Looks for a blob. If the peer does not hold it, starts to fetch it from a peer that serves
    /// it: the contributor after it has revealed the blob, or any peer that has fetched it.
    pub(super) fn obtain(&mut self, peer: usize, wanted: &Commitment) -> Whereabouts {
        let node = &self.nodes[peer];
        if node.disk.blobs.contains_key(&wanted.blob) {
            return Whereabouts::Here;
        }
        let on_its_way = node
            .transfers
            .get(&wanted.blob)
            .filter(|at| **at > self.now);
        if let Some(at) = on_its_way {
            return Whereabouts::Arrives(*at);
        }
        let serves = |world: &Self, other: usize| world.nodes[other].serves(&wanted.blob, peer);
        let Some(holder) = self.least_busy(peer, serves) else {
            return Whereabouts::Nowhere;
        };
        let Some(at) = self.transfer(holder, peer, TrafficKind::Blob, wanted.blob_bytes) else {
            return Whereabouts::Nowhere;
        };
        self.nodes[peer].transfers.insert(wanted.blob, at);
        let arrives = Local::BlobArrives {
            blob: wanted.blob,
            round: wanted.round,
        };
        self.schedule_local_at(peer, at, arrives);
        Whereabouts::Arrives(at)
    }

    pub(super) fn blob_arrives(&mut self, peer: usize, blob: BlobHash, round: RoundNumber) {
        let node = &mut self.nodes[peer];
        node.transfers.remove(&blob);
        node.disk.blobs.insert(blob, round);
    }

    /// Starts to fetch weights from a peer that has them on disk. Returns when they arrive.
    pub(super) fn obtain_weights(
        &mut self,
        peer: usize,
        round: RoundNumber,
        root: StateRoot,
    ) -> Option<Millis> {
        let serves =
            |world: &Self, other: usize| world.nodes[other].disk.weights.get(&round) == Some(&root);
        if serves(self, peer) {
            return Some(self.now);
        }
        let holder = self.least_busy(peer, serves)?;
        self.transfer(
            holder,
            peer,
            TrafficKind::Weights,
            self.scenario.weights_bytes,
        )
    }

    /// A connected peer that serves something, one of those whose uplink is free first. Chance
    /// decides among them: the way from one of them may be blocked.
    fn least_busy(&mut self, peer: usize, serves: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let mut free: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for other in self.connected(peer) {
            if serves(self, other) {
                let at = self.links.bulk_free_at(other).max(self.now.0 * 1_000);
                free.entry(at).or_default().push(other);
            }
        }
        let (_, first) = free.pop_first()?;
        Some(self.random.one_of(&first))
    }

    /// Sends bulk from one peer to another that has asked for it. Returns when it arrives.
    fn transfer(
        &mut self,
        from: usize,
        to: usize,
        kind: TrafficKind,
        bytes: u64,
    ) -> Option<Millis> {
        let asked = self.send_parcel(Parcel {
            from: to,
            to: from,
            kind: TrafficKind::Request,
            bytes: REQUEST_BYTES,
        });
        let travelled = asked.first()?.since(self.now);
        let parcel = Parcel {
            from,
            to,
            kind,
            bytes,
        };
        let sent = self.send_parcel(parcel);
        sent.first().map(|at| at.after(travelled))
    }
}
