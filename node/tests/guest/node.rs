//! A running node whose log goes nowhere.

#[cfg(target_os = "linux")]
use std::fs::{self, OpenOptions};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use weal_testing::wait_for;

use crate::output::closed_pipe;
use crate::program::{Place, free_port, weal};

/// A node, killed when the test ends.
pub(crate) struct Node {
    child: Child,
    page: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts the node of a place, with a low limit on open files.
    pub(crate) fn start(place: &Place, log: Stdio) -> Self {
        let page = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "ulimit -Sn 200; exec \"$@\"",
                "sh",
                env!("CARGO_BIN_EXE_weal"),
            ])
            .args(["--log", "debug", "run", "--dir", "node", "--device", "cpu"])
            .args(["--port", "0", "--no-mdns", "--page", &page])
            .current_dir(place.dir.path())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().unwrap();
        Self { child, page }
    }

    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    pub(crate) fn wait_until_it_runs(&mut self) {
        let page = self.page.clone();
        let status = ["status", "--dir", "/nowhere", "--page", &page];
        let answers = || {
            assert_eq!(self.child.try_wait().unwrap(), None, "the node ended");
            weal().args(status).output().unwrap().status.success()
        };
        wait_for(
            "a node that answers",
            Duration::from_secs(120),
            answers,
            String::new,
        );
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    fn stop(&mut self) -> Option<i32> {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

fn place() -> Place {
    let place = Place::new();
    place.run(&["new", "--dir", "node"]);
    place
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_goes_on_when_the_disk_under_its_log_is_full() {
    let place = place();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut node = Node::start(&place, full.into());
    node.wait_until_it_runs();
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_node_goes_on_when_the_reader_of_its_log_left() {
    let place = place();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut node = Node::start(&place, writer.into());
    node.wait_until_it_runs();
    let status = ["status", "--page", node.page()];
    let shown = weal().args(status).stdout(closed_pipe()).status().unwrap();
    assert_eq!(shown.code(), Some(141));
    assert_eq!(node.stop(), Some(0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_may_open_as_many_files_as_the_system_lets_it() {
    let place = place();
    let mut node = Node::start(&place, Stdio::null());
    node.wait_until_it_runs();
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.child.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let values: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(values[0], values[1], "{line}");
    assert_eq!(node.stop(), Some(0));
}
