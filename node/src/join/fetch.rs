//! Fetches a manifest and the blobs that it names.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use weal_network::{Event, Events, FetchError, Network, PeerKey, Priority, Want};
use weal_proto::manifest::Manifest;
use weal_proto::{Message, Request, Response, RunId};
use weal_trainer::format_bytes;

use super::{LocalData, Tell};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Entered, Home};
use crate::link::RunLink;
use crate::plan::{NamedBlob, named_blobs};
use crate::store::blobs::Keep;

/// How long peers are asked for a blob before that is told, and they are asked again.
const TRY_FOR: Duration = Duration::from_secs(120);
/// Time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(10);

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

    /// Fetches a blob. Without a limit of patience, tries until it is here.
    async fn fetch_blob(&self, blob: &NamedBlob) -> Result<Vec<u8>> {
        loop {
            match (self.try_fetch(blob).await, self.patience) {
                (Ok(bytes), _) => return Ok(bytes),
                (Err(error), None) if is_up_to_peers(&error) => self.tell(format!(
                    "{} could not be fetched: {error}; retrying",
                    blob.name
                )),
                (Err(error), _) => {
                    let hint = "run the command again to continue, or ask for a link with other \
                                peers";
                    return Err(Error::link(format!("{} could not be fetched", blob.name))
                        .caused_by(error)
                        .with_hint(hint));
                }
            }
        }
    }

    /// Fetches a blob, and tells now and then how much has arrived.
    async fn try_fetch(&self, blob: &NamedBlob) -> std::result::Result<Vec<u8>, FetchError> {
        let NamedBlob { name, hash, bytes } = blob;
        self.tell(format!("fetching {name} ({})", format_bytes(*bytes)));
        let want = Want {
            blob: *hash,
            max_bytes: *bytes,
            priority: Priority::Data,
            holders: Vec::new(),
            patience: self.patience.unwrap_or(TRY_FOR),
        };
        let received = || self.network.status().borrow().traffic.blob.received;
        let before = received();
        let mut fetched = pin!(self.network.fetch(want));
        loop {
            match timeout(TELL_EVERY, fetched.as_mut()).await {
                Ok(fetched) => return fetched,
                Err(_) => self.tell(format!(
                    "fetching {name}: {} of {}",
                    format_bytes(received().saturating_sub(before).min(*bytes)),
                    format_bytes(*bytes)
                )),
            }
        }
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
                    self.tell(format!("{last}; retrying"));
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

    fn tell(&self, text: String) {
        (self.tell)(&text);
    }
}

/// Whether other peers, or the same ones later, may have a blob that could not be fetched.
fn is_up_to_peers(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::NoHolders { .. } | FetchError::NotFound { .. } | FetchError::Incomplete { .. }
    )
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
