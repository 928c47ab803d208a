//! How the node uses the network: its settings, and who is connected.

use std::num::NonZeroU64;

use libp2p::Multiaddr;
use weal_network::{Network, PeerKey, RelayLimits, Settings};
use weal_proto::limits;
use weal_trainer::container_memory_limit;

use crate::folder::Folder;
use crate::settings::NetworkSettings;
use crate::traffic_meter::MonthlyTraffic;

/// The network's settings of a node that takes part.
pub(crate) fn settings_of_node(
    settings: &NetworkSettings,
    folder: &Folder,
    traffic: &MonthlyTraffic,
) -> Settings {
    Settings {
        listen: settings.listen.clone(),
        external: settings.external.clone(),
        bootstrap: settings.bootstrap.clone(),
        mdns: settings.mdns,
        upnp: settings.upnp,
        relay: settings.relay_service.then(RelayLimits::default),
        max_gossip_bytes: limits::ENVELOPE_BYTES,
        max_upload: NonZeroU64::new(settings.max_upload.0),
        max_download: NonZeroU64::new(settings.max_download.0),
        traffic_left: traffic.left(),
        parts: Some(folder.parts()),
        max_memory_bytes: container_memory_limit().map(most_of),
        ..Settings::default()
    }
}

/// The network's settings of a node that only fetches: it listens on a free port and calls the
/// peers of a run link.
pub(crate) fn settings_of_newcomer(
    settings: &NetworkSettings,
    folder: &Folder,
    traffic: &MonthlyTraffic,
    peers: Vec<Multiaddr>,
) -> Settings {
    Settings {
        listen: Settings::listen_on_port(0),
        external: Vec::new(),
        bootstrap: peers,
        // It is gone before that would help anybody.
        upnp: false,
        relay: None,
        ..settings_of_node(settings, folder, traffic)
    }
}

/// The share of a container's memory beyond which new connections are refused: 95 %, as of a
/// machine's.
fn most_of(limit: u64) -> usize {
    usize::try_from(limit / 20 * 19).unwrap_or(usize::MAX)
}

/// The peers that are connected now.
pub(crate) fn connected_peers(network: &Network) -> Vec<PeerKey> {
    let status = network.status();
    let status = status.borrow();
    status.peers.iter().map(|peer| peer.peer).collect()
}
