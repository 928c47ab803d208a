//! Downloads over HTTP. An interrupted transfer resumes where it stopped, in this run or a later
//! one.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::retry::{Failures, NoAnswer, Patience, header, number, wrong};
use super::roots;
use crate::error::{Error, Result};

/// Hugging Face's address, unless `HF_ENDPOINT` is set.
const ENDPOINT: &str = "https://huggingface.co";
/// A connection without data for this long times out; the download retries.
const TIMEOUT: Duration = Duration::from_secs(60);
/// An attempt that received at least this many bytes resets the count of failures.
const PROGRESS_BYTES: u64 = 256 << 10;

/// Downloads data files.
#[derive(Clone, Debug)]
pub struct DownloadClient {
    agent: Agent,
    /// The address of Hugging Face or of a mirror.
    pub endpoint: String,
    /// Access token for gated data sets. It is sent to the endpoint only.
    pub token: Option<String>,
    /// Attempts in a row that may fail before the download of a file fails.
    pub attempts: u32,
    /// Pause after the first failed attempt; doubles with each further one.
    pub pause: Duration,
    /// Ends every wait and transfer once it is true.
    pub stop: Arc<AtomicBool>,
    /// Servers that have answered. Their names and ports are right.
    answered: Arc<Mutex<HashSet<String>>>,
}

impl Default for DownloadClient {
    fn default() -> Self {
        Self::with_tls(TlsConfig::default())
    }
}

/// Gets bytes received, and bytes in total if known; may stop the transfer.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> ControlFlow<()>;

impl DownloadClient {
    pub(super) fn with_tls(tls: TlsConfig) -> Self {
        let agent = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("weal/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .build()
            .new_agent();
        Self {
            agent,
            endpoint: ENDPOINT.to_owned(),
            token: None,
            attempts: 8,
            pause: Duration::from_secs(1),
            stop: Arc::default(),
            answered: Arc::default(),
        }
    }

    /// A client with `HF_ENDPOINT` and `HF_TOKEN` from the environment, as Hugging Face's own tools
    /// use them, that trusts the certificates in `SSL_CERT_FILE` and `SSL_CERT_DIR` or the
    /// system's.
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN"),
            ..Self::with_tls(roots::tls())
        }
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            attempts: self.attempts,
            pause: self.pause,
            stop: &self.stop,
        }
    }

    /// Downloads a page of JSON. Also returns the URL of the next page.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
    ) -> Result<(T, Option<String>)> {
        let mut failures = Failures::new(self.patience(), url);
        let mut stopped = || false;
        loop {
            match self.get(url, &[]) {
                Ok(mut response) if response.status() == 200 => {
                    let next = response
                        .headers()
                        .get("link")
                        .and_then(|link| link.to_str().ok())
                        .and_then(next_page);
                    match response.body_mut().read_json() {
                        Ok(value) => return Ok((value, next)),
                        Err(ureq::Error::Json(error)) if error.is_syntax() || error.is_data() => {
                            let hint =
                                "check the address in HF_ENDPOINT, and that no proxy answers";
                            let reason = format!("the answer is not a listing: {error}");
                            return Err(wrong(url, reason, Some(hint)));
                        }
                        Err(error) => failures.pause(&error.to_string(), None, &mut stopped)?,
                    }
                }
                Ok(response) => failures.refused(&response, &mut stopped)?,
                Err(no) => failures.no_answer(&no, &mut stopped)?,
            }
        }
    }

    /// Downloads a file to `path`, which appears once the download is complete; until then the data
    /// is in `<path>.part`. Keeps an existing file, unless its hash is not `sha256`.
    pub(super) fn download(
        &self,
        url: &str,
        sha256: Option<&str>,
        path: &Path,
        progress: Progress,
    ) -> Result<()> {
        if path.exists()
            && sha256.is_none_or(|hash| sha256_of(path).is_ok_and(|found| found == hash))
        {
            return Ok(());
        }
        let progress: Progress<'_> = &mut |bytes, total| match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => progress(bytes, total),
        };
        let part = Part::new(path);
        let mut failures = Failures::new(self.patience(), url);
        loop {
            let before = part.length();
            match self.attempt(url, &part, progress)? {
                Attempt::Complete => break,
                Attempt::Interrupted(reason) if part.length() >= before + PROGRESS_BYTES => {
                    tracing::debug!(url, reason, "a transfer was interrupted and resumes");
                    failures.forget();
                }
                Attempt::Interrupted(reason) => {
                    failures.pause(&reason, None, &mut || progress(before, None).is_break())?;
                }
                Attempt::Refused(response) => {
                    failures.refused(&response, &mut || progress(before, None).is_break())?;
                }
                Attempt::NoAnswer(no) => {
                    failures.no_answer(&no, &mut || progress(before, None).is_break())?;
                }
            }
        }
        if let Some(hash) = sha256
            && sha256_of(&part.file).map_err(failed(&part.file))? != hash
        {
            part.remove();
            return Err(wrong(
                url,
                format!("its SHA-256 is not the {hash} that its data set lists"),
                Some("try again"),
            ));
        }
        fs::rename(&part.file, path).map_err(failed(path))?;
        part.remove();
        Ok(())
    }

    /// Transfers what is still missing.
    fn attempt(&self, url: &str, part: &Part, progress: Progress) -> Result<Attempt> {
        // Without a version tag the rest might belong to another version of the file.
        let tag = part.tag();
        let have = if tag.is_some() { part.length() } else { 0 };
        let range = (format!("bytes={have}-"), tag.unwrap_or_default());
        let asked: &[(&str, &str)] = if have > 0 {
            &[("range", &range.0), ("if-range", &range.1)]
        } else {
            &[]
        };
        let response = match self.get(url, asked) {
            Ok(response) => response,
            Err(no) => return Ok(Attempt::NoAnswer(no)),
        };
        let (start, total) = match response.status().as_u16() {
            200 => (0, number(response.headers(), "content-length")),
            206 => match content_range(response.headers()) {
                Some((start, total)) if start == have => (start, total),
                _ => {
                    part.remove();
                    return Ok(Attempt::Interrupted(
                        "the server sent another range than requested".to_owned(),
                    ));
                }
            },
            // The part is as long as the file, which completes it, or longer.
            416 if have > 0 => {
                let total = header(response.headers(), "content-range")
                    .and_then(|range| range.strip_prefix("bytes */"));
                if total.and_then(|total| total.parse().ok()) == Some(have) {
                    return Ok(Attempt::Complete);
                }
                part.remove();
                return Ok(Attempt::Interrupted("the file has changed".to_owned()));
            }
            _ => return Ok(Attempt::Refused(Box::new(response))),
        };
        part.set_tag(strong_tag(response.headers()))?;
        let mut file = part.open(start)?;
        receive(response, &mut file, part, start, total, progress)
    }

    fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response<Body>, NoAnswer> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|_| url.starts_with(&format!("{}/", self.endpoint)))
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let server = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let answered = || self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answered().contains(&server);
        let response = request
            .call()
            .map_err(|error| NoAnswer::of(&error, known))?;
        answered().insert(server);
        Ok(response)
    }
}

enum Attempt {
    /// The file is complete.
    Complete,
    /// The transfer was interrupted.
    Interrupted(String),
    /// There was no answer.
    NoAnswer(NoAnswer),
    /// The server refused, perhaps only for now.
    Refused(Box<Response<Body>>),
}

fn receive(
    response: Response<Body>,
    file: &mut File,
    part: &Part,
    start: u64,
    total: Option<u64>,
    progress: Progress,
) -> Result<Attempt> {
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 256 << 10];
    let mut length = start;
    let broken = loop {
        if progress(length, total).is_break() {
            return Err(Error::Stopped);
        }
        match body.read(&mut buffer) {
            Ok(0) => break None,
            Ok(bytes) => {
                file.write_all(&buffer[..bytes])
                    .map_err(failed(&part.file))?;
                length += bytes as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    Ok(match (broken, total) {
        (None, Some(total)) if length != total => {
            Attempt::Interrupted(format!("the server sent {length} of {total} bytes"))
        }
        (None, _) => Attempt::Complete,
        (Some(reason), _) => Attempt::Interrupted(reason),
    })
}

/// An incomplete file, and the tag of the version it belongs to.
struct Part {
    file: PathBuf,
    tag: PathBuf,
}

impl Part {
    fn new(path: &Path) -> Self {
        let beside = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            file: beside(".part"),
            tag: beside(".tag"),
        }
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }

    fn tag(&self) -> Option<String> {
        fs::read_to_string(&self.tag)
            .ok()
            .filter(|tag| !tag.is_empty())
    }

    fn set_tag(&self, tag: Option<&str>) -> Result<()> {
        fs::write(&self.tag, tag.unwrap_or_default()).map_err(failed(&self.tag))
    }

    /// Opens the file, truncated to `length`.
    fn open(&self, length: u64) -> Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file)
            .map_err(failed(&self.file))?;
        file.set_len(length).map_err(failed(&self.file))?;
        Ok(file)
    }

    fn remove(&self) {
        for file in [&self.file, &self.tag] {
            let _ = fs::remove_file(file);
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::write(path, error)
}

/// The first byte and the total length in `bytes first-last/length`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = header(headers, "content-range")?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// A tag that identifies a version byte for byte. Weak tags do not.
fn strong_tag(headers: &HeaderMap) -> Option<&str> {
    let tag = header(headers, "etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| header(headers, "last-modified"))
}

/// The URL in `<url>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}
