//! Whether peers reach this node, and what would improve it, in words.

use weal_network::{PortMapping, Reachability, Status};

/// Whether peers reach this node.
pub(super) fn words(network: &Status) -> String {
    match &network.reachability {
        Reachability::Unknown => "not known yet".into(),
        Reachability::Public { addresses } => {
            let at = addresses.first().map(ToString::to_string);
            let mut text = format!("peers reach this node at {}", at.unwrap_or_default());
            match network.relayed_peers {
                0 => {}
                1 => text.push_str("; it relays connections to 1 peer"),
                peers => text.push_str(&format!("; it relays connections to {peers} peers")),
            }
            text
        }
        Reachability::Private { relays } => {
            let through = match relays.len() {
                0 => "it dials them".into(),
                1 => "it dials them, and they come through 1 relay".into(),
                relays => format!("it dials them, and they come through {relays} relays"),
            };
            let relayed = network.peers.iter().filter(|peer| peer.relayed).count();
            let relayed = match relayed {
                0 => String::new(),
                1 => "; the connection to 1 peer is relayed".into(),
                peers => format!("; the connections to {peers} peers are relayed"),
            };
            format!("peers cannot reach this node directly: {through}{relayed}")
        }
    }
}

/// What would improve it; empty if nothing would.
pub(super) fn advice(network: &Status) -> &'static str {
    if !matches!(network.reachability, Reachability::Private { .. }) {
        return "";
    }
    match network.port_mapping {
        PortMapping::Off => {
            "set network.upnp = true, or forward the UDP port of network.listen in the router and \
             set network.external"
        }
        PortMapping::Searching | PortMapping::NoRouter => {
            "turn on UPnP in the router, or forward the UDP port of network.listen there and set \
             network.external"
        }
        PortMapping::BehindAnotherRouter => {
            "the router is behind another one: ask the provider for a public IPv4 address, or use \
             IPv6"
        }
        PortMapping::Mapped => {
            "the router gave this node a port, but a firewall or another router is in the way"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(reachability: Reachability) -> Status {
        Status {
            reachability,
            ..Status::default()
        }
    }

    #[test]
    fn a_public_node_needs_no_advice() {
        let addresses = vec!["/ip4/9.9.9.9/udp/7700/quic-v1".parse().unwrap()];
        let mut public = status(Reachability::Public { addresses });
        public.relayed_peers = 2;
        let text = words(&public);
        assert!(
            text.contains("9.9.9.9") && text.ends_with("2 peers"),
            "{text}"
        );
        assert_eq!(advice(&public), "");
        assert_eq!(advice(&status(Reachability::Unknown)), "");
    }

    #[test]
    fn a_private_node_is_told_what_would_help() {
        let mut private = status(Reachability::Private {
            relays: vec![[1; 32]],
        });
        assert!(words(&private).contains("1 relay"));
        for mapping in [
            PortMapping::Off,
            PortMapping::Searching,
            PortMapping::NoRouter,
            PortMapping::BehindAnotherRouter,
            PortMapping::Mapped,
        ] {
            private.port_mapping = mapping;
            assert!(!advice(&private).is_empty(), "{mapping:?}");
        }
    }
}
