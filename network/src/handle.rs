//! The node's handle on the network.

use std::sync::Arc;

use libp2p::Multiaddr;
use libp2p::bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use weal_proto::BlobHash;

use crate::driver::{Command, Driver, Queues, Setup};
use crate::error::{Error, FetchError, RequestError};
use crate::event::Event;
use crate::fetch;
use crate::gossip::{GossipId, GossipVerdict};
use crate::identity::PeerKey;
use crate::protocols::{Exchange, MAX_SYNC_REQUEST};
use crate::requester::Requester;
use crate::service::Service;
use crate::settings::Settings;
use crate::status::{Counters, Status};

/// Gossip messages of this node that may wait for the driver.
const GOSSIP_QUEUE: usize = 1024;
/// Other commands that may wait for the driver.
const COMMAND_QUEUE: usize = 256;
/// Events that may wait for the node.
const EVENT_QUEUE: usize = 1024;

/// A handle on the network of one run. Cheap to clone. Dropping the last one closes the network.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    requester: Requester,
    max_gossip_bytes: usize,
    gossip: mpsc::Sender<Bytes>,
    status: watch::Receiver<Status>,
    counters: Arc<Counters>,
}

impl Network {
    /// Listens, starts dialling the bootstrap addresses, and spawns the driver. Returns once the
    /// node listens.
    ///
    /// `secret` is the node's Ed25519 seed, and `run` the id of the run. Read the events: the queue
    /// is bounded, and events beyond it are dropped and counted.
    ///
    /// # Errors
    /// If the node cannot listen on an address in the settings, usually because the port is in use,
    /// or if the key is invalid.
    pub async fn start(
        secret: [u8; 32],
        run: [u8; 32],
        settings: Settings,
        service: Arc<dyn Service>,
    ) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let (gossip, gossip_queue) = mpsc::channel(GOSSIP_QUEUE);
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        let (status_sender, status) = watch::channel(Status::default());
        let counters = Arc::<Counters>::default();
        let setup = Setup {
            secret,
            run: &run,
            settings: &settings,
            service,
            counters: Arc::clone(&counters),
        };
        let queues = Queues {
            gossip: gossip_queue,
            commands: command_queue,
            events,
            status: status_sender,
        };
        let driver = Driver::listen(setup, queues).await?;
        let requester = Requester::new(driver.local(), commands);
        tokio::spawn(driver.run());
        let shared = Shared {
            requester,
            max_gossip_bytes: settings.max_gossip_bytes,
            gossip,
            status,
            counters,
        };
        let network = Self {
            shared: Arc::new(shared),
        };
        Ok((network, event_queue))
    }

    /// This node's public key.
    #[must_use]
    pub fn local(&self) -> PeerKey {
        self.shared.requester.local()
    }

    /// Publishes a message to every peer. Never waits: if the queue is full, the message is dropped
    /// and counted.
    ///
    /// While no peer is connected, the newest messages are kept for the first peer that connects.
    /// The same bytes are sent only once within [`REMEMBERED`](crate::REMEMBERED).
    pub fn gossip(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if bytes.len() > self.shared.max_gossip_bytes {
            self.shared.counters.gossip_too_large.one();
        } else if self.shared.gossip.try_send(bytes).is_err() {
            self.shared.counters.gossip_queue_full.one();
        }
    }

    /// Decides whether a gossip message is forwarded. Every [`Event::Gossip`] needs one verdict.
    pub async fn verdict(&self, id: GossipId, verdict: GossipVerdict) {
        self.shared
            .requester
            .command(Command::Verdict { id, verdict })
            .await;
    }

    /// Sends one peer a request and waits for the answer of its [`Service`], at most two minutes.
    /// Dials the peer if it is not connected and its address is known.
    ///
    /// # Errors
    /// See [`RequestError`]. `NotHere` means that the service answered `None`.
    pub async fn request(
        &self,
        peer: PeerKey,
        request: impl Into<Bytes>,
    ) -> Result<Bytes, RequestError> {
        let request = request.into();
        if request.len() > MAX_SYNC_REQUEST {
            return Err(RequestError::TooLong {
                bytes: request.len(),
                limit: MAX_SYNC_REQUEST,
            });
        }
        self.shared
            .requester
            .request(Exchange::Sync, peer, request)
            .await
    }

    /// Fetches a blob from its holders, several at once, and verifies each chunk against `hash`.
    ///
    /// `holders` are the peers that have or may have the blob, the most likely first; only the
    /// first 32 are asked. A peer that sends a bad chunk loses reputation, and the chunk is fetched
    /// from another. Holders that fail, are busy or do not have the blob are retried a few times
    /// with growing pauses. The blob is held in memory once: `max_bytes` limits it. Dropping the
    /// future cancels the fetch.
    ///
    /// # Errors
    /// See [`FetchError`]. `NotFound` and `Incomplete` say why each holder failed.
    pub async fn fetch_blob(
        &self,
        hash: BlobHash,
        max_bytes: u64,
        holders: Vec<PeerKey>,
    ) -> Result<Vec<u8>, FetchError> {
        fetch::fetch(&self.shared.requester, hash, max_bytes, holders).await
    }

    /// Watches the state of the network.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// Dials an address, and retries a few times.
    pub async fn dial(&self, address: Multiaddr) {
        self.shared.requester.command(Command::Dial(address)).await;
    }

    /// Closes all connections, so that peers notice at once, and stops listening. Other clones of
    /// this handle stop working.
    pub async fn shutdown(self) {
        let (done, is_done) = oneshot::channel();
        self.shared.requester.command(Command::Shutdown(done)).await;
        let _ = is_done.await;
    }
}
