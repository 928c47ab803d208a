//! Fetches a manifest and the blobs that it names.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weal_network::{Event, Events, Network, PeerKey, Priority, Want};
use weal_proto::manifest::Manifest;
use weal_proto::{Message, Request, Response, RunId};

use super::{LocalData, Tell};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Entered, Home};
use crate::link::RunLink;
use crate::plan::{NamedBlob, named_blobs};
use crate::store::blobs::Keep;

/// A node that does not have the run yet.
pub(super) struct Newcomer<'a> {
    pub link: &'a RunLink,
    pub network: &'a Network,
    /// The longest wait for a peer that has the manifest.
    pub patience: Duration,
    pub tell: Tell<'a>,
}

impl Newcomer<'_> {
    pub(super) async fn fetch(
        &self,
        place: Entered,
        mut events: Events,
        local: LocalData,
    ) -> Result<Home> {
        // A peer that has the manifest has what it names. A known manifest is asked for too, to
        // find such a peer.
        let fetched = self.find_manifest(&mut events).await?;
        let home = match place {
            Entered::Run(home) => *home,
            Entered::Empty(empty) => empty.begin(fetched)?,
        };
        let manifest = &home.manifest;
        self.tell(format!(
            "run \"{}\": {} parameters",
            manifest.name,
            manifest.model.parameters()
        ));
        let named = named_blobs(manifest);
        local.store(&named, &home.blobs, self.tell)?;
        for blob in named {
            if !home.blobs.has(&blob.hash) {
                let bytes = self.fetch_blob(&blob).await?;
                home.blobs.put(&bytes, Keep::Pinned, false)?;
            }
        }
        home.settle()?;
        Ok(home)
    }

    async fn fetch_blob(&self, blob: &NamedBlob) -> Result<Vec<u8>> {
        let NamedBlob { name, hash, bytes } = blob;
        self.tell(format!("fetching {name} ({bytes} bytes)"));
        let want = Want {
            blob: *hash,
            max_bytes: *bytes,
            priority: Priority::Data,
            holders: Vec::new(),
            patience: self.patience,
        };
        let fetched = self.network.fetch(want).await;
        fetched.map_err(|error| {
            Error::link(format!("{name} could not be fetched"))
                .caused_by(error)
                .with_hint("run the command again to continue, or ask for a link with other peers")
        })
    }

    /// Asks each peer as it connects, until one has the manifest.
    async fn find_manifest(&self, events: &mut Events) -> Result<Manifest> {
        let deadline = Instant::now() + self.patience;
        let mut last = "no peer answered".to_owned();
        while let Ok(Some(event)) = timeout_at(deadline, events.recv()).await {
            match event {
                Event::Connected { peer, address } => {
                    self.tell(format!("connected to {address}"));
                    match self.ask_manifest(peer).await {
                        Ok(manifest) => return Ok(manifest),
                        Err(error) => last = format!("{error:#}"),
                    }
                }
                Event::BootstrapFailed { address, why, .. } => {
                    last = format!("{address}: {why}");
                    self.tell(format!("{last}; retrying"));
                }
                Event::Stranger { address, .. } => {
                    last = format!("{address}: takes part in another run");
                }
                _ => {}
            }
        }
        Err(Error::link(format!(
            "no peer of run {} answered within {} s",
            self.link.run.short(),
            self.patience.as_secs()
        ))
        .caused_by(last)
        .with_hint("check the link, or ask for one with other peers"))
    }

    async fn ask_manifest(&self, peer: PeerKey) -> Result<Manifest> {
        let request = Request::Manifest.encode();
        let answer = self.network.request(peer, request).await;
        let bytes = answer.map_err(|error| Error::of(ErrorKind::Link, error))?;
        match Response::decode(&bytes) {
            Ok(Response::Manifest(manifest)) => check_manifest(&manifest, self.link.run),
            Ok(_) => Err(Error::link("a peer answered another question")),
            Err(error) => Err(Error::link("a peer's answer cannot be decoded").caused_by(error)),
        }
    }

    fn tell(&self, text: String) {
        (self.tell)(&text);
    }
}

/// The manifest in bytes that a stranger sent.
///
/// # Errors
/// When they are no manifest, or that of another run.
fn check_manifest(bytes: &[u8], run: RunId) -> Result<Manifest> {
    if Manifest::run_of(bytes) != run {
        return Err(Error::link("a peer sent a manifest that is not the link's"));
    }
    Manifest::decode(bytes)
        .map_err(|error| Error::link("this version cannot use the run's manifest").caused_by(error))
}
