//! How the node uses the network: its settings, and who is connected.

use std::num::NonZeroU64;

use libp2p::Multiaddr;
use weal_network::{Network, PeerKey, Settings};
use weal_proto::limits;

use crate::settings::NetworkSettings;

/// The network's settings of a node that takes part.
pub(crate) fn settings_of_node(settings: &NetworkSettings) -> Settings {
    Settings {
        listen: settings.listen.clone(),
        external: settings.external.clone(),
        bootstrap: settings.bootstrap.clone(),
        mdns: settings.mdns,
        max_gossip_bytes: limits::ENVELOPE_BYTES,
        max_upload: NonZeroU64::new(settings.max_upload),
        max_download: NonZeroU64::new(settings.max_download),
        ..Settings::default()
    }
}

/// The network's settings of a node that only fetches: it listens on a free port and calls the
/// peers of a run link.
pub(crate) fn settings_of_newcomer(settings: &NetworkSettings, peers: Vec<Multiaddr>) -> Settings {
    Settings {
        listen: Settings::listen_on_port(0),
        external: Vec::new(),
        bootstrap: peers,
        ..settings_of_node(settings)
    }
}

/// The peers that are connected now.
pub(crate) fn connected_peers(network: &Network) -> Vec<PeerKey> {
    let status = network.status();
    let status = status.borrow();
    status.peers.iter().map(|peer| peer.peer).collect()
}
