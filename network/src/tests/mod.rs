//! Real swarms on the loopback interface. No test sleeps: each waits for what it asserts, or fails
//! at a deadline.

mod blobs;
mod forgers;
mod gossip;
mod hostile;
mod peers;
mod relays;
mod requests;
mod returning;
mod sessions;
mod streams;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use weal_proto::{BlobHash, CHUNK_BYTES, Outline};

use crate::*;

/// Generous: the machine may be busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);
const RUN: [u8; 32] = [42; 32];

/// A node and what it serves.
struct Node {
    network: Network,
    events: Events,
    shelf: Arc<Shelf>,
}

/// An in-memory service that can be made to lie.
#[derive(Default)]
struct Shelf {
    blobs: Mutex<HashMap<BlobHash, Shelved>>,
    chunk_requests: AtomicUsize,
    /// Control requests that wait for an end of the silence.
    waiting_requests: AtomicUsize,
    lie: Mutex<Lie>,
    /// Notified when a silent service may answer.
    released: Condvar,
}

type Shelved = (Outline, Vec<u8>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Lie {
    #[default]
    None,
    /// Every chunk has one wrong byte.
    Chunks,
    /// It sends the outline but no chunk.
    NoChunks,
    /// It sends the outline of another blob.
    Outline,
    /// Chunks are longer than the outline says.
    LongChunks,
    /// It never answers.
    Silence,
    /// It may not serve anything yet.
    NotYet,
}

impl Shelf {
    fn put(&self, bytes: &[u8]) -> BlobHash {
        let outline = Outline::of(bytes);
        let hash = outline.hash();
        self.blobs
            .lock()
            .unwrap()
            .insert(hash, (outline, bytes.to_vec()));
        hash
    }

    fn lie(&self) -> Lie {
        *self.lie.lock().unwrap()
    }

    fn set(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
        self.released.notify_all();
    }

    fn wait_while_silent(&self) {
        let lie = self.lie.lock().unwrap();
        drop(
            self.released
                .wait_while(lie, |lie| *lie == Lie::Silence)
                .unwrap(),
        );
    }
}

impl Service for Shelf {
    /// Answers a request of 8 bytes with that many bytes, any other with its bytes in reverse, and
    /// an empty one not at all. "wait" is answered after the silence.
    fn answer(&self, from: PeerKey, request: &[u8]) -> Option<Vec<u8>> {
        assert_ne!(from, [0; 32]);
        if let Ok(bytes) = request.try_into() {
            return Some(vec![1; u64::from_le_bytes(bytes) as usize]);
        }
        if request == b"wait" {
            self.waiting_requests.fetch_add(1, Ordering::Relaxed);
            self.wait_while_silent();
        }
        (!request.is_empty()).then(|| request.iter().rev().copied().collect())
    }

    fn outline(&self, hash: &BlobHash) -> Found<Outline> {
        if self.lie() == Lie::NotYet {
            return Found::NotYet;
        }
        let Some((mut outline, _)) = self.blobs.lock().unwrap().get(hash).cloned() else {
            return Found::NotHere;
        };
        if self.lie() == Lie::Outline {
            outline.chunks.fill([7; 32]);
        }
        Found::Here(outline)
    }

    fn chunk(&self, hash: &BlobHash, index: u32) -> Found<Vec<u8>> {
        self.chunk_requests.fetch_add(1, Ordering::Relaxed);
        self.wait_while_silent();
        self.chunk_or_lie(hash, index).into()
    }
}

impl Shelf {
    fn chunk_or_lie(&self, hash: &BlobHash, index: u32) -> Option<Vec<u8>> {
        let blobs = self.blobs.lock().unwrap();
        let mut chunk = blobs
            .get(hash)?
            .1
            .chunks(CHUNK_BYTES)
            .nth(index as usize)?
            .to_vec();
        match self.lie() {
            Lie::Chunks => chunk[0] ^= 1,
            Lie::NoChunks => return None,
            Lie::LongChunks => chunk.push(0),
            Lie::None | Lie::Outline | Lie::Silence | Lie::NotYet => {}
        }
        Some(chunk)
    }
}

/// A blob to fetch, with little patience.
fn want(blob: BlobHash) -> Want {
    Want {
        blob,
        max_bytes: 1 << 30,
        priority: Priority::Examine,
        holders: Vec::new(),
        patience: Duration::from_secs(2),
    }
}

fn settings(bootstrap: Vec<Multiaddr>) -> Settings {
    Settings {
        listen: Settings::listen_on_loopback(0),
        bootstrap,
        mdns: false,
        upnp: false,
        ..Settings::default()
    }
}

async fn start_with(seed: u8, run: [u8; 32], settings: Settings) -> Node {
    let shelf = Arc::<Shelf>::default();
    let (network, events) = Network::start([seed; 32], run, settings, Arc::clone(&shelf) as _)
        .await
        .unwrap();
    Node {
        network,
        events,
        shelf,
    }
}

/// Starts `count` nodes. Each but the first dials the first.
async fn start(count: u8) -> Vec<Node> {
    let first = start_with(1, RUN, settings(Vec::new())).await;
    let known = first.addresses().await;
    let mut nodes = vec![first];
    for seed in 2..=count {
        nodes.push(start_with(seed, RUN, settings(known.clone())).await);
    }
    nodes
}

/// Starts `count` nodes, and connects each with each.
async fn start_connected(count: u8) -> Vec<Node> {
    let mut nodes = start(count).await;
    for place in 1..nodes.len() {
        let known = nodes[place].addresses().await;
        for node in &nodes[..place] {
            node.network.dial(known[0].clone()).await;
        }
    }
    for node in &mut nodes {
        node.until_status(|status| status.peers.len() == usize::from(count) - 1)
            .await;
    }
    nodes
}

impl Node {
    fn key(&self) -> PeerKey {
        self.network.local()
    }

    /// Fetches a blob. Names no holders: every peer is asked.
    async fn fetch(&self, blob: BlobHash) -> Result<Vec<u8>, FetchError> {
        in_time(self.network.fetch(want(blob))).await
    }

    async fn addresses(&self) -> Vec<Multiaddr> {
        self.until_status(|status| status.listen.len() == 2)
            .await
            .listen
    }

    async fn until_status(&self, is: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.network.status();
        let seen = timeout(DEADLINE, status.wait_for(|status| is(status))).await;
        match seen {
            Ok(Ok(status)) => status.clone(),
            _ => panic!(
                "the status never became as expected: {:#?}",
                self.network.status().borrow().clone()
            ),
        }
    }

    /// Waits for an event that `is` accepts, and skips the others.
    async fn until_event<T>(&mut self, mut is: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => {
                    if let Some(found) = is(event) {
                        return found;
                    }
                }
                Ok(None) => panic!("the network closed"),
                Err(_) => panic!("the event did not happen in time"),
            }
        }
    }

    /// Waits until peers have requested `count` chunks.
    async fn until_asked(&self, count: usize) {
        in_time(async {
            while self.shelf.chunk_requests.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn next_gossip(&mut self) -> (GossipId, PeerKey, Bytes) {
        self.until_event(|event| match event {
            Event::Gossip { id, from, bytes } => Some((id, from, bytes)),
            _ => None,
        })
        .await
    }
}

/// Fails if `what` does not finish in time.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("not in time")
}

/// Bytes in which no two chunks are equal.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|i| (i / CHUNK_BYTES) as u8 ^ (i % 251) as u8 ^ seed)
        .collect()
}
