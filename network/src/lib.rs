//! The network of one run: who is there, what is said, and the blobs that move.
//!
//! A node starts its network with [`Network::start`] and gets a handle and a stream of [`Event`]s.
//! Behind them runs one task (`driver`) that owns the libp2p swarm. Four things pass through it:
//!
//! * **Gossip**, small signed messages to everyone ([`Network::gossip`]). A message that arrives is
//!   an [`Event::Gossip`]; it goes on to others only when the node says so ([`Network::verdict`]).
//! * **Requests** to one peer ([`Network::request`]), answered by the other side's [`Service`].
//! * **Blobs**, fetched from several peers at once and verified chunk by chunk
//!   ([`Network::fetch_blob`]).
//! * **Peers**, found through bootstrap addresses, Kademlia and multicast, kept, and called again
//!   when lost.
//!
//! Every byte from outside is taken for an attack until it is proven otherwise. What bounds each:
//!
//! | what a stranger might do | what stops it |
//! |---|---|
//! | open connections without end | limits on connections: in all, pending, of one peer, and by the process's memory |
//! | announce a huge message | the length is checked before anything is allocated, and buffers grow only as bytes come |
//! | ask without end | so many requests of a peer at once, and of all peers; the rest hears "busy" |
//! | take all of the uplink | blobs keep to the caps in the settings, and leave the rest to what is said |
//! | stop in the middle | a stream on which no byte moves for 15 s is reset |
//! | send wrong chunks | each is verified alone; the sender is asked no more, loses reputation, is shut out in the end |
//! | flood with bad gossip | what is rejected is not forwarded and counts against all who sent it; the third is the last |
//! | belong to another run | protocol names carry the run, and identify's answer is checked: strangers are let go |
//! | store things in Kademlia | records are refused; it finds peers and nothing else |
//!
//! Every queue is bounded, and what is dropped is counted by cause ([`Drops`]). Bytes are counted
//! where they pass ([`BytesByKind`] says what is in them and what is not).

mod behaviour;
mod blob;
mod chunks;
mod dialling;
mod driver;
mod error;
mod exchange;
mod fetch;
mod frames;
mod gossip;
mod identity;
mod listening;
mod peers;
mod rate_limit;
mod reputation;
mod serve;
mod settings;
mod status;
mod swarm_events;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;

use std::sync::Arc;
use std::time::Duration;

pub use behaviour::{MAX_SYNC_ANSWER, MAX_SYNC_REQUEST};
pub use error::{Cause, Error, FetchError, RequestError};
pub use gossip::{GossipId, REMEMBERED, Verdict};
pub use identity::{PeerKey, address_of, peer_in_address};
pub use libp2p::Multiaddr;
pub use libp2p::bytes::Bytes;
pub use reputation::Offence;
pub use settings::{DEFAULT_MAX_GOSSIP_BYTES, Settings};
pub use status::{Direction, Drops, PeerStatus, Status};
use tokio::sync::{mpsc, oneshot, watch};
pub use traffic::{Bytes as ByteCount, BytesByKind};
use weal_proto::{BlobHash, Outline};

use self::driver::{Command, Driver};
use self::fetch::Slots;
use self::frames::Answer;
use self::serve::Exchange;
use self::status::Counters;

/// Own gossip that may wait for the network's task.
const GOSSIP_QUEUE: usize = 1024;
/// Everything else that may wait for it.
const COMMAND_QUEUE: usize = 256;
/// Events that may wait for the node.
const EVENT_QUEUE: usize = 1024;

/// What this node answers to others. Called on blocking threads, from several at once; what is
/// asked comes from anyone.
pub trait Service: Send + Sync + 'static {
    /// The answer to a control request, at most [`MAX_SYNC_ANSWER`] bytes; `None`: there is none.
    fn answer(&self, from: PeerKey, request: &[u8]) -> Option<Vec<u8>>;

    /// The outline of a blob that this node has and may give away now.
    fn outline(&self, hash: &BlobHash) -> Option<Outline>;

    /// One chunk of a blob: 1 MiB, the last one less. `None`: not here, or not yet to be given
    /// away.
    fn chunk(&self, hash: &BlobHash, index: u32) -> Option<Vec<u8>>;
}

/// Has nothing to give: a newcomer, or one who only listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Service for Silent {
    fn answer(&self, _from: PeerKey, _request: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn outline(&self, _hash: &BlobHash) -> Option<Outline> {
        None
    }

    fn chunk(&self, _hash: &BlobHash, _index: u32) -> Option<Vec<u8>> {
        None
    }
}

/// What happened on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A gossip message arrived. It waits for [`Network::verdict`]; after about ten seconds it is
    /// too late.
    Gossip {
        /// Names it in the verdict.
        id: GossipId,
        /// The peer it came from last; the author is named, and proven, inside.
        from: PeerKey,
        /// The message.
        bytes: Bytes,
    },
    /// A peer of this run is connected.
    Connected {
        /// Its key.
        peer: PeerKey,
        /// Where it can be called, as far as is known, ending in `/p2p/…`: to be saved, and tried
        /// first next time.
        address: Multiaddr,
    },
    /// The last connection to a peer of this run is closed.
    Disconnected {
        /// Its key.
        peer: PeerKey,
    },
    /// Someone connected who is not of this run; the connection was closed.
    Stranger {
        /// Where.
        address: Multiaddr,
        /// What it says it speaks; empty where it says nothing.
        speaks: String,
    },
    /// This node can be reached here; the address ends in `/p2p/…`.
    Listening {
        /// The address.
        address: Multiaddr,
    },
    /// This node can be reached here no more (an interface went away).
    NotListening {
        /// The address.
        address: Multiaddr,
    },
    /// A bootstrap address failed; it will be tried again.
    BootstrapFailed {
        /// The address as it stands in the settings.
        address: Multiaddr,
        /// What went wrong.
        why: String,
        /// When it will be tried again.
        retry_in: Duration,
    },
    /// A peer has offended once too often, and is shut out for ten minutes.
    ShutOut {
        /// Its key.
        peer: PeerKey,
        /// The last offence.
        offence: Offence,
    },
}

/// A handle on the network of one run. Cheap to clone; when the last one is dropped, the network
/// closes.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    local: PeerKey,
    max_gossip_bytes: usize,
    gossip: mpsc::Sender<Bytes>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    counters: Arc<Counters>,
    slots: Slots,
}

impl Network {
    /// Listens, calls the bootstrap addresses, and goes on in the background. Returns when the node
    /// listens.
    ///
    /// `secret` is the node's Ed25519 seed, `run` the run's id. Events that nobody reads are
    /// dropped and counted in the end: read them.
    ///
    /// # Errors
    /// An address in the settings that cannot be listened on, above all a port in use; an unusable
    /// key.
    pub async fn start(
        secret: [u8; 32],
        run: [u8; 32],
        settings: Settings,
        service: Arc<dyn Service>,
    ) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let (gossip, gossip_queue) = mpsc::channel(GOSSIP_QUEUE);
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        let (status, status_seen) = watch::channel(Status::default());
        let counters = Arc::<Counters>::default();
        let max_gossip_bytes = settings.max_gossip_bytes;
        let queues = driver::Queues {
            gossip: gossip_queue,
            commands: command_queue,
            events,
            status,
        };
        let driver = Driver::listen(
            secret,
            &run,
            &settings,
            service,
            Arc::clone(&counters),
            queues,
        )
        .await?;
        let local = driver.local();
        tokio::spawn(driver.run());
        let slots = Slots::new();
        let shared = Shared {
            local,
            max_gossip_bytes,
            gossip,
            commands,
            status: status_seen,
            counters,
            slots,
        };
        Ok((
            Self {
                shared: Arc::new(shared),
            },
            event_queue,
        ))
    }

    /// This node's key.
    #[must_use]
    pub fn local(&self) -> PeerKey {
        self.shared.local
    }

    /// Sends a message to everyone. Never waits: a message for which there is no room is dropped
    /// and counted.
    ///
    /// While no peer is there, the newest messages are kept for the first that comes. The same
    /// bytes twice within [`REMEMBERED`] are sent once.
    pub fn gossip(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if bytes.len() > self.shared.max_gossip_bytes {
            self.shared.counters.gossip_too_large.one();
        } else if self.shared.gossip.try_send(bytes).is_err() {
            self.shared.counters.gossip_queue_full.one();
        }
    }

    /// Says what becomes of a gossip message: every [`Event::Gossip`] is to be followed by one
    /// verdict.
    pub async fn verdict(&self, id: GossipId, verdict: Verdict) {
        self.command(Command::Verdict { id, verdict }).await;
    }

    /// Asks one peer something, and waits for its [`Service::answer`], for two minutes at most. The
    /// peer is called if it is not connected and its address is known.
    ///
    /// # Errors
    /// See [`RequestError`]; `NotHere` is a service that answered `None`.
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
        self.exchange(Exchange::Sync, peer, request).await
    }

    /// Fetches a blob from the peers that hold it, several at once, each chunk verified against
    /// `hash`.
    ///
    /// `holders` are the peers that have it or might have it, the likeliest first; of more than 32
    /// the rest is not asked. A bad chunk costs its sender its reputation, and is fetched from
    /// another. Holders that fail, lack the blob or are busy are asked again with growing pauses, a
    /// few times. The blob is in memory once: `max_bytes` bounds it. Dropping the future ends the
    /// fetch.
    ///
    /// # Errors
    /// See [`FetchError`]; `NotFound` and `Incomplete` tell what became of each holder.
    pub async fn fetch_blob(
        &self,
        hash: BlobHash,
        max_bytes: u64,
        holders: Vec<PeerKey>,
    ) -> Result<Vec<u8>, FetchError> {
        fetch::fetch(self, hash, max_bytes, holders).await
    }

    /// The network as it is now, and every change of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// Calls an address, a few times if need be.
    pub async fn dial(&self, address: Multiaddr) {
        self.command(Command::Dial(address)).await;
    }

    /// Closes all connections, so that peers notice at once, and stops listening. Other handles
    /// become useless.
    pub async fn shutdown(self) {
        let (done, is_done) = oneshot::channel();
        self.command(Command::Shutdown(done)).await;
        let _ = is_done.await;
    }

    async fn exchange(
        &self,
        exchange: Exchange,
        peer: PeerKey,
        request: Bytes,
    ) -> Result<Bytes, RequestError> {
        let peer = identity::peer_id(&peer).ok_or(RequestError::NotAPeer)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Ask {
            exchange,
            peer,
            request,
            reply,
        })
        .await;
        match answer.await {
            Ok(Ok(Answer::Here(bytes))) => Ok(bytes),
            Ok(Ok(Answer::NotHere)) => Err(RequestError::NotHere),
            Ok(Ok(Answer::Busy)) => Err(RequestError::Busy),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RequestError::ShutDown),
        }
    }

    async fn offended(&self, peer: PeerKey, offence: Offence) {
        if let Some(peer) = identity::peer_id(&peer) {
            self.command(Command::Offended { peer, offence }).await;
        }
    }

    /// A command after the shutdown is dropped, and with it the sender of its reply.
    async fn command(&self, command: Command) {
        let _ = self.shared.commands.send(command).await;
    }

    fn slots(&self) -> &Slots {
        &self.shared.slots
    }

    fn is_shut_down(&self) -> bool {
        self.shared.commands.is_closed()
    }
}
