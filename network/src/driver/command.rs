//! What connects the driver to the handle: commands and queues.

use std::sync::Arc;

use libp2p::bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::RequestError;
use crate::event::Event;
use crate::frames::Answer;
use crate::gossip::{GossipId, GossipVerdict};
use crate::protocols::Exchange;
use crate::reputation::Offence;
use crate::service::Service;
use crate::settings::Settings;
use crate::status::{Counters, Status};

/// What the handle asks of the driver.
pub(crate) enum Command {
    Verdict {
        id: GossipId,
        verdict: GossipVerdict,
    },
    Request {
        exchange: Exchange,
        peer: PeerId,
        request: Bytes,
        reply: Reply,
    },
    Offended {
        peer: PeerId,
        offence: Offence,
    },
    Dial(Multiaddr),
    /// Shuts down. The channel is told when the ports are free again.
    Shutdown(oneshot::Sender<()>),
}

/// Where the answer to a request goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, RequestError>>;

/// The driver's ends of the queues.
pub(crate) struct Queues {
    pub gossip: mpsc::Receiver<Bytes>,
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<Event>,
    pub status: watch::Sender<Status>,
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
}
