//! What the driver is built from.

use std::sync::Arc;

use libp2p::bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::allowance::Allowance;
use crate::backlog::Backlog;
use crate::command::Command;
use crate::event::Event;
use crate::members::Members;
use crate::protocols::Protocols;
use crate::rate_limit::RateLimit;
use crate::service::Service;
use crate::sessions::KeyUse;
use crate::settings::Settings;
use crate::status::{Counters, Status};
use crate::swarm::Input;
use crate::traffic::Traffic;
use crate::uplink::Uplink;

/// The driver's ends of the queues.
pub(crate) struct Queues {
    pub gossip: mpsc::Receiver<Bytes>,
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<Event>,
    pub status: watch::Sender<Status>,
    pub key_use: watch::Sender<KeyUse>,
    /// Streams for blobs that peers open.
    pub blobs: mpsc::Sender<Input>,
}

/// What the driver is built from.
pub(crate) struct Setup<'a> {
    /// The node's Ed25519 seed.
    pub secret: [u8; 32],
    /// Id of the run.
    pub run: &'a [u8; 32],
    pub settings: &'a Settings,
    pub service: Arc<dyn Service>,
    pub counters: Arc<Counters>,
    pub members: Arc<Members>,
    pub backlog: Arc<Backlog>,
    /// Rate limit on answers sent, shared with blobs.
    pub upload: Option<Arc<RateLimit>>,
    pub protocols: Protocols,
    pub traffic: Arc<Traffic>,
    pub allowance: Arc<Allowance>,
    /// Whether members use the uplink.
    pub uplink: Arc<Uplink>,
}
