//! The protocols that every connection speaks, put together.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use libp2p::allow_block_list::BlockedPeers;
use libp2p::connection_limits::ConnectionLimits;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, allow_block_list, connection_limits, gossipsub, identify, kad, mdns,
    memory_connection_limits, ping, request_response,
};

use super::frames::Frames;
use super::identity::Protocols;
use super::rate_limit::RateLimit;
use super::{Error, Settings, blob, gossip};

/// The longest control request in bytes.
pub const MAX_SYNC_REQUEST: usize = 64 * 1024;
/// The longest answer to a control request in bytes.
pub const MAX_SYNC_ANSWER: usize = 8 * 1024 * 1024;

/// A whole exchange, waiting included; one that moves no byte ends much earlier
/// ([`super::frames::STALL`]). A chunk may take its time: a slow uplink that many peers share is
/// still worth waiting for.
const BLOB_EXCHANGE: Duration = Duration::from_secs(600);
const SYNC_EXCHANGE: Duration = Duration::from_secs(120);
/// Streams of one protocol and connection, in both directions together. Above the limits on
/// requests, so that a peer that asks too much hears "busy" and not silence.
const STREAMS: usize = 64;
/// Connections that are being made at once, in each direction.
const PENDING: u32 = 64;
/// Both sides may call each other at the same moment, over two transports.
const CONNECTIONS_PER_PEER: u32 = 4;
/// Of the machine's memory, unless [`Settings::max_memory_bytes`] says otherwise.
const MEMORY_SHARE: f64 = 0.95;
const REFRESH_ROUTES: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub limits: connection_limits::Behaviour,
    pub memory: memory_connection_limits::Behaviour,
    pub shut_out: allow_block_list::Behaviour<BlockedPeers>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub gossip: gossipsub::Behaviour,
    pub kademlia: kad::Behaviour<MemoryStore>,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    pub blob: request_response::Behaviour<Frames>,
    pub sync: request_response::Behaviour<Frames>,
}

impl Behaviour {
    pub(super) fn new(
        key: &Keypair,
        protocols: &Protocols,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let local = key.public().to_peer_id();
        let cap = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(RateLimit::new(rate)));
        let (upload, download) = (cap(settings.max_upload), cap(settings.max_download));
        let blob = Frames {
            max_request: blob::MAX_REQUEST,
            max_answer: blob::MAX_ANSWER,
            upload,
            download,
        };
        let sync = Frames {
            max_request: MAX_SYNC_REQUEST,
            max_answer: MAX_SYNC_ANSWER,
            upload: None,
            download: None,
        };
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(settings.max_connections)),
            memory: settings.max_memory_bytes.map_or_else(
                || memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
                memory_connection_limits::Behaviour::with_max_bytes,
            ),
            shut_out: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(
                identify::Config::new(protocols.identify.clone(), key.public())
                    .with_agent_version(concat!("weal/", env!("CARGO_PKG_VERSION")).into())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::new(ping::Config::new()),
            gossip: gossip::behaviour(protocols, settings)?,
            kademlia: kademlia(local, &protocols.kademlia),
            mdns: multicast(local, settings.mdns).into(),
            blob: exchange(blob, &protocols.blob, BLOB_EXCHANGE),
            sync: exchange(sync, &protocols.sync, SYNC_EXCHANGE),
        })
    }
}

fn limits(most: u32) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(most))
        .with_max_established_incoming(Some((most - most / 4).max(1)))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(PENDING))
        .with_max_pending_outgoing(Some(PENDING))
}

/// Kademlia only finds peers here: what others want to store is refused.
fn kademlia(local: PeerId, name: &StreamProtocol) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(name.clone());
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_periodic_bootstrap_interval(Some(REFRESH_ROUTES))
        .set_query_timeout(Duration::from_secs(30))
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_provider_publication_interval(None);
    let mut kademlia = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    kademlia.set_mode(Some(kad::Mode::Server));
    kademlia
}

/// Multicast is a convenience: where the system does not allow it, the node goes on without.
fn multicast(local: PeerId, wanted: bool) -> Option<mdns::tokio::Behaviour> {
    if !wanted {
        return None;
    }
    match mdns::tokio::Behaviour::new(mdns::Config::default(), local) {
        Ok(behaviour) => Some(behaviour),
        Err(why) => {
            tracing::warn!("peers on the local network cannot be looked for: {why}");
            None
        }
    }
}

fn exchange(
    frames: Frames,
    name: &StreamProtocol,
    timeout: Duration,
) -> request_response::Behaviour<Frames> {
    let config = request_response::Config::default()
        .with_request_timeout(timeout)
        .with_max_concurrent_streams(STREAMS);
    request_response::Behaviour::with_codec(frames, [(name.clone(), ProtocolSupport::Full)], config)
}
