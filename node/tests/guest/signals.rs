//! SIGTERM and Ctrl-C end a command at once, and leave nothing half written.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use weal_testing::require;
use weal_testing::wait_for;

use crate::program::{Place, names, weal};

/// On Linux, and on BSD and macOS.
const O_NONBLOCK: i32 = if cfg!(target_os = "linux") { 0o4000 } else { 4 };

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits until the child is up, sends it the signal, and returns its exit code.
fn end(mut child: Child, signal: Signal, until: impl FnMut() -> bool) -> Option<i32> {
    wait_for(
        "a command at work",
        Duration::from_secs(60),
        until,
        String::new,
    );
    assert_eq!(
        child.try_wait().unwrap(),
        None,
        "the command ended by itself"
    );
    send(&child, signal);
    let mut code = None;
    let ended = || {
        code = child.try_wait().unwrap();
        code.is_some()
    };
    // A disk that is busy with the work of others may hold up what is removed.
    wait_for(
        "the command's end",
        Duration::from_secs(60),
        ended,
        String::new,
    );
    code.unwrap().code()
}

/// A server that takes a request and never answers it.
struct Silent {
    listener: TcpListener,
    taken: Vec<std::net::TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let taken = Vec::new();
        Self { listener, taken }
    }

    fn url(&self) -> String {
        format!("http://{}/x.txt", self.listener.local_addr().unwrap())
    }

    fn was_asked(&mut self) -> bool {
        self.taken
            .extend(self.listener.accept().map(|(stream, _)| stream));
        !self.taken.is_empty()
    }
}

#[test]
fn a_transfer_that_waits_ends_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let place = Place::new();
        fs::create_dir(place.path("at")).unwrap();
        let mut server = Silent::new();
        let mut command = weal();
        command
            .args(["data", "prepare", &server.url(), "--out", "t"])
            .current_dir(place.path("at"))
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        assert_eq!(end(child, signal, || server.was_asked()), Some(code));
        assert_eq!(names(&place.path("at")), [""; 0], "{signal:?}");
    }
}

#[test]
fn a_corpus_that_is_being_tokenised_leaves_nothing_behind() {
    let place = Place::new();
    fs::create_dir(place.path("at")).unwrap();
    // The text comes from a pipe that is never closed.
    let fifo = place.path("text.jsonl");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let child = place
        .weal(&["data", "prepare", fifo.to_str().unwrap(), "--out", "at/t"])
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    // A program that refuses pipes by name leaves nothing either.
    let mut writer = None;
    let started = || {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        // Opening it for writing without waiting works once somebody reads.
        let open = OpenOptions::new()
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(&fifo);
        writer = open.ok();
        writer.is_some()
    };
    wait_for(
        "a reader of the pipe",
        Duration::from_secs(60),
        started,
        String::new,
    );
    if let Some(mut pipe) = writer {
        pipe.write_all(b"{\"text\":\"one record\"}\n").unwrap();
        let inside = || {
            names(&place.path("at"))
                .iter()
                .any(|name| name.starts_with(".weal-"))
        };
        assert_eq!(end(child, Signal::TERM, inside), Some(143));
    }
    assert_eq!(names(&place.path("at")), [""; 0]);
}

#[test]
fn a_newcomer_that_waits_for_peers_ends_at_once() {
    let place = Place::new();
    let child = place
        .join_nobody("600")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let locked = || place.path("node/key").exists();
    assert_eq!(end(child, Signal::TERM, locked), Some(143));
}

#[test]
fn text_that_waits_for_its_start_ends_at_once() {
    let place = Place::new();
    place.started_node();
    let mut child = place
        .weal(&["generate", "--dir", "node"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It names the model, and then reads its standard input, which stays open.
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert!(line.contains("round 0"), "{line}");
    assert_eq!(end(child, Signal::INT, || true), Some(130));
}

#[test]
#[cfg(target_os = "linux")]
fn process_1_of_a_container_ends_at_once() {
    let unshare = ["-rpf", "--mount-proc"];
    let works = Command::new("unshare").args(unshare).arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        return require::skip("process_1", "no namespaces for users and processes");
    }
    let place = Place::new();
    let mut server = Silent::new();
    let mut child = Command::new("unshare")
        .args(unshare)
        .arg(env!("CARGO_BIN_EXE_weal"))
        .args(["data", "prepare", &server.url(), "--out", "t"])
        .current_dir(place.dir.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(
        "a request",
        Duration::from_secs(60),
        || server.was_asked(),
        String::new,
    );
    let id = child.id();
    let inside = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let inside = Pid::from_raw(inside.trim().parse().unwrap()).unwrap();
    kill_process(inside, Signal::TERM).unwrap();
    let ended = || child.try_wait().unwrap().is_some();
    wait_for(
        "the end of process 1",
        Duration::from_secs(10),
        ended,
        String::new,
    );
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
