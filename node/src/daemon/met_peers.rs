//! Peers that connected, until their addresses are saved: all of them together and now and then, so
//! that a stranger's connection does not cost a write to the disk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weal_proto::PeerId;

use crate::store::MetPeer;

/// Time between two writes.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// Time after which peers that are still connected count as reached again.
const RENEW_EVERY: Duration = Duration::from_secs(600);
/// Peers that wait; further ones are not saved.
const WAITING: usize = 256;
/// Time without a peer after which those that were saved are called again.
const ALONE_FOR: Duration = Duration::from_secs(60);

/// Peers that wait to be saved.
#[derive(Debug, Default)]
pub(super) struct MetPeers {
    waiting: BTreeMap<PeerId, MetPeer>,
    saved: Option<Instant>,
    renewed: Option<Instant>,
}

impl MetPeers {
    /// A peer was reached.
    pub(super) fn met(&mut self, peer: PeerId, met: MetPeer) {
        if self.waiting.len() < WAITING || self.waiting.contains_key(&peer) {
            self.waiting.insert(peer, met);
        }
    }

    /// Whether it is time to note who is still connected.
    pub(super) fn renews(&mut self, now: Instant) -> bool {
        let renewed = *self.renewed.get_or_insert(now);
        let is_due = now.saturating_duration_since(renewed) >= RENEW_EVERY;
        if is_due {
            self.renewed = Some(now);
        }
        is_due
    }

    /// A peer is still connected.
    pub(super) fn still_here(&mut self, peer: PeerId, unix_seconds: u64, member: bool) {
        let entry = MetPeer {
            addresses: Vec::new(),
            unix_seconds,
            member,
        };
        if !self.waiting.contains_key(&peer) {
            self.met(peer, entry);
        }
    }

    /// Whether nobody was saved yet.
    pub(super) fn is_first(&self) -> bool {
        self.saved.is_none()
    }

    /// What to save now. The first peers are saved at once, so that a node that is killed soon
    /// knows somebody at the next start.
    pub(super) fn due(&mut self, now: Instant) -> BTreeMap<PeerId, MetPeer> {
        let early = |saved: Instant| now.saturating_duration_since(saved) < SAVE_EVERY;
        if self.waiting.is_empty() || self.saved.is_some_and(early) {
            return BTreeMap::new();
        }
        self.saved = Some(now);
        std::mem::take(&mut self.waiting)
    }
}

/// Tells when the node has had no peer for a while: its addresses may have been given up while its
/// router was off.
#[derive(Debug, Default)]
pub(super) struct Loneliness {
    since: Option<Instant>,
}

impl Loneliness {
    /// Whether to call the saved peers again: once a minute without a peer.
    pub(super) fn calls_again(&mut self, peers: usize, now: Instant) -> bool {
        if peers > 0 {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let is_due = now.saturating_duration_since(since) >= ALONE_FOR;
        if is_due {
            self.since = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes.into()
    }

    fn at(address: &str) -> MetPeer {
        MetPeer {
            addresses: vec![address.into()],
            unix_seconds: 1,
            member: false,
        }
    }

    #[test]
    fn many_connections_are_one_write() {
        let (mut met, start) = (MetPeers::default(), Instant::now());
        assert!(met.due(start).is_empty());
        met.met(key(0), at("first"));
        assert_eq!(met.due(start).len(), 1);
        for peer in 1..1000 {
            met.met(key(peer), at("stranger"));
            assert!(met.due(start + SAVE_EVERY / 2).is_empty());
        }
        assert_eq!(met.due(start + SAVE_EVERY).len(), WAITING);
    }

    #[test]
    fn peers_that_stay_connected_are_noted_again() {
        let (mut met, start) = (MetPeers::default(), Instant::now());
        assert!(!met.renews(start));
        assert!(met.renews(start + RENEW_EVERY));
        assert!(!met.renews(start + RENEW_EVERY + SAVE_EVERY));
        met.met(key(1), at("new address"));
        met.still_here(key(1), 2, true);
        met.still_here(key(2), 2, true);
        let due = met.due(start);
        assert_eq!(due[&key(1)].addresses, ["new address"]);
        assert_eq!(due[&key(2)].unix_seconds, 2);
    }

    #[test]
    fn a_node_alone_calls_its_peers_again_each_minute() {
        let (mut lonely, start) = (Loneliness::default(), Instant::now());
        assert!(!lonely.calls_again(0, start));
        assert!(!lonely.calls_again(0, start + ALONE_FOR / 2));
        assert!(lonely.calls_again(0, start + ALONE_FOR));
        assert!(!lonely.calls_again(0, start + ALONE_FOR * 3 / 2));
        assert!(!lonely.calls_again(1, start + ALONE_FOR * 2));
        assert!(!lonely.calls_again(0, start + ALONE_FOR * 2));
    }
}
