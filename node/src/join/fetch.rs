//! Fetches a manifest, and then the blobs that it names (`blob.rs`).

use std::time::Duration;

use tokio::time::timeout;
use weal_network::{Event, Events, Network, PeerKey};
use weal_proto::manifest::Manifest;
use weal_proto::{Message, Request, Response, RunId};

use super::{LocalData, Progress, Tell};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Entered, Home};
use crate::link::RunLink;
use crate::plan::named_blobs;

/// A node that does not have the run yet.
pub(super) struct Newcomer<'a> {
    pub link: &'a RunLink,
    pub network: &'a Network,
    /// The longest wait for a peer that has what is needed, if there is one.
    pub patience: Option<Duration>,
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
        let mut home = match place {
            Entered::Run(home) => *home,
            Entered::Empty(empty) => empty.begin(fetched)?,
        };
        if home.beginning.is_none()
            && home.store.decided_rounds()? == 0
            && let Some(snapshot) = self.state_of_link(&home.manifest).await?
        {
            home.begin_at(snapshot)?;
        }
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
                self.fetch_blob(&home, &blob).await?;
            }
        }
        home.settle()?;
        Ok(home)
    }

    /// Asks each peer as it connects, until one has the manifest.
    pub(super) async fn find_manifest(&self, events: &mut Events) -> Result<Manifest> {
        let mut last = "no peer answered".to_owned();
        let found = self.ask_peers(events, &mut last);
        let found = match self.patience {
            Some(patience) => timeout(patience, found).await.ok().flatten(),
            None => found.await,
        };
        let waited = self.patience.unwrap_or_default().as_secs();
        found.ok_or_else(|| {
            let run = self.link.run.short();
            Error::link(format!("no peer of run {run} answered within {waited} s"))
                .caused_by(last)
                .with_hint("check the link, or ask for one with other peers")
        })
    }

    /// `None` if the network ends. `last` says why there is no answer yet.
    async fn ask_peers(&self, events: &mut Events, last: &mut String) -> Option<Manifest> {
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected { peer, address } => {
                    self.tell(format!("connected to {address}"));
                    match self.ask_manifest(peer).await {
                        Ok(manifest) => return Some(manifest),
                        Err(error) => *last = format!("{error:#}"),
                    }
                }
                Event::BootstrapFailed { address, why, .. } => {
                    *last = format!("{address}: {why}");
                    self.warn(format!("{last}; retrying"));
                }
                Event::Stranger { address, .. } => {
                    *last = format!("{address}: takes part in another run");
                }
                _ => {}
            }
        }
        None
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

    pub(super) fn tell(&self, text: String) {
        (self.tell)(Progress::Note(&text));
    }

    pub(super) fn warn(&self, text: String) {
        (self.tell)(Progress::Warning(&text));
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
