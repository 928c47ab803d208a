//! Starting `weal`, and folders for it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The program, on the processor and without what the environment of the tests sets.
pub(crate) fn weal() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weal"));
    command.env("WEAL_DEVICE", "cpu").env_remove("WEAL_LOG");
    command
}

pub(crate) fn code(output: &Output) -> i32 {
    // A signal's number is negative, so that an abort is none of the codes that tests expect.
    use std::os::unix::process::ExitStatusExt;
    let status = output.status;
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or_default())
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A port that nobody uses.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A folder with texts, prepared tokens, and a node that has started once.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let place = Self { dir };
        let records: String = (0..200)
            .map(|number| format!("{{\"text\":\"number {number} of two hundred records\"}}\n"))
            .collect();
        fs::write(place.path("texts.jsonl"), records).unwrap();
        fs::write(place.path("text.txt"), "call me ishmael ".repeat(40)).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with these arguments, in this folder.
    pub(crate) fn weal(&self, args: &[&str]) -> Command {
        let mut command = weal();
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// `weal join` of a run that no peer serves; it waits for peers for `patience` seconds.
    pub(crate) fn join_nobody(&self, patience: &str) -> Command {
        let link = format!("weal:{}?peer=/ip4/127.0.0.1/tcp/9", "ab".repeat(32));
        let mut command = self.weal(&["join", &link, "--dir", "node", "--no-mdns"]);
        command.args(["--page", "127.0.0.1:0"]);
        command.args(["--patience", patience]);
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.weal(args).output().unwrap()
    }

    pub(crate) fn run(&self, args: &[&str]) {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    }

    /// Makes a node's folder `node` that has weights: its first start ends at a port that is taken.
    pub(crate) fn started_node(&self) {
        self.run(&["new", "--dir", "node"]);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let page = taken.local_addr().unwrap().to_string();
        let output = self.output(&["run", "--dir", "node", "--port", "0", "--page", &page]);
        assert_eq!(code(&output), 5, "{}", stderr(&output));
    }
}
