//! The libp2p behaviour: the protocols that every connection speaks.

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
    PeerId, StreamProtocol, allow_block_list, connection_limits, dcutr, identify, kad, mdns,
    memory_connection_limits, ping, relay, request_response, upnp,
};

use crate::error::Error;
use crate::frames::Frames;
use crate::gate::Gate;
use crate::gossip::{self, Gossip};
use crate::limits::{CONNECTIONS_PER_PEER, PENDING};
use crate::members::Members;
use crate::probes::{DialBacks, Probes};
use crate::protocols::{MAX_SYNC_ANSWER, MAX_SYNC_REQUEST, Protocols, SYNC_TIMEOUT};
use crate::rate_limit::RateLimit;
use crate::relays;
use crate::renewal::{Renewal, SIBLINGS};
use crate::sessions::{ANSWER, STATEMENT};
use crate::settings::Settings;
use crate::status::Counters;
use crate::streams;

/// Limit on streams for requests per connection, in both directions together. It is above the
/// limits on requests, so that a peer with too many requests hears "busy" instead of silence.
const STREAMS: usize = 64;
/// Time in which a peer must answer what it heard of a session.
const SESSIONS_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit on such questions per connection at once.
const SESSIONS_STREAMS: usize = 4;
/// Default share of the machine's memory beyond which new connections are refused.
const MEMORY_SHARE: f64 = 0.95;
/// Pause between two Kademlia bootstraps.
const KADEMLIA_REFRESH: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub limits: connection_limits::Behaviour,
    pub memory: memory_connection_limits::Behaviour,
    pub banned: allow_block_list::Behaviour<BlockedPeers>,
    pub gate: Gate,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub gossip: Renewal<Gossip>,
    pub kademlia: kad::Behaviour<MemoryStore>,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    pub blob: streams::Behaviour,
    pub sync: request_response::Behaviour<Frames>,
    pub sessions: request_response::Behaviour<Frames>,
    pub probes: Probes,
    pub relay: Toggle<relay::Behaviour>,
    pub relay_client: relay::client::Behaviour,
    pub dcutr: dcutr::Behaviour,
    pub upnp: Toggle<upnp::tokio::Behaviour>,
}

/// What the behaviour shares with the rest of the network.
pub(crate) struct Parts {
    /// Rate limit on answers sent.
    pub upload: Option<Arc<RateLimit>>,
    pub relay_client: relay::client::Behaviour,
    pub members: Arc<Members>,
    pub counters: Arc<Counters>,
}

impl Behaviour {
    pub(crate) fn new(
        key: &Keypair,
        protocols: &Protocols,
        settings: &Settings,
        parts: Parts,
    ) -> Result<Self, Error> {
        let local = key.public().to_peer_id();
        let frames = Frames {
            max_request: MAX_SYNC_REQUEST,
            max_answer: MAX_SYNC_ANSWER,
            upload: parts.upload,
        };
        let dial_backs = DialBacks::default();
        let gossip = gossip::behaviour(protocols, settings)?;
        let connections = settings.max_connections;
        let strangers = incoming(connections) / 2;
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(connections)),
            memory: settings.max_memory_bytes.map_or_else(
                || memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
                memory_connection_limits::Behaviour::with_max_bytes,
            ),
            banned: allow_block_list::Behaviour::default(),
            gate: Gate::new(parts.members, parts.counters, strangers.max(1) as usize),
            identify: identify::Behaviour::new(
                identify::Config::new(protocols.identify.clone(), key.public())
                    .with_agent_version(concat!("weal/", env!("CARGO_PKG_VERSION")).into())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::new(ping::Config::new()),
            gossip: Renewal::new(gossip, SIBLINGS, dial_backs.clone()),
            kademlia: kademlia(local, &protocols.kademlia),
            mdns: multicast(local, settings.mdns).into(),
            blob: streams::Behaviour::new(protocols),
            sync: requests(frames, protocols),
            sessions: sessions(protocols),
            probes: Probes::new(dial_backs),
            relay: relay_service(local, settings).into(),
            relay_client: parts.relay_client,
            dcutr: dcutr::Behaviour::new(local),
            upnp: settings.upnp.then(upnp::tokio::Behaviour::default).into(),
        })
    }
}

/// Connections that peers may open, of all. The rest is for those that this node dials.
fn incoming(connections: u32) -> u32 {
    (connections - connections / 4).max(1)
}

fn limits(connections: u32) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(connections))
        .with_max_established_incoming(Some(incoming(connections)))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(PENDING))
        .with_max_pending_outgoing(Some(PENDING))
}

/// The relay service, off until this node turns out to be public.
fn relay_service(local: PeerId, settings: &Settings) -> Option<relay::Behaviour> {
    let limits = settings.relay.as_ref()?;
    let mut service = relay::Behaviour::new(local, relays::service(limits));
    service.set_status(Some(relay::Status::Disable));
    Some(service)
}

/// Kademlia without records: it only finds peers. The driver decides who gets into the table.
fn kademlia(local: PeerId, name: &StreamProtocol) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(name.clone());
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(Some(KADEMLIA_REFRESH))
        .set_query_timeout(Duration::from_secs(30))
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_provider_publication_interval(None);
    let mut kademlia = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    kademlia.set_mode(Some(kad::Mode::Server));
    kademlia
}

/// Multicast DNS, if wanted and if the system allows it. The node works without it.
fn multicast(local: PeerId, wanted: bool) -> Option<mdns::tokio::Behaviour> {
    if !wanted {
        return None;
    }
    match mdns::tokio::Behaviour::new(mdns::Config::default(), local) {
        Ok(behaviour) => Some(behaviour),
        Err(why) => {
            tracing::warn!("cannot find peers on the local network: {why}");
            None
        }
    }
}

/// What peers tell each other of their sessions: a short question and a short answer.
fn sessions(protocols: &Protocols) -> request_response::Behaviour<Frames> {
    let frames = Frames {
        max_request: STATEMENT,
        max_answer: ANSWER,
        upload: None,
    };
    let config = request_response::Config::default()
        .with_request_timeout(SESSIONS_TIMEOUT)
        .with_max_concurrent_streams(SESSIONS_STREAMS);
    let name = protocols.sessions.clone();
    request_response::Behaviour::with_codec(frames, [(name, ProtocolSupport::Full)], config)
}

fn requests(frames: Frames, protocols: &Protocols) -> request_response::Behaviour<Frames> {
    let config = request_response::Config::default()
        .with_request_timeout(SYNC_TIMEOUT)
        .with_max_concurrent_streams(STREAMS);
    let name = protocols.sync.clone();
    request_response::Behaviour::with_codec(frames, [(name, ProtocolSupport::Full)], config)
}
