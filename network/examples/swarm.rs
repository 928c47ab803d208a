//! One peer of a swarm, to measure how long blobs take: see `docs/bench/swarm.py`.
//!
//! `swarm <index> <peers> <authors> <bytes> <start> <folder>`: peers 0 to `authors` each have a
//! blob of this length, and every peer fetches the others' into files of the folder at the Unix
//! time `start`. Peer `i` listens on `10.77.0.(i + 1)`. Prints the seconds that it took, and, once
//! its standard input ends, the bytes that it sent for blobs.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use weal_network::{FilePlace, Found, Network, PeerKey, Priority, Service, Settings, Want};
use weal_proto::{BlobHash, CHUNK_BYTES, Outline};

const PORT: u16 = 7700;

/// The blobs of this peer.
#[derive(Default)]
struct Shelf(HashMap<BlobHash, (Outline, Vec<u8>)>);

impl Service for Shelf {
    fn answer(&self, _: PeerKey, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn outline(&self, hash: &BlobHash) -> Found<Outline> {
        self.0.get(hash).map(|(outline, _)| outline.clone()).into()
    }

    fn chunk(&self, hash: &BlobHash, index: u32) -> Found<Vec<u8>> {
        let chunk = self.0.get(hash).and_then(|(_, bytes)| {
            let mut chunks = bytes.chunks(CHUNK_BYTES);
            chunks.nth(index as usize).map(<[u8]>::to_vec)
        });
        chunk.into()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(arguments.pop().unwrap_or_default());
    let numbers: Vec<u64> = arguments
        .iter()
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let [index, peers, authors, bytes, start] = numbers[..] else {
        return Err("swarm <index> <peers> <authors> <bytes> <start> <folder>".into());
    };
    let (mut shelf, mut wanted) = (Shelf::default(), Vec::new());
    for author in 0..authors {
        let blob = blob(author, bytes)?;
        let outline = Outline::of(&blob);
        if author == index {
            shelf.0.insert(outline.hash(), (outline, blob));
        } else {
            wanted.push(outline.hash());
        }
    }
    let address = |peer: u64| format!("/ip4/10.77.0.{}/udp/{PORT}/quic-v1", peer + 1);
    let settings = Settings {
        listen: vec![address(index).parse()?],
        bootstrap: (0..index)
            .map(|peer| address(peer).parse())
            .collect::<Result<_, _>>()?,
        mdns: false,
        ..Settings::default()
    };
    let seed = [index as u8 + 1; 32];
    let (network, mut events) = Network::start(seed, [7; 32], settings, Arc::new(shelf)).await?;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut status = network.status();
    status
        .wait_for(|status| status.peers.len() as u64 >= peers - 1)
        .await?;
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(start);
    tokio::time::sleep(start.duration_since(SystemTime::now())?).await;
    let took = fetch(&network, wanted, bytes, &folder).await?;
    writeln!(std::io::stdout(), "{took:.2}")?;
    // Others may still need this peer.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    let sent = network.status().borrow().traffic.blob.sent;
    writeln!(std::io::stdout(), "{sent}")?;
    Ok(())
}

/// Fetches all blobs at once. Returns the seconds that it took.
async fn fetch(
    network: &Network,
    blobs: Vec<BlobHash>,
    bytes: u64,
    folder: &Path,
) -> Result<f64, Box<dyn Error>> {
    let began = Instant::now();
    let mut fetches = JoinSet::new();
    for blob in blobs {
        let path = folder.join(format!("{}-{blob}", hex::encode(network.local())));
        File::create_new(&path)?.set_len(bytes)?;
        let place = FilePlace::new(path, 0);
        let (network, want) = (
            network.clone(),
            Want {
                blob,
                max_bytes: bytes,
                priority: Priority::Examine,
                holders: Vec::new(),
                patience: Duration::from_secs(60),
            },
        );
        fetches.spawn(async move { network.fetch_into(want, place).await });
    }
    while let Some(fetched) = fetches.join_next().await {
        fetched??;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// The blob of an author.
fn blob(author: u64, bytes: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut blob = vec![0; usize::try_from(bytes)?];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&author.to_le_bytes());
    hasher.finalize_xof().fill(&mut blob);
    Ok(blob)
}
