//! The node's handle on the network.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use libp2p::Multiaddr;
use libp2p::bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use weal_proto::{BlobHash, Outline};

use crate::allowance::{Allowance, TrafficLeft};
use crate::backlog::{Backlog, Events};
use crate::command::Command;
use crate::driver::{Driver, Queues, Setup};
use crate::error::{Error, FetchError, RequestError};
use crate::gossip::{GossipId, GossipVerdict};
use crate::identity::PeerKey;
use crate::members::Members;
use crate::protocols::{MAX_SYNC_REQUEST, Protocols};
use crate::rate_limit::RateLimit;
use crate::requester::Requester;
use crate::service::Service;
use crate::sessions::KeyUse;
use crate::settings::Settings;
use crate::status::{Counters, Status};
use crate::swarm::{Exchange, FilePlace, Input, Parties, Parts, Want};
use crate::traffic::Traffic;
use crate::uplink::Uplink;

/// Gossip messages of this node that may wait for the driver.
const GOSSIP_QUEUE: usize = 1024;
/// Other commands that may wait for the driver.
const COMMAND_QUEUE: usize = 256;
/// Inputs that may wait for the exchange of blobs.
const BLOB_QUEUE: usize = 1024;
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
    blobs: mpsc::Sender<Input>,
    status: watch::Receiver<Status>,
    key_use: watch::Receiver<KeyUse>,
    counters: Arc<Counters>,
    members: Arc<Members>,
    allowance: Arc<Allowance>,
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
    ) -> Result<(Self, Events), Error> {
        let (gossip, gossip_queue) = mpsc::channel(GOSSIP_QUEUE);
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        let (status_sender, status) = watch::channel(Status::default());
        let (key_use_sender, key_use) = watch::channel(KeyUse::default());
        let counters = Arc::<Counters>::default();
        let members = Arc::<Members>::default();
        let backlog = Arc::new(Backlog::new(Arc::clone(&members)));
        let (blobs, blob_queue) = mpsc::channel(BLOB_QUEUE);
        let protocols = Protocols::of_run(&run)?;
        let traffic = Traffic::new(&protocols);
        let left = settings.traffic_left;
        let allowance = Arc::new(Allowance::new(Arc::clone(&traffic), left));
        let uplink = Arc::<Uplink>::default();
        let limit = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(RateLimit::new(rate)));
        // Blobs and control answers share the limit on uploads. Gossip, which carries the votes,
        // has none.
        let upload = limit(settings.max_upload);
        let exchange = Exchange::new(Parties {
            members: Arc::clone(&members),
            service: Arc::clone(&service),
            status: status.clone(),
            commands: commands.downgrade(),
            inputs: blobs.clone(),
            upload: upload.clone(),
            download: limit(settings.max_download),
            folder: settings.parts.clone(),
            allowance: Arc::clone(&allowance),
            uplink: Arc::clone(&uplink),
        });
        let setup = Setup {
            secret,
            run: &run,
            settings: &settings,
            service,
            counters: Arc::clone(&counters),
            members: Arc::clone(&members),
            backlog: Arc::clone(&backlog),
            upload,
            protocols,
            traffic,
            allowance: Arc::clone(&allowance),
            uplink,
        };
        let queues = Queues {
            gossip: gossip_queue,
            commands: command_queue,
            events,
            status: status_sender,
            key_use: key_use_sender,
            blobs: blobs.clone(),
        };
        let driver = Driver::listen(setup, queues).await?;
        let requester = Requester::new(driver.local(), commands);
        tokio::spawn(exchange.run(blob_queue));
        tokio::spawn(driver.run());
        let shared = Shared {
            requester,
            max_gossip_bytes: settings.max_gossip_bytes,
            gossip,
            blobs,
            status,
            key_use,
            counters,
            members,
            allowance,
        };
        let network = Self {
            shared: Arc::new(shared),
        };
        Ok((network, Events::new(event_queue, backlog)))
    }

    /// This node's public key.
    #[must_use]
    pub fn local(&self) -> PeerKey {
        self.shared.requester.local()
    }

    /// Tells who the members of the run are. Most places for requests, and most space for gossip
    /// that waits, are kept for them. Until the first call every peer counts as one.
    pub fn set_members(&self, members: impl IntoIterator<Item = PeerKey>) {
        self.shared.members.set(members);
    }

    /// Replaces what this node may send and receive from now on
    /// ([`Settings::traffic_left`](crate::Settings::traffic_left)), for example when a month ends.
    pub fn set_traffic_left(&self, left: TrafficLeft) {
        self.shared.allowance.set(left);
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

    /// Decides whether a gossip message is forwarded. Every
    /// [`Event::Gossip`](crate::Event::Gossip) needs one verdict.
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
        self.shared.requester.request(peer, request).await
    }

    /// Fetches a blob from every peer that has some of it, verifies each chunk, and sends on what
    /// is here meanwhile.
    ///
    /// A peer that sends a bad chunk loses reputation, and the chunk comes from another. Several
    /// calls for the same blob share one fetch. Dropping the future of the last one cancels it.
    /// Blobs longer than 16 MiB grow in [`Settings::parts`], where a later fetch finds what an
    /// earlier one left.
    ///
    /// # Errors
    /// See [`FetchError`]. `NotFound` and `Incomplete` say why each peer did not help.
    pub async fn fetch(&self, want: Want) -> Result<Vec<u8>, FetchError> {
        let hash = want.blob;
        let parts = self.fetch_parts(want, None).await?;
        let whole = read_parts(hash, move || {
            let whole = parts.whole();
            parts.delete();
            whole
        });
        whole
            .await?
            .ok_or_else(|| storage_error(hash, "a piece is gone"))
    }

    /// Fetches a blob as [`Network::fetch`] does, straight into a file: each piece is written to
    /// its place as it arrives, and pieces that are there already are kept. Returns the outline
    /// once the whole blob is there. The file is not synced.
    ///
    /// # Errors
    /// See [`FetchError`]. Pieces that have arrived stay in the file.
    pub async fn fetch_into(
        &self,
        want: Want,
        place: FilePlace,
    ) -> Result<Arc<Outline>, FetchError> {
        let hash = want.blob;
        let parts = self.fetch_parts(want, Some(place.clone())).await?;
        let outline = Arc::clone(parts.outline());
        // Another fetch of the same blob may have come first.
        let is_there = read_parts(hash, move || {
            Ok(parts.is_at(&place) || parts.copy_to(&place)?)
        });
        match is_there.await? {
            true => Ok(outline),
            false => Err(storage_error(hash, "a piece is gone")),
        }
    }

    async fn fetch_parts(
        &self,
        want: Want,
        place: Option<FilePlace>,
    ) -> Result<Arc<Parts>, FetchError> {
        let (reply, fetched) = oneshot::channel();
        let (order, holders) = want.split(&self.local());
        let input = Input::Want {
            order,
            holders,
            place,
            reply,
        };
        let sent = self.shared.blobs.send(input).await;
        sent.map_err(|_| FetchError::ShutDown)?;
        fetched.await.map_err(|_| FetchError::ShutDown)?
    }

    /// Watches the state of the network.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// Watches whether another machine uses this node's key. Stays empty without
    /// [`Settings::session`].
    #[must_use]
    pub fn key_use(&self) -> watch::Receiver<KeyUse> {
        self.shared.key_use.clone()
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

/// Reads or writes the pieces of a blob on a thread that may block.
async fn read_parts<T: Send + 'static>(
    hash: BlobHash,
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FetchError> {
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    read.map_err(|error| storage_error(hash, error))
}

fn storage_error(hash: BlobHash, why: impl ToString) -> FetchError {
    let why = why.to_string();
    FetchError::Storage { hash, why }
}
