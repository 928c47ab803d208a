//! A process of `examples/nat_peer.rs` in a namespace, and what it printed.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weal_testing::lab::Place;
use weal_testing::wait_for;

/// Lines, with the seconds from the start.
type Lines = Arc<Mutex<Vec<(f64, String)>>>;

pub(crate) struct Peer {
    index: u8,
    address: String,
    process: Child,
    input: Mutex<ChildStdin>,
    lines: Lines,
}

impl Peer {
    /// Starts a peer that knows these addresses.
    pub(crate) fn start(index: u8, place: &Place, known: &[String]) -> Self {
        let ip = match place.ip {
            IpAddr::V4(ip) => format!("/ip4/{ip}"),
            IpAddr::V6(ip) => format!("/ip6/{ip}"),
        };
        let mut process = place
            .command(&program())
            .args([&index.to_string(), &ip])
            .args(known)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, started) = (Lines::default(), Instant::now());
        let (kept, output) = (Arc::clone(&lines), process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let after = started.elapsed().as_secs_f64();
                kept.lock().unwrap().push((after, line));
            }
        });
        let peer = Self {
            index,
            address: format!("{ip}/udp/7700/quic-v1"),
            input: Mutex::new(process.stdin.take().unwrap()),
            process,
            lines,
        };
        peer.wait_for("key ", Duration::from_secs(60), || peer.log());
        peer
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Its public key.
    pub(crate) fn key(&self) -> String {
        let lines = self.lines();
        let (_, line) = lines
            .iter()
            .find(|(_, line)| line.starts_with("key "))
            .unwrap();
        line["key ".len()..].to_owned()
    }

    /// Lets it fetch the blob of a peer.
    pub(crate) fn fetch(&self, index: u8) {
        writeln!(self.input.lock().unwrap(), "{index}").unwrap();
    }

    /// Sends its process a signal, such as `-STOP`. (`ip netns exec` becomes the program.)
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn lines(&self) -> Vec<(f64, String)> {
        self.lines.lock().unwrap().clone()
    }

    /// When it first printed a line that begins like this, in seconds from its start.
    pub(crate) fn first(&self, beginning: &str) -> Option<f64> {
        let lines = self.lines();
        let mut matching = lines.iter().filter(|(_, line)| line.starts_with(beginning));
        matching.next().map(|(after, _)| *after)
    }

    pub(crate) fn wait_for(&self, line: &str, patience: Duration, state: impl Fn() -> String) {
        self.wait_for_any(&[line], patience, state);
    }

    pub(crate) fn wait_for_any(
        &self,
        lines: &[&str],
        patience: Duration,
        state: impl Fn() -> String,
    ) {
        let what = format!("peer {} prints one of {lines:?}", self.index);
        let printed = || lines.iter().any(|line| self.first(line).is_some());
        wait_for(&what, patience, printed, state);
    }

    pub(crate) fn log(&self) -> String {
        let lines = self.lines();
        let lines: Vec<_> = lines
            .iter()
            .map(|(after, line)| format!("{after:7.1} {line}\n"))
            .collect();
        format!("--- peer {}\n{}", self.index, lines.concat())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program, built beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let program = folder.join("examples/nat_peer");
    assert!(program.is_file(), "{} is not built", program.display());
    program
}
