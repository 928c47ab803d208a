//! Coming to a run by its link: fetch the manifest and what it names from peers, and check every
//! byte of it.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use weal_proto::manifest::Manifest;
use weal_proto::{BlobHash, Message, Request, Response};
use weal_trainer::PreparedFolder;

use crate::data::{self, TextFile};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::link::RunLink;
use crate::new_run::{Named, check_fetched, named_blobs, token_shards};
use crate::settings::Settings;
use crate::store::Store;
use crate::store::blobs::{Blobs, Keep};
use weal_network::{self as network, Event, Network, PeerKey, Silent};

/// What is told while joining.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// What is here already, and need not be fetched.
#[derive(Debug, Default)]
pub struct Own {
    texts: Vec<TextFile>,
    shards: Vec<(PathBuf, BlobHash)>,
}

impl Own {
    /// The texts and the prepared tokens at these paths.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let (prepared, texts): (Vec<_>, Vec<_>) = paths
            .iter()
            .cloned()
            .partition(|path| PreparedFolder::is_one(path));
        let mut own = Self {
            texts: data::read(&texts)?,
            shards: Vec::new(),
        };
        for path in prepared {
            let folder =
                PreparedFolder::open(&path).map_err(|error| Error::Data(error.to_string()))?;
            own.shards.extend(token_shards(&folder));
        }
        Ok(own)
    }

    /// Takes in what the run names.
    fn take(self, named: &[Named], blobs: &Blobs, tell: Tell<'_>) -> Result<()> {
        let is_named = |hash: &BlobHash| named.iter().any(|(_, named, _)| named == hash);
        for TextFile { source, text } in self.texts {
            if is_named(&source.hash) {
                tell(&format!("{}: your own copy is taken", source.name));
                blobs.put(&text, Keep::Pinned, false)?;
            } else {
                tell(&format!("{}: not of this run, left alone", source.name));
            }
        }
        let (taken, left): (Vec<_>, Vec<_>) = self
            .shards
            .into_iter()
            .partition(|(_, hash)| is_named(hash));
        if !taken.is_empty() || !left.is_empty() {
            tell(&format!(
                "shards of tokens: {} of your own are taken, {} left alone",
                taken.len(),
                left.len()
            ));
        }
        taken
            .iter()
            .try_for_each(|(path, hash)| blobs.put_file(path, hash))
    }
}

/// Makes a folder the folder of the link's run, and fetches what of it is missing there. What is
/// among the `own` files is not fetched.
///
/// # Errors
/// When nobody behind the link answers within `patience`, or the folder is another run's.
pub async fn join(
    folder: &Folder,
    link: &RunLink,
    settings: &Settings,
    patience: Duration,
    own: Own,
    tell: Tell<'_>,
) -> Result<()> {
    let present = folder.manifest()?;
    let _lock = folder.lock()?;
    if let Some(present) = &present {
        folder.expect_run(present.run(), link.run)?;
        let store = Store::open(&folder.store(), link.run)?;
        let blobs = Blobs::open(folder.blobs(), store)?;
        if named_blobs(present)
            .iter()
            .all(|(_, hash, _)| blobs.has(hash))
        {
            return Ok(());
        }
    }
    if link.peers.is_empty() && !settings.network.mdns {
        return Err(Error::Link(
            "the link names no peer; add ?peer=<multiaddr>, or allow mdns in settings.toml".into(),
        ));
    }
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
    let joining = Joining {
        folder,
        link,
        network: &network,
        patience,
        tell,
    };
    let fetched = joining.fetch(present, events, own).await;
    network.shutdown().await;
    fetched
}

/// Coming to a run.
struct Joining<'a> {
    folder: &'a Folder,
    link: &'a RunLink,
    network: &'a Network,
    patience: Duration,
    tell: Tell<'a>,
}

impl Joining<'_> {
    async fn fetch(
        &self,
        present: Option<Manifest>,
        mut events: mpsc::Receiver<Event>,
        own: Own,
    ) -> Result<()> {
        let Self {
            link,
            network,
            tell,
            ..
        } = *self;
        // Who has the manifest has what it names, so it is asked for even where it is known.
        let fetched = find_manifest(link, network, &mut events, self.patience, tell).await?;
        let manifest = present.unwrap_or(fetched);
        tell(&format!(
            "run \"{}\": {} parameters",
            manifest.name,
            manifest.model.parameters()
        ));
        let store = Store::open(&self.folder.store(), link.run)?;
        let blobs = Blobs::open(self.folder.blobs(), store)?;
        let named = named_blobs(&manifest);
        own.take(&named, &blobs, tell)?;
        for (name, hash, bytes) in named {
            if blobs.has(&hash) {
                continue;
            }
            tell(&format!("fetching {name} ({bytes} bytes)"));
            let holders: Vec<_> = network
                .status()
                .borrow()
                .peers
                .iter()
                .map(|peer| peer.peer)
                .collect();
            let blob = network
                .fetch_blob(hash, bytes, holders)
                .await
                .map_err(|error| {
                    let remedy =
                        "try again, it goes on from there, or ask for a link with other peers";
                    Error::Link(format!("{name} could not be fetched: {error}; {remedy}"))
                })?;
            blobs.put(&blob, Keep::Pinned, false)?;
        }
        self.folder.adopt(&manifest)
    }
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
            Event::Stranger { address, .. } => {
                last = format!("{address}: takes part in another run")
            }
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
        Ok(_) => Err(Error::Link(
            "a peer answered something else than it was asked".into(),
        )),
        Err(error) => Err(Error::Link(error.to_string())),
    }
}
