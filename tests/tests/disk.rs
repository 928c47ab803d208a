//! A full disk: at the start the node says so and exits with a code of its own; later it pauses. It
//! loses nothing, and continues once there is space.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;
use weal::status_client;
use weal_dashboard::{NodeState, Snapshot};
use weal_testing::require::skip;
use weal_tests::net::{StartedNode, program};

/// A file system of this size in memory. It is unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Result<Self, String> {
        let dir = TempDir::new().map_err(|error| error.to_string())?;
        mount(
            &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"],
            dir.path(),
        )?;
        Ok(Self(dir))
    }

    fn grow(&self, size: &str) -> Result<(), String> {
        mount(&["-o", &format!("remount,size={size}")], self.0.path())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it cannot be unmounted, it lasts until the machine stops.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

fn mount(args: &[&str], at: &Path) -> Result<(), String> {
    let output = Command::new("mount")
        .args(args)
        .arg(at)
        .output()
        .map_err(|error| format!("mount: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn weal(args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .output()
        .expect("a program that starts")
}

#[test]
fn a_full_disk_at_the_start_ends_the_node_with_a_clear_error_and_loses_nothing() {
    // Less than the first weights take.
    let disk = match SmallDisk::new("2m") {
        Ok(disk) => disk,
        Err(why) => {
            return skip(
                "a full disk",
                &format!("a small file system cannot be mounted: {why}"),
            );
        }
    };
    let dir = disk.0.path().to_str().expect("a path in UTF-8");
    assert!(weal(&["new", "--dir", dir]).status.success());
    let key = weal(&["key", "--dir", dir]).stdout;

    let full = weal(&[
        "run",
        "--dir",
        dir,
        "--port",
        "0",
        "--page",
        "127.0.0.1:0",
        "--no-mdns",
        "--device",
        "cpu",
    ]);
    let message = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(8), "{message}");
    assert!(
        message.contains("disk is full") && message.contains("--dir"),
        "{message}"
    );

    disk.grow("256m").expect("more space");
    assert_eq!(weal(&["key", "--dir", dir]).stdout, key);
    let node = StartedNode::run(disk.0.path());
    let decided =
        || status_client::status(node.page).is_ok_and(|status| !status.history.is_empty());
    node.wait_for(
        "a round decided once there is space",
        Duration::from_secs(120),
        decided,
    );
}

/// Fills a disk to the last byte.
fn fill(disk: &SmallDisk) -> PathBuf {
    let path = disk.0.path().join("filler");
    let mut file = fs::File::create(&path).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

#[test]
fn a_disk_that_fills_up_pauses_the_node_which_continues_by_itself() {
    let disk = match SmallDisk::new("256m") {
        Ok(disk) => disk,
        Err(why) => {
            return skip(
                "a disk that fills up",
                &format!("a small file system cannot be mounted: {why}"),
            );
        }
    };
    let dir = disk.0.path().to_str().expect("a path in UTF-8");
    assert!(weal(&["new", "--dir", dir]).status.success());
    let node = StartedNode::run(disk.0.path());
    let status = |is: &dyn Fn(&Snapshot) -> bool| {
        status_client::status(node.page).is_ok_and(|status| is(&status))
    };
    let patience = Duration::from_secs(120);
    node.wait_for("a round", patience, || {
        status(&|status| !status.history.is_empty())
    });

    // The node may free some space meanwhile, by deleting what is old.
    let filler = fill(&disk);
    node.wait_for("the node pauses and says why", patience, || {
        let paused = status(&|status| {
            status.node.state == NodeState::Paused && status.node.message.contains("disk is full")
        });
        if !paused {
            fill(&disk);
        }
        paused
    });
    let rounds = || status_client::status(node.page).map_or(0, |status| status.history.len());
    let before = rounds();
    fs::remove_file(filler).expect("a file to delete");
    node.wait_for("two more rounds", patience, || rounds() >= before + 2);
    assert!(status(&|status| status.node.state != NodeState::Paused));
}
