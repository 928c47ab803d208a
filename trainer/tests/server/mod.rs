//! A small HTTP server on loopback with injected faults.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What goes wrong with one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection closes after this many bytes.
    BreakAfter(usize),
    /// The file changes to another version.
    Changed,
    /// The server ignores ranges from now on. Takes up no response.
    NoRanges,
    /// 503, once.
    Busy,
    /// 503, for a minute.
    BusyForLong,
    /// 404
    Missing,
    /// 403
    Forbidden,
}

/// A received request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub path: String,
    /// The first byte requested.
    pub range: Option<usize>,
    pub if_range: Option<String>,
    pub authorisation: Option<String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    links: HashMap<String, String>,
    trouble: VecDeque<Trouble>,
    version: u32,
    no_ranges: bool,
    requests: Vec<Request>,
}

/// Serves files for as long as the test runs.
pub(crate) struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start(files: &[(&str, &[u8])], trouble: &[Trouble]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let files = files
            .iter()
            .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
            .collect();
        let state = State {
            files,
            trouble: trouble.iter().copied().collect(),
            ..State::default()
        };
        let server = Self {
            address,
            state: Arc::new(Mutex::new(state)),
        };
        let state = server.state.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || answer(connection, &state));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Links the page at `path` to the next one.
    pub(crate) fn link(&self, path: &str, next: &str) {
        self.state
            .lock()
            .unwrap()
            .links
            .insert(path.to_owned(), next.to_owned());
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn answer(mut connection: TcpStream, state: &Mutex<State>) {
    let Some(request) = read(&connection) else {
        return;
    };
    let reply = state.lock().unwrap().reply(request);
    let _ = connection.write_all(&reply);
}

fn read(connection: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(connection).lines();
    let mut request = Request {
        path: lines.next()?.ok()?.split(' ').nth(1)?.to_owned(),
        ..Request::default()
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.range = value
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            }
            "if-range" => request.if_range = Some(value.to_owned()),
            "authorization" => request.authorisation = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

impl State {
    fn reply(&mut self, request: Request) -> Vec<u8> {
        let mut trouble = self.trouble.pop_front();
        if trouble == Some(Trouble::NoRanges) {
            self.no_ranges = true;
            trouble = self.trouble.pop_front();
        }
        self.requests.push(request.clone());
        let status = |status: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes()
        };
        match trouble {
            Some(Trouble::Busy) => return status("503 Service Unavailable\r\nRetry-After: 0"),
            Some(Trouble::BusyForLong) => {
                return status("503 Service Unavailable\r\nRetry-After: 60");
            }
            Some(Trouble::Missing) => return status("404 Not Found"),
            Some(Trouble::Forbidden) => return status("403 Forbidden"),
            Some(Trouble::Changed) => self.version += 1,
            _ => {}
        }
        let plain = request.path.split("?download").next().unwrap();
        let Some(file) = self.files.get(plain) else {
            return status("404 Not Found");
        };
        let tag = format!("\"{}\"", self.version);
        let same = request
            .if_range
            .as_ref()
            .is_none_or(|wanted| *wanted == tag);
        let part = request
            .range
            .filter(|start| same && !self.no_ranges && *start < file.len());
        let (first, rest) = match part {
            Some(start) => {
                let range = format!(
                    "206 Partial Content\r\nContent-Range: bytes {start}-{}/{}",
                    file.len() - 1,
                    file.len()
                );
                (range, &file[start..])
            }
            None => ("200 OK".to_owned(), file.as_slice()),
        };
        let link = self
            .links
            .get(&request.path)
            .map(|next| format!("Link: <{next}>; rel=\"next\"\r\n"));
        let head = format!(
            "HTTP/1.1 {first}\r\nContent-Length: {}\r\nETag: {tag}\r\n{}Connection: close\r\n\r\n",
            rest.len(),
            link.unwrap_or_default()
        );
        let length = match trouble {
            Some(Trouble::BreakAfter(bytes)) => bytes.min(rest.len()),
            _ => rest.len(),
        };
        [head.as_bytes(), &rest[..length]].concat()
    }
}
