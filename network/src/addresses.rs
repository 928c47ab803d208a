//! What an address says: its IP, whether it leads through a relay, and from where it can be
//! dialled.

use std::net::IpAddr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// The IP address at which an address begins; of an address at a relay, the relay's.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether an address leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether an address leads through this relay.
pub(crate) fn leads_through(address: &Multiaddr, relay: &PeerId) -> bool {
    let parts = address.iter().zip(address.iter().skip(1));
    let mut hops = parts.filter(|(_, next)| *next == Protocol::P2pCircuit);
    hops.any(|(part, _)| part == Protocol::P2p(*relay))
}

/// An address without the id of the peer at its end.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Whether an address means something on its own network only.
pub(crate) fn is_local(address: &Multiaddr) -> bool {
    ip(address).is_some_and(is_local_ip)
}

pub(crate) fn is_local_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether dialling an announced address can reach the peer. Another machine's loopback address
/// leads to this machine, and a private address of a peer that comes from the internet, or through
/// a relay, leads into this machine's own network.
pub(crate) fn is_useful(announced: &Multiaddr, met_at: &Multiaddr) -> bool {
    let from_afar = is_relayed(met_at) && !is_relayed(announced);
    let met_at = ip(met_at);
    match ip(announced) {
        Some(ip) if ip.is_unspecified() => false,
        Some(ip) if ip.is_loopback() => met_at.is_some_and(|ip| ip.is_loopback()) && !from_afar,
        Some(ip) if is_local_ip(ip) => met_at.is_none_or(is_local_ip) && !from_afar,
        _ => !announced.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_local_address_helps_only_on_its_own_network() {
        let relay = PeerId::random();
        let (home, near) = (
            address("/ip4/10.0.0.9/tcp/7"),
            address("/ip4/10.0.0.1/tcp/7"),
        );
        let far = address("/ip4/8.8.8.8/tcp/7");
        let circuit = address(&format!("/ip4/10.0.0.2/tcp/7/p2p/{relay}/p2p-circuit"));
        assert!(is_useful(&home, &near));
        assert!(!is_useful(&home, &far));
        assert!(!is_useful(&home, &circuit), "met through a relay");
        assert!(is_useful(&far, &circuit));
        assert!(is_useful(&circuit, &near));
        assert!(!is_useful(&circuit, &far));
        let here = address("/ip4/127.0.0.1/tcp/7");
        assert!(is_useful(&here, &here) && !is_useful(&here, &near));
    }

    #[test]
    fn the_relay_in_an_address_is_found() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let text = format!("/ip4/8.8.8.8/tcp/7/p2p/{relay}/p2p-circuit/p2p/{peer}");
        assert!(leads_through(&address(&text), &relay));
        assert!(!leads_through(&address(&text), &peer));
        let direct = address(&format!("/ip4/8.8.8.8/tcp/7/p2p/{relay}"));
        assert!(!leads_through(&direct, &relay) && !is_relayed(&direct));
        assert_eq!(without_peer(&direct), address("/ip4/8.8.8.8/tcp/7"));
        assert_eq!(without_peer(&without_peer(&direct)), without_peer(&direct));
    }
}
