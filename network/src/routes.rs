//! Which peers get into Kademlia's table, by address block: peers of one block do not fill it.

use std::collections::HashMap;

use libp2p::PeerId;

use crate::limits::ROUTES_PER_BLOCK;
use crate::origin::Origin;

/// Whether there is room for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// If this peer, which is gone, leaves the table.
    InPlaceOf(PeerId),
    None,
}

/// The address blocks of the peers in the table that are not members.
#[derive(Debug, Default)]
pub(crate) struct Routes(HashMap<PeerId, Origin>);

impl Routes {
    /// Whether there is room for a peer from `origin` that is not a member.
    pub(crate) fn room(
        &self,
        peer: &PeerId,
        origin: Origin,
        is_connected: impl Fn(&PeerId) -> bool,
    ) -> Room {
        let same = || {
            let others = self.0.iter().filter(|(other, _)| *other != peer);
            others.filter(|(_, from)| **from == origin)
        };
        if !origin.is_internet() || same().count() < ROUTES_PER_BLOCK {
            return Room::Free;
        }
        let gone = same().find(|(other, _)| !is_connected(other));
        gone.map_or(Room::None, |(other, _)| Room::InPlaceOf(*other))
    }

    /// A peer that is not a member is in the table.
    pub(crate) fn add(&mut self, peer: PeerId, origin: Origin) {
        self.0.insert(peer, origin);
    }

    /// A peer left the table, or is a member.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&text.parse().unwrap())
    }

    #[test]
    fn peers_of_one_block_do_not_fill_the_table() {
        let mut routes = Routes::default();
        let (block, other) = (origin("/ip4/8.8.8.1/tcp/1"), origin("/ip4/8.8.9.1/tcp/1"));
        let peers: Vec<_> = (0..2 * ROUTES_PER_BLOCK)
            .map(|_| PeerId::random())
            .collect();
        let mut added = 0;
        for peer in &peers {
            if routes.room(peer, block, |_| true) == Room::Free {
                routes.add(*peer, block);
                added += 1;
            }
        }
        assert_eq!(added, ROUTES_PER_BLOCK);
        let late = PeerId::random();
        assert_eq!(routes.room(&late, block, |_| true), Room::None);
        assert_eq!(routes.room(&late, other, |_| true), Room::Free);
        assert_eq!(
            routes.room(&peers[0], block, |_| true),
            Room::Free,
            "it is there"
        );
        let is_connected = |peer: &PeerId| *peer != peers[3];
        assert_eq!(
            routes.room(&late, block, is_connected),
            Room::InPlaceOf(peers[3])
        );
        routes.remove(&peers[3]);
        assert_eq!(routes.room(&late, block, |_| true), Room::Free);
    }

    #[test]
    fn a_local_network_is_no_block() {
        let mut routes = Routes::default();
        let local = origin("/ip4/127.0.0.1/tcp/1");
        for _ in 0..10 * ROUTES_PER_BLOCK {
            let peer = PeerId::random();
            assert_eq!(routes.room(&peer, local, |_| true), Room::Free);
            routes.add(peer, local);
        }
    }
}
