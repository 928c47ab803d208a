//! Coming to a run by its link: fetch the manifest and what it names from peers, and check every byte of it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use weal_proto::manifest::Manifest;
use weal_proto::{Message, Request, Response};

use crate::data::TextFile;
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::link::RunLink;
use crate::network::{self, Event, Network, PeerKey, Silent};
use crate::new_run::{check_fetched, named_blobs};
use crate::settings::Settings;
use crate::store::Store;
use crate::store::blobs::{Blobs, Keep};

/// What is told while joining.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// Makes a folder the folder of the link's run; does nothing where it is already. What is among the `own` files is not
/// fetched.
///
/// # Errors
/// When nobody behind the link answers within `patience`, or the folder is another run's.
pub async fn join(
    folder: &Folder,
    link: &RunLink,
    settings: &Settings,
    patience: Duration,
    own: Vec<TextFile>,
    tell: Tell<'_>,
) -> Result<()> {
    if let Some(present) = folder.manifest()? {
        return folder.expect_run(present.run(), link.run);
    }
    if link.peers.is_empty() && !settings.network.mdns {
        return Err(Error::Link(
            "the link names no peer; add ?peer=<multiaddr>, or allow mdns in settings.toml".into(),
        ));
    }
    let _lock = folder.lock()?;
    let seed = folder.key()?.seed();
    let addresses = network::Settings {
        listen: network::Settings::listen_on_port(0),
        bootstrap: link.peers.clone(),
        mdns: settings.network.mdns,
        max_upload: NonZeroU64::new(settings.network.max_upload),
        max_download: NonZeroU64::new(settings.network.max_download),
        ..network::Settings::default()
    };
    let (network, events) = Network::start(seed, link.run.into(), addresses, Arc::new(Silent))
        .await
        .map_err(|error| Error::Network(error.to_string()))?;
    let fetched = fetch(folder, link, &network, events, patience, own, tell).await;
    network.shutdown().await;
    fetched
}

async fn fetch(
    folder: &Folder,
    link: &RunLink,
    network: &Network,
    mut events: mpsc::Receiver<Event>,
    patience: Duration,
    own: Vec<TextFile>,
    tell: Tell<'_>,
) -> Result<()> {
    let manifest = find_manifest(link, network, &mut events, patience, tell).await?;
    tell(&format!("run \"{}\": {} parameters", manifest.name, manifest.model.parameters()));
    let store = Store::open(&folder.store(), link.run)?;
    let blobs = Blobs::open(folder.blobs(), store)?;
    let named = named_blobs(&manifest);
    for file in own {
        let TextFile { source, text } = file;
        if named.iter().any(|(_, hash, _)| *hash == source.hash) {
            tell(&format!("{}: your own copy is taken", source.name));
            blobs.put(&text, Keep::Pinned, false)?;
        } else {
            tell(&format!("{}: not of this run, left alone", source.name));
        }
    }
    for (name, hash, bytes) in named {
        if blobs.has(&hash) {
            continue;
        }
        tell(&format!("fetching {name} ({bytes} bytes)"));
        let holders: Vec<_> = network.status().borrow().peers.iter().map(|peer| peer.peer).collect();
        let text = network.fetch_blob(hash.into(), bytes, holders).await.map_err(|error| {
            Error::Link(format!("{name} could not be fetched: {error}; try again, or ask for a link with other peers"))
        })?;
        blobs.put(&text, Keep::Pinned, false)?;
    }
    folder.adopt(&manifest)
}

/// Asks each peer as it connects, until one has the manifest.
async fn find_manifest(
    link: &RunLink,
    network: &Network,
    events: &mut mpsc::Receiver<Event>,
    patience: Duration,
    tell: Tell<'_>,
) -> Result<Manifest> {
    let deadline = Instant::now() + patience;
    let mut last = "nobody answered".to_owned();
    while let Ok(Some(event)) = timeout_at(deadline, events.recv()).await {
        match event {
            Event::Connected { peer, address } => {
                tell(&format!("connected to {address}"));
                match ask_manifest(network, peer, link).await {
                    Ok(manifest) => return Ok(manifest),
                    Err(why) => last = why.to_string(),
                }
            }
            Event::BootstrapFailed { address, why, .. } => {
                last = format!("{address}: {why}");
                tell(&format!("{last}; trying again"));
            }
            Event::Stranger { address, .. } => last = format!("{address}: takes part in another run"),
            _ => {}
        }
    }
    Err(Error::Link(format!(
        "no peer of run {} was reached within {} s (last: {last}); check the link, or ask for one with other peers",
        link.run.short(),
        patience.as_secs()
    )))
}

async fn ask_manifest(network: &Network, peer: PeerKey, link: &RunLink) -> Result<Manifest> {
    let answer = network.request(peer, Request::Manifest.encode()).await;
    let bytes = answer.map_err(|error| Error::Link(error.to_string()))?;
    match Response::decode(&bytes) {
        Ok(Response::Manifest(manifest)) => check_fetched(&manifest, link.run),
        Ok(_) => Err(Error::Link("a peer answered something else than it was asked".into())),
        Err(error) => Err(Error::Link(error.to_string())),
    }
}
