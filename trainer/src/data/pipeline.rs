//! The pipeline: one thread downloads, which nobody waits for; one reads, every core tokenises, and
//! the caller's thread writes the batches in the order in which they were read. The shards do not
//! depend on the number of threads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::fetch::DownloadClient;
use super::read::{BadRecord, Batch, DataFile, ReadOptions, RecordSink};
use super::sources::{Input, Location};
use super::tokenise::{BatchTokeniser, TokenisedBatch};
use crate::error::{Error, Result};

/// Files downloaded before they are needed.
const FILES_AHEAD: usize = 2;
/// Batches per core that are read but not written yet.
const BATCHES_AHEAD: usize = 4;
/// The longest time between two calls of the progress callback.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The inputs and settings of a preparation.
pub(super) struct Pipeline<'a> {
    pub inputs: &'a [Input],
    pub options: &'a ReadOptions,
    pub tokeniser: &'a BatchTokeniser,
    pub client: &'a DownloadClient,
    /// The folder for downloads.
    pub downloads: &'a Path,
    pub threads: usize,
}

/// Progress counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// Bytes read from files.
    pub read: Arc<AtomicU64>,
    /// Bytes downloaded.
    pub fetched: Arc<AtomicU64>,
    /// Bytes of downloaded files whose length was unknown before.
    pub found: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// A batch to tokenise.
struct Job {
    number: u64,
    input: usize,
    batch: Batch,
    bad: Vec<BadRecord>,
    notes: Vec<String>,
}

/// A tokenised batch and the number of its input.
pub(super) struct Outcome {
    pub input: usize,
    pub done: TokenisedBatch,
    /// What is worth knowing about the file.
    pub notes: Vec<String>,
}

type Sent = Result<(u64, Outcome)>;

impl Pipeline<'_> {
    /// Passes each tokenised batch to `write`, in order, and calls `progress` several times a
    /// second.
    ///
    /// # Errors
    /// The first error of any stage, and [`Error::Stopped`] if `progress` breaks.
    pub(super) fn run(
        &self,
        counters: &Counters,
        write: &mut dyn FnMut(Outcome) -> Result<()>,
        progress: &mut dyn FnMut(&Counters) -> ControlFlow<()>,
    ) -> Result<()> {
        let (send_file, files) = sync_channel(FILES_AHEAD);
        // Bounded by the permits, which the writer gives back.
        let (send_outcome, outcomes) = channel();
        let downloads = Downloads {
            inputs: self.inputs.to_vec(),
            client: self.client.clone(),
            folder: self.downloads.to_owned(),
            counters: counters.clone(),
        };
        let failed = send_outcome.clone();
        // A server may be silent for a minute: who stops does not wait for it.
        thread::spawn(move || downloads.run(&send_file, &failed));
        thread::scope(|scope| {
            let (send_job, jobs) = sync_channel(self.threads);
            let (send_permit, permits) = sync_channel(self.threads * BATCHES_AHEAD);
            let jobs = Arc::new(Mutex::new(jobs));
            let failed = send_outcome.clone();
            scope.spawn(move || {
                self.read(
                    counters,
                    &files,
                    &Feed {
                        send_job,
                        send_permit,
                    },
                    &failed,
                )
            });
            for _ in 0..self.threads {
                let (jobs, send_outcome) = (jobs.clone(), send_outcome.clone());
                scope.spawn(move || self.tokenise(&jobs, &send_outcome));
            }
            drop((send_outcome, jobs));
            let written = in_order(&outcomes, &permits, counters, write, progress);
            counters.stop.store(true, Ordering::Relaxed);
            // Threads that still wait to send fail now, and end.
            drop((outcomes, permits));
            written
        })
    }

    fn read(
        &self,
        counters: &Counters,
        files: &Receiver<(usize, PathBuf)>,
        feed: &Feed,
        failed: &Sender<Sent>,
    ) {
        let mut next = 0;
        while let Ok((number, path)) = files.recv() {
            let Some(input) = self.inputs.get(number) else {
                return;
            };
            let mut feeder = Feeder {
                feed,
                input: number,
                next: &mut next,
                bad: Vec::new(),
                notes: Vec::new(),
            };
            let file = DataFile {
                name: &input.name,
                path: &path,
                kind: input.kind,
            };
            let read = file
                .read(self.options, &counters.read, &mut feeder)
                .and_then(|()| feeder.flush());
            match read {
                Ok(()) => {}
                Err(Error::Stopped) => return,
                Err(error) => {
                    let _ = failed.send(Err(error));
                    return;
                }
            }
        }
    }

    fn tokenise(&self, jobs: &Mutex<Receiver<Job>>, send: &Sender<Sent>) {
        loop {
            let received = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job {
                number,
                input,
                batch,
                bad,
                notes,
            }) = received
            else {
                return;
            };
            let outcome = self.tokeniser.batch(batch).map(|mut done| {
                done.bad.splice(..0, bad);
                (number, Outcome { input, done, notes })
            });
            if send.send(outcome).is_err() {
                return;
            }
        }
    }
}

/// The files to download, and where to.
struct Downloads {
    inputs: Vec<Input>,
    client: DownloadClient,
    folder: PathBuf,
    counters: Counters,
}

impl Downloads {
    fn run(&self, send: &SyncSender<(usize, PathBuf)>, failed: &Sender<Sent>) {
        for (number, input) in self.inputs.iter().enumerate() {
            let path = match &input.location {
                Location::Local(path) => Ok(path.clone()),
                Location::Remote { url, sha256 } => self.download(input, url, sha256.as_deref()),
            };
            let sent = match path {
                Ok(path) => send.send((number, path)).is_ok(),
                Err(error) => {
                    let _ = failed.send(Err(error));
                    false
                }
            };
            if !sent {
                return;
            }
        }
    }

    fn download(&self, input: &Input, url: &str, sha256: Option<&str>) -> Result<PathBuf> {
        let counters = &self.counters;
        let path = self.folder.join(download_name(url, sha256));
        let before = counters.fetched.load(Ordering::Relaxed);
        self.client.download(url, sha256, &path, &mut |bytes, _| {
            counters.fetched.store(before + bytes, Ordering::Relaxed);
            if counters.stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if input.bytes.is_none() {
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            counters.found.fetch_add(length, Ordering::Relaxed);
        }
        Ok(path)
    }
}

fn in_order(
    outcomes: &Receiver<Sent>,
    permits: &Receiver<()>,
    counters: &Counters,
    write: &mut dyn FnMut(Outcome) -> Result<()>,
    progress: &mut dyn FnMut(&Counters) -> ControlFlow<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    loop {
        match outcomes.recv_timeout(REPORT_EVERY) {
            Ok(outcome) => {
                let (number, outcome) = outcome?;
                early.insert(number, outcome);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Some(outcome) = early.remove(&next) {
            write(outcome)?;
            next += 1;
            let _ = permits.try_recv();
        }
        if progress(counters).is_break() {
            return Err(Error::Stopped);
        }
    }
}

/// Channels for read batches. Each batch needs a permit, which the writer gives back.
struct Feed {
    send_job: SyncSender<Job>,
    send_permit: SyncSender<()>,
}

struct Feeder<'a> {
    feed: &'a Feed,
    input: usize,
    next: &'a mut u64,
    /// Bad records and notes since the last batch.
    bad: Vec<BadRecord>,
    notes: Vec<String>,
}

impl Feeder<'_> {
    fn flush(&mut self) -> Result<()> {
        if self.bad.is_empty() && self.notes.is_empty() {
            Ok(())
        } else {
            self.batch(Batch::Texts(Vec::new()))
        }
    }
}

impl RecordSink for Feeder<'_> {
    fn batch(&mut self, batch: Batch) -> Result<()> {
        let job = Job {
            number: *self.next,
            input: self.input,
            batch,
            bad: std::mem::take(&mut self.bad),
            notes: std::mem::take(&mut self.notes),
        };
        *self.next += 1;
        self.feed.send_permit.send(()).map_err(|_| Error::Stopped)?;
        self.feed.send_job.send(job).map_err(|_| Error::Stopped)
    }

    fn bad(&mut self, bad: BadRecord) {
        self.bad.push(bad);
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

/// The file name of a download, the same in every run.
fn download_name(url: &str, sha256: Option<&str>) -> String {
    let key = match sha256 {
        Some(hash) => hash
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(32)
            .collect(),
        None => blake3::hash(url.as_bytes()).to_hex()[..32].to_owned(),
    };
    let name = url
        .split(['?', '#'])
        .next()
        .and_then(|path| path.rsplit('/').next())
        .unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    format!(
        "{key}-{}",
        name.chars().map(plain).take(100).collect::<String>()
    )
}
