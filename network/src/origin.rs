//! Where a connection comes from: what one attacker is likely to own altogether.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;

use crate::addresses::{ip, is_local_ip, is_relayed};

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// An address block of the internet: a /24 of IPv4 or a /48 of IPv6, by its first address.
    Internet(IpAddr),
    /// A block of this machine's own network. Everything that a proxy or a container runtime passes
    /// on comes from one such block, so only what does not know the peer yet is limited by it.
    Local(IpAddr),
    /// A relay. The address behind it is not known.
    Relayed,
}

impl Origin {
    /// The origin of a connection to or from this address.
    pub(crate) fn of(address: &Multiaddr) -> Self {
        match ip(address) {
            Some(ip) if !is_relayed(address) => {
                let ip = ip.to_canonical();
                if is_local_ip(ip) || is_for_documentation(ip) {
                    Self::Local(block(ip))
                } else {
                    Self::Internet(block(ip))
                }
            }
            _ => Self::Relayed,
        }
    }

    /// The origin of an incoming connection: one that arrives at a circuit comes from a relay.
    pub(crate) fn of_incoming(local: &Multiaddr, remote: &Multiaddr) -> Self {
        if is_relayed(local) {
            Self::Relayed
        } else {
            Self::of(remote)
        }
    }

    /// Whether this is a block of the internet.
    pub(crate) fn is_internet(&self) -> bool {
        matches!(self, Self::Internet(_))
    }
}

/// Whether an address is in a network for documentation. Such networks exist in laboratories only,
/// where all peers may share one.
fn is_for_documentation(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_documentation(),
        IpAddr::V6(ip) => matches!(ip.segments(), [0x2001, 0x0db8, ..]),
    }
}

/// The first address of the block in which an address lies.
fn block(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&text.parse().unwrap())
    }

    #[test]
    fn neighbours_share_a_block() {
        let same = [
            ("/ip4/8.8.8.1/tcp/1", "/ip4/8.8.8.254/udp/9/quic-v1"),
            (
                "/ip6/2a00:db8:7:1::1/tcp/1",
                "/ip6/2a00:db8:7:ffff::2/tcp/1",
            ),
            ("/ip4/8.8.8.1/tcp/1", "/ip6/::ffff:8.8.8.9/tcp/1"),
        ];
        for (one, other) in same {
            assert_eq!(origin(one), origin(other), "{one} {other}");
            assert!(origin(one).is_internet());
        }
        let apart = [
            ("/ip4/8.8.8.1/tcp/1", "/ip4/8.8.9.1/tcp/1"),
            ("/ip6/2a00:db8:7::1/tcp/1", "/ip6/2a00:db8:8::1/tcp/1"),
        ];
        for (one, other) in apart {
            assert_ne!(origin(one), origin(other), "{one} {other}");
        }
    }

    #[test]
    fn the_own_network_and_relays_are_no_blocks_of_the_internet() {
        for local in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.7.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip4/203.0.113.7/tcp/1",
            "/ip6/2001:db8::7/tcp/1",
        ] {
            assert!(matches!(origin(local), Origin::Local(_)), "{local}");
        }
        let relay = libp2p::PeerId::random();
        let circuit = format!("/ip4/8.8.8.8/tcp/1/p2p/{relay}/p2p-circuit");
        assert_eq!(origin(&circuit), Origin::Relayed);
        let remote: Multiaddr = format!("/p2p/{relay}").parse().unwrap();
        let incoming = Origin::of_incoming(&circuit.parse().unwrap(), &remote);
        assert_eq!(incoming, Origin::Relayed);
    }
}
