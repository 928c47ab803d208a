//! Fetches one blob that a manifest names, straight into its file: it may not fit into memory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use weal_dashboard::Fetch;
use weal_network::{FetchError, FilePlace, Priority, Want};
use weal_proto::Outline;
use weal_trainer::format_bytes;

use super::Progress;
use super::fetch::Newcomer;
use crate::error::{Error, ErrorKind, Result};
use crate::home::Home;
use crate::plan::NamedBlob;

/// How long peers are asked for a blob before that is told, and they are asked again.
const TRY_FOR: Duration = Duration::from_secs(120);
/// Time after which the page shows anew how much has arrived.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// A line tells it too, once in this many times.
const TOLD_ONE_IN: u32 = 10;

impl Newcomer<'_> {
    /// Fetches a blob. Without a limit of patience, tries until it is here.
    ///
    /// # Errors
    /// When no peer has the blob within the patience, or the disk cannot be written.
    pub(super) async fn fetch_blob(&self, home: &Home, blob: &NamedBlob) -> Result<()> {
        // What an earlier attempt left there is kept.
        let part = home.folder.parts().join(format!("{}.part", blob.hash));
        let outline = loop {
            make_room(&part, blob.bytes)?;
            let fetched = self.try_fetch(blob, part.clone()).await;
            (self.tell)(Progress::Fetch(None));
            match (fetched, self.patience) {
                (Ok(outline), _) => break outline,
                (Err(error), None) if is_up_to_peers(&error) => self.warn(format!(
                    "{} could not be fetched: {error}; retrying",
                    blob.name
                )),
                (Err(error), _) => return Err(not_fetched(&blob.name, error)),
            }
        };
        let blobs = home.blobs.clone();
        let stored = spawn_blocking(move || blobs.take_fetched(&part, &outline)).await;
        stored.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Fetches a blob into a file, and tells meanwhile how much is there.
    async fn try_fetch(
        &self,
        blob: &NamedBlob,
        file: PathBuf,
    ) -> std::result::Result<Arc<Outline>, FetchError> {
        let NamedBlob { name, hash, bytes } = blob;
        self.tell(format!("fetching {name} ({})", format_bytes(*bytes)));
        let want = Want {
            blob: *hash,
            max_bytes: *bytes,
            priority: Priority::Data,
            holders: Vec::new(),
            patience: self.patience.unwrap_or(TRY_FOR),
        };
        let place = FilePlace::new(file, 0);
        let fetching = self.network.fetch_into(want, place.clone());
        tokio::pin!(fetching);
        let mut timer = interval(SHOW_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = 0_u32;
        loop {
            tokio::select! {
                fetched = &mut fetching => return fetched,
                _ = timer.tick() => {}
            }
            let bytes_done = place.done.load(Ordering::Relaxed);
            (self.tell)(Progress::Fetch(Some(Fetch {
                what: name.clone(),
                bytes_done,
                bytes: *bytes,
            })));
            shown = shown.saturating_add(1);
            if shown.is_multiple_of(TOLD_ONE_IN) {
                let (done, all) = (format_bytes(bytes_done), format_bytes(*bytes));
                self.tell(format!("fetching {name}: {done} of {all}"));
            }
        }
    }
}

/// Makes a file of this length. What is there already stays.
fn make_room(file: &Path, bytes: u64) -> Result<()> {
    let failed = || Error::storage("cannot write", file);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed())?;
    }
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let opened = options.open(file).map_err(failed())?;
    opened.set_len(bytes).map_err(failed())
}

fn not_fetched(name: &str, error: FetchError) -> Error {
    let what = format!("{name} could not be fetched");
    let (kind, hint) = match error {
        FetchError::Storage { .. } => (
            ErrorKind::Storage,
            "free some space, or correct what the system says, and run the command again to \
             continue",
        ),
        _ => (
            ErrorKind::Link,
            "run the command again to continue, or ask for a link with other peers",
        ),
    };
    Error::new(kind, what).caused_by(error).with_hint(hint)
}

/// Whether other peers, or the same ones later, may have a blob that could not be fetched.
fn is_up_to_peers(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::NoHolders { .. } | FetchError::NotFound { .. } | FetchError::Incomplete { .. }
    )
}
