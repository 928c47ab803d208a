//! One peer of the NAT matrix: see `tests/nat.rs`.
//!
//! `nat_peer <index> <multiaddr of an IP> <bootstrap address>…` listens there on port 7700. It has
//! one blob, whose contents follow from its index, fetches the blobs of the peers that standard
//! input names (one index a line), and gossips once a second. Prints what changes, one fact a line.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::interval;
use weal_network::{
    Event, Events, Found, GossipVerdict, Network, PeerKey, Priority, Reachability, Service,
    Settings, Status, Want,
};
use weal_proto::{BlobHash, CHUNK_BYTES, Outline};

const PORT: u16 = 7700;
const RUN: [u8; 32] = [7; 32];
const BLOB_BYTES: usize = 4 << 20;

/// The blobs that are here.
#[derive(Default)]
struct Shelf(std::sync::RwLock<BTreeMap<BlobHash, (Outline, Vec<u8>)>>);

impl Shelf {
    fn put(&self, blob: Vec<u8>) {
        let outline = Outline::of(&blob);
        if let Ok(mut blobs) = self.0.write() {
            blobs.insert(outline.hash(), (outline, blob));
        }
    }
}

impl Service for Shelf {
    fn answer(&self, _: PeerKey, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn outline(&self, hash: &BlobHash) -> Found<Outline> {
        let blobs = self.0.read().ok();
        let found = blobs.and_then(|blobs| Some(blobs.get(hash)?.0.clone()));
        found.into()
    }

    fn chunk(&self, hash: &BlobHash, index: u32) -> Found<Vec<u8>> {
        let blobs = self.0.read().ok();
        let chunk = blobs.and_then(|blobs| {
            let mut chunks = blobs.get(hash)?.1.chunks(CHUNK_BYTES);
            chunks.nth(index as usize).map(<[u8]>::to_vec)
        });
        chunk.into()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let index: u8 = arguments.next().ok_or("no index")?.parse()?;
    let ip = arguments.next().ok_or("no address to listen on")?;
    let settings = Settings {
        listen: vec![
            format!("{ip}/udp/{PORT}/quic-v1").parse()?,
            format!("{ip}/tcp/{PORT}").parse()?,
        ],
        bootstrap: arguments
            .map(|address| address.parse())
            .collect::<Result<_, _>>()?,
        mdns: false,
        ..Settings::default()
    };
    let shelf = Arc::new(Shelf::default());
    shelf.put(blob(index));
    let service = Arc::clone(&shelf);
    let (network, events) = Network::start([index; 32], RUN, settings, service).await?;
    tell("key", hex::encode(network.local()));
    tokio::spawn(watch(network.clone()));
    tokio::spawn(hear(network.clone(), events));
    tokio::spawn(speak(network.clone(), index));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        tokio::spawn(fetch(network.clone(), Arc::clone(&shelf), line.parse()?));
    }
    network.shutdown().await;
    Ok(())
}

fn tell(fact: &str, what: impl std::fmt::Display) {
    // The test that reads it may be gone.
    let _ = writeln!(std::io::stdout(), "{fact} {what}");
}

/// The blob of a peer.
fn blob(index: u8) -> Vec<u8> {
    let mut blob = vec![0; BLOB_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[index]);
    hasher.finalize_xof().fill(&mut blob);
    blob
}

/// Tells of the node's reachability, and of how it is connected.
async fn watch(network: Network) {
    let mut status = network.status();
    let mut before = BTreeSet::new();
    loop {
        let now = facts(&status.borrow_and_update());
        for fact in now.difference(&before) {
            tell("is", fact);
        }
        for fact in before.difference(&now) {
            tell("was", fact);
        }
        before = now;
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn facts(status: &Status) -> BTreeSet<String> {
    let peers = status.peers.iter().map(|peer| {
        let way = if peer.relayed { "relayed" } else { "direct" };
        format!("{way} {}", hex::encode(peer.peer))
    });
    let reach = match &status.reachability {
        Reachability::Unknown => "unknown".to_owned(),
        Reachability::Public { .. } => "public".to_owned(),
        Reachability::Private { relays } => format!("private {}", relays.len()),
    };
    let relayed = status.traffic.relay.sent >> 20;
    let punches = status.hole_punches;
    let facts = [
        reach,
        format!("relaying {relayed} MiB"),
        format!("punches {} {}", punches.succeeded, punches.failed),
    ];
    peers.chain(facts).collect()
}

async fn hear(network: Network, mut events: Events) {
    while let Some(event) = events.recv().await {
        if let Event::Gossip { id, bytes, .. } = event {
            if let [index, 0, ..] = bytes[..] {
                tell("heard", index);
            }
            network.verdict(id, GossipVerdict::Accept).await;
        }
    }
}

async fn speak(network: Network, index: u8) {
    let mut second = interval(Duration::from_secs(1));
    for count in 0u64.. {
        second.tick().await;
        let message = [&[index, 0][..], &count.to_le_bytes()].concat();
        network.gossip(message);
    }
}

async fn fetch(network: Network, shelf: Arc<Shelf>, index: u8) {
    let began = Instant::now();
    let want = Want {
        blob: Outline::of(&blob(index)).hash(),
        max_bytes: BLOB_BYTES as u64,
        priority: Priority::Examine,
        holders: Vec::new(),
        patience: Duration::from_secs(120),
    };
    match network.fetch(want).await {
        Ok(blob) => {
            shelf.put(blob);
            tell(
                "fetched",
                format!("{index} in {:.1} s", began.elapsed().as_secs_f64()),
            );
        }
        Err(error) => tell("failed", format!("{index}: {error}")),
    }
}
