//! The network's settings from the node's.

use std::num::NonZeroU64;

use libp2p::Multiaddr;
use weal_network::Settings;
use weal_proto::limits;

use crate::settings::NetworkSettings;

/// Of a node that takes part.
pub(crate) fn of_node(settings: &NetworkSettings) -> Settings {
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

/// Of a node that only fetches: it listens on a free port and calls the peers of a run link.
pub(crate) fn of_newcomer(settings: &NetworkSettings, peers: Vec<Multiaddr>) -> Settings {
    Settings {
        listen: Settings::listen_on_port(0),
        external: Vec::new(),
        bootstrap: peers,
        ..of_node(settings)
    }
}
