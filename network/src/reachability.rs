//! Whether peers can open a connection to this node.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::addresses::{ip, is_local, is_relayed, without_peer};
use crate::identity::PeerKey;
use crate::origin::Origin;
use crate::quota::User;

/// Peers that must have reached this node at an address before it counts as public: one may be
/// mistaken. Those of one address block count as one, since they may be one liar.
const WITNESSES: usize = 2;
/// Limit on the addresses for which witnesses are counted.
const ADDRESSES: usize = 32;
/// Limit on the peers remembered as dialled. Beyond it no witness counts.
const DIALLED: usize = 4096;
/// A node that nobody has reached this long after its first peer counts as private.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// Whether peers can open a connection to this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody has tried yet.
    #[default]
    Unknown,
    /// Peers have reached this node at these addresses, or the settings, or the router, name them.
    Public {
        /// At least one address, without the node's id.
        addresses: Vec<Multiaddr>,
    },
    /// Peers cannot reach this node, which is behind a router or a firewall. It dials them, and
    /// they connect through relays.
    Private {
        /// The peers that relay connections to this node now.
        relays: Vec<PeerKey>,
    },
}

/// What is known about this node's reachability.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    /// When the first peer of the run was met.
    first_peer: Option<Instant>,
    /// A peer tried to reach this node at its own request, and could not.
    refuted: bool,
    /// A peer sees this node at an address of the internet, so that addresses of a local network
    /// prove nothing.
    seen_from_outside: bool,
    /// Peers that this node dialled. A router lets them back in, and nobody else.
    dialled: HashSet<PeerId>,
    /// Peers that reached this node without ever having been dialled, by the address at which they
    /// did.
    witnesses: BTreeMap<Multiaddr, BTreeSet<Witness>>,
}

/// Who says that this node can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    /// Peers of an address block.
    Block(Origin),
    /// One peer on the local network.
    Peer(PeerId),
}

impl Observations {
    /// A node that only dials knows that nobody reaches it.
    pub(crate) fn new(only_dials: bool) -> Self {
        Self {
            refuted: only_dials,
            ..Self::default()
        }
    }

    pub(crate) fn met_peer(&mut self, now: Instant) {
        self.first_peer.get_or_insert(now);
    }

    pub(crate) fn dialled(&mut self, peer: PeerId) {
        if self.dialled.len() < DIALLED {
            self.dialled.insert(peer);
        }
    }

    /// A probe that this node asked for failed.
    pub(crate) fn refuted(&mut self) {
        self.refuted = true;
    }

    /// A peer of this run sees this node at an address.
    pub(crate) fn seen_at(&mut self, address: &Multiaddr) {
        let is_direct = ip(address).is_some() && !is_relayed(address);
        self.seen_from_outside |= is_direct && !is_local(address);
    }

    /// A peer opened a direct connection to this node, at the address that it names. Returns
    /// whether the address can now be trusted.
    pub(crate) fn reached_by(&mut self, user: &User, address: &Multiaddr) -> bool {
        let User { peer, origin, .. } = *user;
        let is_certain = self.dialled.len() < DIALLED && !self.dialled.contains(&peer);
        if !is_certain || ip(address).is_none() || is_relayed(address) {
            return false;
        }
        let address = without_peer(address);
        if self.witnesses.len() >= ADDRESSES && !self.witnesses.contains_key(&address) {
            return false;
        }
        let witnesses = self.witnesses.entry(address).or_default();
        if witnesses.len() < WITNESSES {
            witnesses.insert(match origin.is_internet() {
                true => Witness::Block(origin),
                false => Witness::Peer(peer),
            });
        }
        witnesses.len() >= WITNESSES
    }

    /// The conclusion. `confirmed` are the node's external addresses.
    pub(crate) fn conclude<'a>(
        &self,
        confirmed: impl Iterator<Item = &'a Multiaddr>,
        relays: Vec<PeerKey>,
        now: Instant,
    ) -> Reachability {
        let counts = |address: &&Multiaddr| {
            let proves_nothing = self.seen_from_outside && is_local(address);
            !is_relayed(address) && !proves_nothing
        };
        let mut addresses: Vec<_> = confirmed.filter(counts).map(without_peer).collect();
        addresses.sort();
        addresses.dedup();
        if !addresses.is_empty() {
            return Reachability::Public { addresses };
        }
        let waited = |since: Instant| now.saturating_duration_since(since) >= UNKNOWN_FOR;
        let nobody_came = self.witnesses.is_empty() && self.first_peer.is_some_and(waited);
        if self.refuted || nobody_came {
            Reachability::Private { relays }
        } else {
            Reachability::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Standing;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// A new peer that is connected from here.
    fn peer_from(text: &str) -> User {
        User {
            peer: PeerId::random(),
            origin: Origin::of(&address(text)),
            standing: Standing::Stranger,
        }
    }

    fn conclusion(seen: &Observations, confirmed: &[&str], now: Instant) -> Reachability {
        let confirmed: Vec<_> = confirmed.iter().map(|text| address(text)).collect();
        seen.conclude(confirmed.iter(), Vec::new(), now)
    }

    #[test]
    fn an_address_is_public_once_two_peers_came_that_were_never_dialled() {
        let mut seen = Observations::default();
        let here = address("/ip4/9.9.9.9/udp/7700/quic-v1");
        let (dialled, first) = (
            peer_from("/ip4/7.7.7.7/tcp/1"),
            peer_from("/ip4/8.8.8.1/tcp/1"),
        );
        let neighbour = peer_from("/ip4/8.8.8.2/tcp/1");
        let second = peer_from("/ip4/8.8.9.1/tcp/1");
        seen.dialled(dialled.peer);
        // A router lets a peer back in that the node behind it has dialled.
        assert!(!seen.reached_by(&dialled, &here));
        assert!(!seen.reached_by(&first, &here));
        assert!(!seen.reached_by(&first, &here), "one peer counted twice");
        assert!(
            !seen.reached_by(&neighbour, &here),
            "one block counted twice"
        );
        assert!(seen.reached_by(&second, &here));
    }

    #[test]
    fn a_node_is_private_when_a_probe_failed_or_nobody_came() {
        let now = Instant::now();
        let mut seen = Observations::default();
        assert_eq!(conclusion(&seen, &[], now), Reachability::Unknown);
        seen.met_peer(now);
        assert_eq!(conclusion(&seen, &[], now), Reachability::Unknown);
        let private = Reachability::Private { relays: Vec::new() };
        assert_eq!(conclusion(&seen, &[], now + UNKNOWN_FOR), private);
        // A peer that comes unasked is a sign that others can, too.
        seen.reached_by(
            &peer_from("/ip4/8.8.8.8/tcp/1"),
            &address("/ip4/9.9.9.9/tcp/1"),
        );
        let later = now + UNKNOWN_FOR;
        assert_eq!(conclusion(&seen, &[], later), Reachability::Unknown);
        seen.refuted();
        assert_eq!(conclusion(&seen, &[], now), private);
    }

    #[test]
    fn a_neighbour_on_the_local_network_proves_nothing_about_the_internet() {
        let now = Instant::now();
        let mut seen = Observations::default();
        let (local, global) = ("/ip4/192.168.1.5/tcp/1", "/ip4/9.9.9.9/tcp/1");
        let public = |text| Reachability::Public {
            addresses: vec![address(text)],
        };
        assert_eq!(conclusion(&seen, &[local], now), public(local));
        seen.seen_at(&address("/ip4/192.168.1.5/tcp/1"));
        assert_eq!(conclusion(&seen, &[local], now), public(local));
        seen.seen_at(&address("/ip4/9.9.9.9/tcp/40000"));
        assert_eq!(conclusion(&seen, &[local], now), Reachability::Unknown);
        assert_eq!(conclusion(&seen, &[local, global], now), public(global));
    }

    #[test]
    fn an_address_at_a_relay_is_not_the_nodes_own() {
        let relay = PeerId::random();
        let circuit = format!("/ip4/9.9.9.9/tcp/1/p2p/{relay}/p2p-circuit");
        let mut seen = Observations::default();
        seen.seen_at(&address(&circuit));
        seen.seen_at(&address(&format!("/p2p/{relay}")));
        let reached = conclusion(&seen, &[circuit.as_str()], Instant::now());
        assert_eq!(reached, Reachability::Unknown);
        assert!(!seen.seen_from_outside);
    }

    #[test]
    fn what_peers_claim_is_bounded() {
        let mut seen = Observations::default();
        for port in 0..10 * ADDRESSES {
            seen.reached_by(
                &peer_from("/ip4/8.8.8.8/tcp/1"),
                &address(&format!("/ip4/9.9.9.9/tcp/{port}")),
            );
        }
        assert_eq!(seen.witnesses.len(), ADDRESSES);
        for _ in 0..=DIALLED {
            seen.dialled(PeerId::random());
        }
        assert_eq!(seen.dialled.len(), DIALLED);
        let here = address("/ip4/9.9.9.9/tcp/0");
        assert!(!seen.reached_by(&peer_from("/ip4/8.8.7.1/tcp/1"), &here));
    }
}
