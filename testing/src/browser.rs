//! A headless Chromium, driven over the DevTools protocol: what does the page show, and does the
//! console report errors?
//!
//! ```no_run
//! # use weal_testing::browser::{Visit, visit};
//! let page = Visit::new("http://127.0.0.1:8080", "page.png");
//! let seen = visit(&Visit { loss_points: 3, peers: 4, ..page });
//! match seen {
//!     Ok(seen) => assert!(seen.console_errors.is_empty(), "{seen:?}"),
//!     Err(error) if error.may_skip() => eprintln!("skipped: {error}"),
//!     Err(error) => panic!("{error}"),
//! }
//! ```
//!
//! The protocol runs over two pipes (`--remote-debugging-pipe`), so it needs no port and no
//! WebSocket, and no other process can connect. Messages are JSON, each terminated by a zero byte.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::poll::POLL;
use crate::require::all_required;

/// Program names that distributions use; `WEAL_CHROMIUM` takes precedence.
const NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// Timeout of one command; the first one includes Chromium's start.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Protocol messages that are buffered before Chromium has to wait.
const MESSAGES_WAITING: usize = 1024;

/// Passes the protocol's pipes to Chromium as file descriptors 3 and 4, which it expects.
const PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const FLAGS: [&str; 13] = [
    "--headless",
    "--remote-debugging-pipe",
    // The sandbox cannot start for root in a container, and the tests open only our own page.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-proxy-server",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Why the browser gave no answer.
#[derive(Debug)]
pub enum BrowserError {
    /// No Chromium on this machine.
    Missing,
    /// It is installed, but cannot be started, or the connection to it broke.
    Io(io::Error),
    /// It exited.
    Gone,
    /// It refused a command.
    Refused {
        /// The DevTools method, or the JavaScript expression.
        method: String,
        /// The error that Chromium returned.
        answer: Value,
    },
    /// A condition did not hold in time.
    TimedOut {
        /// The condition.
        what: String,
        /// The last value seen instead.
        last: Value,
    },
}

impl BrowserError {
    /// Whether the test may be skipped: Chromium is missing, and `WEAL_REQUIRE_ALL=1` is not set.
    pub fn may_skip(&self) -> bool {
        matches!(self, Self::Missing) && !all_required()
    }
}

impl fmt::Display for BrowserError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(
                out,
                "Chromium is not installed (looked for {}): install it, or set WEAL_CHROMIUM",
                NAMES.join(", ")
            ),
            Self::Io(error) => write!(out, "cannot start Chromium or talk to it: {error}"),
            Self::Gone => write!(
                out,
                "Chromium exited early; run it by hand with {} to see why",
                FLAGS.join(" ")
            ),
            Self::Refused { method, answer } => write!(out, "Chromium refused {method}: {answer}"),
            Self::TimedOut { what, last } => write!(
                out,
                "timed out waiting for {what}; the last value was {last}"
            ),
        }
    }
}

impl std::error::Error for BrowserError {}

impl From<io::Error> for BrowserError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A page to open, and the conditions to wait for.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The dashboard's address.
    pub url: String,
    /// Where to write the screenshot (PNG).
    pub screenshot: PathBuf,
    /// Wait until the loss curve has at least this many points.
    pub loss_points: u64,
    /// Wait until the page lists at least this many peers.
    pub peers: u64,
    /// Give up after this long.
    pub patience: Duration,
    /// The window's size and theme.
    pub window: Window,
}

/// A window's size and theme.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Width in CSS pixels.
    pub width: u32,
    /// Height in CSS pixels; screenshots show the whole page, however long.
    pub height: u32,
    /// Whether the page sees `prefers-color-scheme: dark`.
    pub dark: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            width: 1360,
            height: 900,
            dark: false,
        }
    }
}

impl Visit {
    /// Opens `url` in a light desktop window and waits up to 30 s for one peer and one point.
    pub fn new(url: impl Into<String>, screenshot: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            screenshot: screenshot.into(),
            loss_points: 1,
            peers: 1,
            patience: Duration::from_secs(30),
            window: Window::default(),
        }
    }
}

/// What the page showed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Points drawn on the held-out loss curve.
    pub loss_points: u64,
    /// Peers listed.
    pub peers: u64,
    /// The node's state: `training`, `waiting`, ….
    pub state: String,
    /// The sentence at the top.
    pub sentence: String,
    /// State roots listed, newest first, hex.
    pub roots: Vec<String>,
    /// Errors in the console: exceptions, failed requests, and violations of the content security
    /// policy.
    pub console_errors: Vec<String>,
    /// The screenshot.
    pub screenshot: PathBuf,
}

/// Opens the page, waits for the conditions, takes a screenshot, and returns what the page showed.
///
/// # Errors
/// [`BrowserError::Missing`] without Chromium; [`BrowserError::TimedOut`] with what the page showed
/// instead.
pub fn visit(visit: &Visit) -> Result<Seen, BrowserError> {
    let browser = Browser::start()?;
    let mut tab = browser.open(&visit.url, visit.window)?;
    let ready = format!(
        "(() => {{ const seen = document.querySelector('main')?.dataset; \
         return seen && Number(seen.lossPoints) >= {} && Number(seen.peers) >= {}; }})()",
        visit.loss_points, visit.peers
    );
    if let Err(error) = tab.wait_for(&ready, visit.patience) {
        let last =
            tab.evaluate("({...document.querySelector('main')?.dataset, url: location.href})")?;
        let errors = tab.console_errors()?;
        return Err(match error {
            BrowserError::TimedOut { what, .. } => BrowserError::TimedOut {
                what,
                last: json!({ "page": last, "errors": errors }),
            },
            other => other,
        });
    }
    tab.screenshot(&visit.screenshot)?;
    let shown = tab.evaluate(
        "({...document.querySelector('main').dataset, \
           sentence: document.getElementById('sentence').textContent, \
           roots: [...document.querySelectorAll('button.root')] \
             .map((button) => button.dataset.root)})",
    )?;
    let number = |name: &str| {
        shown[name]
            .as_str()
            .and_then(|figure| figure.parse().ok())
            .unwrap_or(0)
    };
    let words = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
    Ok(Seen {
        loss_points: number("lossPoints"),
        peers: number("peers"),
        state: words("state"),
        sentence: words("sentence"),
        roots: shown["roots"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        console_errors: tab.console_errors()?,
        screenshot: visit.screenshot.clone(),
    })
}

/// A running Chromium with an empty profile; killed when dropped.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    /// Deletes the profile when dropped.
    _profile: TempDir,
}

impl Browser {
    /// Starts Chromium.
    ///
    /// # Errors
    /// [`BrowserError::Missing`] if it is not installed.
    pub fn start() -> Result<Self, BrowserError> {
        let program = find().ok_or(BrowserError::Missing)?;
        let profile = tempfile::tempdir()?;
        let mut process = Command::new("sh")
            .args(["-c", PIPES])
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(commands), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(BrowserError::Gone);
        };
        let (sender, messages) = sync_channel(MESSAGES_WAITING);
        std::thread::spawn(move || read_messages(BufReader::new(answers), &sender));
        Ok(Self {
            process,
            commands,
            messages,
            _profile: profile,
        })
    }

    /// Opens `url` in a new window.
    ///
    /// # Errors
    /// Any [`BrowserError`] but [`BrowserError::Missing`].
    pub fn open(self, url: &str, window: Window) -> Result<Tab, BrowserError> {
        let mut tab = Tab {
            browser: self,
            session: None,
            sent: 0,
            errors: Vec::new(),
        };
        let target = tab.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = tab.call("Target.attachToTarget", attach)?;
        tab.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, json!({}))?;
        }
        tab.resize(window)?;
        let answer = tab.call("Page.navigate", json!({ "url": url }))?;
        if answer.get("errorText").is_some() {
            return Err(BrowserError::Refused {
                method: format!("Page.navigate to {url}"),
                answer,
            });
        }
        Ok(tab)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have exited already, and the profile is temporary: a failure does no harm.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One page in a browser.
#[derive(Debug)]
pub struct Tab {
    browser: Browser,
    session: Option<String>,
    sent: u64,
    errors: Vec<String>,
}

impl Tab {
    /// Changes the window's size and theme.
    ///
    /// # Errors
    /// Any [`BrowserError`] but [`BrowserError::Missing`].
    pub fn resize(&mut self, window: Window) -> Result<(), BrowserError> {
        let size = json!({
            "width": window.width,
            "height": window.height,
            "deviceScaleFactor": 1,
            "mobile": window.width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = if window.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media)?;
        Ok(())
    }

    /// Evaluates a JavaScript expression, awaiting promises. It counts as a user gesture, so it may
    /// use the clipboard.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, BrowserError> {
        let what = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let answer = self.call("Runtime.evaluate", what)?;
        if answer.get("exceptionDetails").is_some() {
            return Err(BrowserError::Refused {
                method: expression.to_owned(),
                answer,
            });
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until a JavaScript expression is `true`. One that throws is evaluated again, since the
    /// page may still be loading.
    ///
    /// # Errors
    /// [`BrowserError::TimedOut`] with its last value.
    pub fn wait_for(&mut self, expression: &str, patience: Duration) -> Result<(), BrowserError> {
        let deadline = Instant::now() + patience;
        loop {
            let value = match self.evaluate(expression) {
                Err(BrowserError::Refused { answer, .. }) => answer,
                other => other?,
            };
            if value == Value::Bool(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(BrowserError::TimedOut {
                    what: expression.to_owned(),
                    last: value,
                });
            }
            self.listen(POLL)?;
        }
    }

    /// Writes a screenshot (PNG) of the whole page.
    ///
    /// # Errors
    /// Any [`BrowserError`] but [`BrowserError::Missing`].
    pub fn screenshot(&mut self, path: &Path) -> Result<(), BrowserError> {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", whole)?;
        let bytes = answer["data"].as_str().and_then(decode_base64);
        let bytes = bytes.ok_or(BrowserError::Refused {
            method: "Page.captureScreenshot".into(),
            answer,
        })?;
        fs::write(path, bytes)?;
        Ok(())
    }

    /// Returns the errors in the console so far.
    ///
    /// # Errors
    /// [`BrowserError::Gone`] if Chromium exited.
    pub fn console_errors(&mut self) -> Result<Vec<String>, BrowserError> {
        self.listen(Duration::ZERO)?;
        Ok(self.errors.clone())
    }

    /// Sends a command of the DevTools protocol, and waits for its answer.
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, BrowserError> {
        self.sent += 1;
        let mut command = json!({ "id": self.sent, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.browser.commands.write_all(&bytes)?;
        self.browser.commands.flush()?;

        let deadline = Instant::now() + COMMAND_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message = match self.browser.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => return Err(BrowserError::Gone),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(BrowserError::TimedOut {
                        what: method.to_owned(),
                        last: Value::Null,
                    });
                }
            };
            if message["id"] != self.sent {
                self.note(&message);
            } else if message.get("error").is_some() {
                return Err(BrowserError::Refused {
                    method: method.to_owned(),
                    answer: message["error"].take(),
                });
            } else {
                return Ok(message["result"].take());
            }
        }
    }

    /// Collects events from the page for `time`.
    fn listen(&mut self, time: Duration) -> Result<(), BrowserError> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.browser.messages.recv_timeout(left) {
                Ok(message) => self.note(&message),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(BrowserError::Gone),
            }
        }
    }

    /// Keeps an event that reports an error.
    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let error = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                let details = &parameters["exceptionDetails"];
                Some(format!(
                    "{} {}",
                    details["text"], details["exception"]["description"]
                ))
            }
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                Some(parameters["args"].to_string())
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                let entry = &parameters["entry"];
                Some(format!("{} ({})", entry["text"], entry["url"]))
            }
            _ => None,
        };
        self.errors.extend(error);
    }
}

/// Finds Chromium: `WEAL_CHROMIUM`, or the first of [`NAMES`] on the `PATH`.
fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("WEAL_CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    NAMES.iter().find_map(|name| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    })
}

/// Forwards messages until the pipe closes or the receiver is dropped.
fn read_messages(mut answers: impl BufRead, sender: &SyncSender<Value>) {
    let mut bytes = Vec::new();
    while answers.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
        bytes.pop();
        let Ok(message) = serde_json::from_slice(&bytes) else {
            return;
        };
        if sender.send(message).is_err() {
            return;
        }
        bytes.clear();
    }
}

/// Decodes base64 with padding; `None` if the text is not base64.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut buffer = 0_u32;
    let mut bits = 0;
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_is_decoded() {
        assert_eq!(decode_base64("").unwrap(), b"");
        assert_eq!(decode_base64("aA==").unwrap(), b"h");
        assert_eq!(decode_base64("aGk=").unwrap(), b"hi");
        assert_eq!(decode_base64("aGkh/+8=").unwrap(), b"hi!\xff\xef");
        assert!(decode_base64("a-b").is_none());
    }

    #[test]
    fn messages_are_split_at_zero_bytes() {
        let (sender, messages) = sync_channel(4);
        read_messages(&b"{\"id\":1}\0{\"id\":2}\0"[..], &sender);
        drop(sender);
        assert_eq!(
            messages
                .iter()
                .map(|message| message["id"].clone())
                .collect::<Vec<_>>(),
            [json!(1), json!(2)]
        );
    }
}
