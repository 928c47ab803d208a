//! The addresses in the link that invites others.

use std::collections::BTreeSet;

use libp2p::Multiaddr;

use crate::link::{Reach, ip_of, reach_of};

/// Addresses in a run link. A machine may have more, of containers and virtual machines.
const ADDRESSES: usize = 8;
/// Addresses in a run link beyond one for each IP address.
const WITH_SECOND_TRANSPORTS: usize = 4;

/// The addresses to give: external ones first, then one for each of this machine's IP addresses,
/// public ones first, and then their other transports. Those of this machine alone are given only
/// if there are no others.
pub(super) fn addresses_to_give(external: Vec<Multiaddr>, listen: &[Multiaddr]) -> Vec<Multiaddr> {
    let mut listen: Vec<&Multiaddr> = listen.iter().collect();
    // Stable: the order of the settings stays, which is QUIC first.
    listen.sort_by_key(|address| reach_of(address));
    let reaches = |address: &&Multiaddr| reach_of(address) != Reach::ThisMachine;
    if !external.is_empty() || listen.iter().any(reaches) {
        listen.retain(reaches);
    }
    let mut ips = BTreeSet::new();
    let (first, second): (Vec<_>, Vec<_>) = listen
        .into_iter()
        .partition(|address| ip_of(address).is_none_or(|ip| ips.insert(ip)));
    let mut given = external;
    given.truncate(ADDRESSES);
    for (addresses, limit) in [(first, ADDRESSES), (second, WITH_SECOND_TRANSPORTS)] {
        for address in addresses {
            if given.len() < limit && !given.contains(address) {
                given.push(address.clone());
            }
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_transports(ips: &[&str]) -> Vec<Multiaddr> {
        let transports = ["udp/7700/quic-v1", "tcp/7700"];
        let each = transports.iter().flat_map(|transport| {
            let of = move |ip| format!("/{ip}/{transport}").parse().unwrap();
            ips.iter().map(of)
        });
        each.collect()
    }

    fn given(external: &[&str], listen: &[&str]) -> Vec<String> {
        let external = external.iter().map(|text| text.parse().unwrap()).collect();
        let given = addresses_to_give(external, &both_transports(listen));
        given.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_of_containers_do_not_crowd_out_the_one_that_leads_here() {
        let listen = [
            "ip4/127.0.0.1",
            "ip4/172.17.0.1",
            "ip4/172.18.0.1",
            "ip4/172.19.0.1",
            "ip4/10.8.0.1",
            "ip4/192.168.7.5",
            "ip6/fe80::1",
            "ip6/2a00:1450::5",
        ];
        let given = given(&[], &listen);
        assert_eq!(given[0], "/ip6/2a00:1450::5/udp/7700/quic-v1");
        assert!(given.contains(&"/ip4/192.168.7.5/udp/7700/quic-v1".to_owned()));
        assert_eq!(given.len(), 6, "{given:?}");
    }

    #[test]
    fn one_interface_is_given_with_both_transports() {
        let given = given(&[], &["ip4/127.0.0.1", "ip4/192.168.7.5"]);
        let expected = [
            "/ip4/192.168.7.5/udp/7700/quic-v1",
            "/ip4/192.168.7.5/tcp/7700",
        ];
        assert_eq!(given, expected);
    }

    #[test]
    fn an_external_address_comes_first_and_loopback_last() {
        let home = "/dns4/home.example.org/udp/7700/quic-v1";
        assert_eq!(given(&[home], &["ip4/127.0.0.1"]), [home]);
        assert_eq!(given(&[], &["ip4/127.0.0.1"]).len(), 2);
    }
}
