//! Files from elsewhere, over HTTP: a transfer that breaks off goes on where it stopped, in this
//! run or a later one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::error::{Error, Result};

/// Where Hugging Face answers, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// A connection that gives nothing for so long is given up, and made anew.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// An attempt that brought so many bytes was no failure.
const PROGRESS_BYTES: u64 = 256 << 10;

/// What files are fetched with.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    /// Where Hugging Face, or a mirror of it, answers.
    pub endpoint: String,
    /// What opens data sets that are not for everyone; it is shown to the endpoint alone.
    pub token: Option<String>,
    /// Attempts in a row that may bring nothing before a file is given up.
    pub attempts: u32,
    /// Pause after the first attempt that failed; it doubles with each.
    pub pause: Duration,
}

impl Default for Client {
    fn default() -> Self {
        let agent = Agent::config_builder()
            .user_agent(concat!("weal/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build()
            .new_agent();
        Self {
            agent,
            endpoint: ENDPOINT.to_owned(),
            token: None,
            attempts: 8,
            pause: Duration::from_secs(1),
        }
    }
}

/// Told bytes that are here, and bytes in all where they are known; may stop the transfer.
pub(super) type Told<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> ControlFlow<()>;

impl Client {
    /// As the environment says: `HF_ENDPOINT` and `HF_TOKEN`, as Hugging Face's own tools read
    /// them.
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN"),
            ..Self::default()
        }
    }

    /// A page of JSON, and the address of the next one.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
    ) -> Result<(T, Option<String>)> {
        let mut failures = Failures::new(self);
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
                        Err(error) => failures.pause(url, &error.to_string(), None)?,
                    }
                }
                Ok(response) => failures.refused(url, &response)?,
                Err(reason) => failures.pause(url, &reason, None)?,
            }
        }
    }

    /// Fetches a file to `path`, which appears only when all of it is here. What is there already
    /// is not fetched again, unless it is not what `sha256` says. Until then it lies beside it, as
    /// `.part`.
    pub(super) fn download(
        &self,
        url: &str,
        sha256: Option<&str>,
        path: &Path,
        told: Told,
    ) -> Result<()> {
        if path.exists() && sha256.is_none_or(|hash| sha256_of(path).is_ok_and(|own| own == hash)) {
            return Ok(());
        }
        let part = Part::new(path);
        let mut failures = Failures::new(self);
        loop {
            let before = part.length();
            match self.attempt(url, &part, told)? {
                Attempt::Whole => break,
                Attempt::Broken(reason) if part.length() >= before + PROGRESS_BYTES => {
                    tracing::debug!(url, reason, "a transfer broke off and goes on");
                    failures = Failures::new(self);
                }
                Attempt::Broken(reason) => failures.pause(url, &reason, None)?,
                Attempt::Refused(response) => failures.refused(url, &response)?,
            }
        }
        if let Some(hash) = sha256
            && sha256_of(&part.file).map_err(failed(&part.file))? != hash
        {
            part.remove();
            return Err(wrong(
                url,
                format!("it has not the SHA-256 {hash} that its data set lists; try again"),
            ));
        }
        fs::rename(&part.file, path).map_err(failed(path))?;
        part.remove();
        Ok(())
    }

    /// One transfer of what is still missing.
    fn attempt(&self, url: &str, part: &Part, told: Told) -> Result<Attempt> {
        // Without a mark of the file's version, the rest might be of another file.
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
            Err(reason) => return Ok(Attempt::Broken(reason)),
        };
        let (start, total) = match response.status().as_u16() {
            200 => (0, number(response.headers(), "content-length")),
            206 => match content_range(response.headers()) {
                Some((start, total)) if start == have => (start, total),
                _ => {
                    part.remove();
                    return Ok(Attempt::Broken(
                        "the server sent another part than it was asked for".to_owned(),
                    ));
                }
            },
            // The part is as long as the file, or longer: only the first is good.
            416 if have > 0 => {
                let total = header(response.headers(), "content-range")
                    .and_then(|range| range.strip_prefix("bytes */"));
                if total.and_then(|total| total.parse().ok()) == Some(have) {
                    return Ok(Attempt::Whole);
                }
                part.remove();
                return Ok(Attempt::Broken("the file has changed".to_owned()));
            }
            _ => return Ok(Attempt::Refused(Box::new(response))),
        };
        part.set_tag(strong_tag(response.headers()))?;
        let mut file = part.open(start)?;
        receive(response, &mut file, part, start, total, told)
    }

    fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response<Body>, String> {
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
        request.call().map_err(|error| error.to_string())
    }
}

enum Attempt {
    /// All of it is here.
    Whole,
    /// It broke off.
    Broken(String),
    /// The server does not give it, or not now.
    Refused(Box<Response<Body>>),
}

fn receive(
    response: Response<Body>,
    file: &mut File,
    part: &Part,
    start: u64,
    total: Option<u64>,
    told: Told,
) -> Result<Attempt> {
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 256 << 10];
    let mut length = start;
    let broken = loop {
        if told(length, total).is_break() {
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
            Attempt::Broken(format!("{length} of {total} bytes came"))
        }
        (None, _) => Attempt::Whole,
        (Some(reason), _) => Attempt::Broken(reason),
    })
}

/// A file that is not whole yet, and what marks the version that it is a part of.
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

    /// Opens it with what is there up to `length`.
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

/// Attempts in a row that failed.
struct Failures<'a> {
    client: &'a Client,
    count: u32,
}

impl<'a> Failures<'a> {
    fn new(client: &'a Client) -> Self {
        Self { client, count: 0 }
    }

    /// Waits before the next attempt, or gives up.
    fn pause(&mut self, url: &str, reason: &str, wanted: Option<Duration>) -> Result<()> {
        self.count += 1;
        if self.count >= self.client.attempts {
            return Err(wrong(
                url,
                format!(
                    "{reason} ({} attempts); try again, it goes on from there",
                    self.count
                ),
            ));
        }
        let pause = wanted.unwrap_or(self.client.pause * (1 << (self.count - 1).min(10)));
        tracing::warn!(url, reason, "a transfer failed and is tried again");
        std::thread::sleep(pause.min(LONGEST_PAUSE));
        Ok(())
    }

    /// Waits where the server is only busy; else says what mends it.
    fn refused(&mut self, url: &str, response: &Response<Body>) -> Result<()> {
        let status = response.status();
        let reason = match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                let wanted = number(response.headers(), "retry-after").map(Duration::from_secs);
                return self.pause(url, &format!("the server answered {status}"), wanted);
            }
            401 | 403 => "it is not for everyone: set HF_TOKEN to a token that may read it",
            404 | 410 => "it is not there: check the address, the revision and the path",
            _ => "the server does not give it",
        };
        Err(wrong(url, format!("{reason} (it answered {status})")))
    }
}

fn wrong(url: &str, reason: String) -> Error {
    Error::Prepare {
        place: url.to_owned(),
        reason,
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Prepare {
        place: path.display().to_string(),
        reason: error.to_string(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header(headers, name)?.trim().parse().ok()
}

/// First byte and length of the whole, from `bytes first-last/length`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = header(headers, "content-range")?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// What marks a version of a file byte for byte: a weak tag does not.
fn strong_tag(headers: &HeaderMap) -> Option<&str> {
    let tag = header(headers, "etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| header(headers, "last-modified"))
}

/// The address in `<address>; rel="next"`.
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
