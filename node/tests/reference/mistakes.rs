//! What `weal` prints on standard error for the commonest mistakes, and its exit code. Only Linux
//! is tested, because messages of the system are part of the text.

#![cfg(target_os = "linux")]

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::generated::assert_file;

/// Runs commands and writes down how each ends.
struct Recorder {
    folder: TempDir,
    text: String,
}

impl Recorder {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            text: String::new(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&mut self, title: &str, args: &[&str]) {
        self.run_with_port(title, args, None);
    }

    /// `port` is replaced by a word wherever it appears.
    fn run_with_port(&mut self, title: &str, args: &[&str], port: Option<u16>) {
        let output = Command::new(env!("CARGO_BIN_EXE_weal"))
            .args(args)
            .current_dir(self.folder.path())
            .env("WEAL_LOG", "off")
            .env("WEAL_DEVICE", "cpu")
            .env("WEAL_DIR", self.folder.path().join("default"))
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        let stderr = without_repetitions(&String::from_utf8(output.stderr).unwrap());
        let entry = format!(
            "## {title}\n$ weal {}\n{}exit code {code}\n\n",
            args.join(" "),
            stderr
        );
        let mut entry = entry.replace(self.folder.path().to_str().unwrap(), "/home/ada");
        if let Some(run) = run_of_folder(&entry) {
            entry = entry.replace(&run, "RUN");
        }
        if let Some(port) = port {
            entry = entry.replace(&port.to_string(), "PORT");
        }
        self.text.write_str(&entry).unwrap();
    }

    /// Makes a folder with a new run.
    fn new_run(&self, name: &str) -> String {
        let path = self.path(name);
        let status = Command::new(env!("CARGO_BIN_EXE_weal"))
            .args(["new", "--dir", &path])
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        path
    }
}

/// The id of a run that differs each time, from the message that names it.
fn run_of_folder(entry: &str) -> Option<String> {
    let (_, rest) = entry.split_once("holds run ")?;
    Some(rest.split(',').next()?.to_owned())
}

/// How often the program retries, and says so, depends on the machine.
fn without_repetitions(text: &str) -> String {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    lines.dedup();
    lines.concat()
}

fn taken_port() -> (TcpListener, u16) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    (taken, port)
}

fn snapshot(name: &str, recorder: &Recorder) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    assert_file(&path.join(name), &recorder.text);
}

#[test]
fn mistakes_on_the_command_line() {
    let mut recorder = Recorder::new();
    recorder.run("An unknown command", &["fly"]);
    recorder.run("An unknown flag", &["run", "--gpus", "2"]);
    recorder.run("Not an address", &["run", "--page", "localhost"]);
    recorder.run(
        "Not a peer's address",
        &["run", "--bootstrap", "home.example.org:7700"],
    );
    recorder.run("Not a device", &["run", "--device", "cuda"]);
    recorder.run("Not an amount of memory", &["run", "--memory", "lots"]);
    recorder.run(
        "Not a share",
        &[
            "data",
            "prepare",
            "a.txt",
            "--out",
            "tokens",
            "--heldout",
            "60%",
        ],
    );
    recorder.run("Not a log filter", &["--log", "weal=loud", "key"]);
    recorder.run("Too few peers", &["testnet", "--peers", "0"]);
    recorder.run(
        "A number format of the other kind of export",
        &["export", "model", "--type", "q4_0"],
    );
    snapshot("command_line.txt", &recorder);
}

#[test]
fn mistakes_with_files_and_folders() {
    let mut recorder = Recorder::new();
    let empty = recorder.path("empty.txt");
    fs::write(&empty, "").unwrap();
    let short = recorder.path("short.txt");
    fs::write(&short, "to be").unwrap();
    let node = recorder.path("node");
    recorder.run("No run in the data folder", &["run", "--dir", &node]);
    recorder.run("No run to export", &["export", "model", "--dir", &node]);
    recorder.run(
        "An unknown preset",
        &["new", "--dir", &node, "--preset", "huge"],
    );
    recorder.run(
        "Data that does not exist",
        &["new", "--dir", &node, "--data", "/nowhere"],
    );
    recorder.run("An empty text", &["new", "--dir", &node, "--data", &empty]);
    recorder.run(
        "A text that is too short",
        &["new", "--dir", &node, "--data", &short],
    );
    recorder.run(
        "A model that does not exist",
        &["import", "/nowhere", "--dir", &node],
    );
    recorder.run(
        "A model to generate with that does not exist",
        &["generate", "--model", "/nowhere"],
    );
    recorder.run(
        "A file to evaluate on that does not exist",
        &["eval", "/nowhere.txt"],
    );
    recorder.run(
        "A source to prepare that does not exist",
        &["data", "prepare", "/nowhere.txt", "--out", "tokens"],
    );

    recorder.run(
        "A model to verify that does not exist",
        &["verify", "missing.gguf"],
    );
    recorder.run(
        "A folder to verify that does not exist",
        &["verify", "missing-folder"],
    );
    recorder.run("No run to verify", &["verify", "--dir", &node]);

    let node = recorder.new_run("second");
    recorder.run("A second run in a folder", &["new", "--dir", &node]);
    let settings = recorder.path("second/settings.toml");
    fs::write(&settings, "[network]\nlisten_port = 3\n").unwrap();
    recorder.run("An unknown key in settings.toml", &["run", "--dir", &node]);
    fs::write(&settings, "[compute]\nprecision = \"f8\"\n").unwrap();
    recorder.run("A wrong value in settings.toml", &["run", "--dir", &node]);
    fs::remove_file(&settings).unwrap();
    let run = recorder.path("second/run.toml");
    let sound = fs::read_to_string(&run).unwrap();
    fs::write(&run, sound.replace("keep = 32", "keep = 100000")).unwrap();
    recorder.run("A wrong value in run.toml", &["run", "--dir", &node]);
    snapshot("files.txt", &recorder);
}

#[test]
fn mistakes_with_the_network() {
    let mut recorder = Recorder::new();
    let node = recorder.new_run("node");
    let (_taken, port) = taken_port();
    let page = format!("127.0.0.1:{port}");
    recorder.run_with_port(
        "The page's port is taken",
        &["run", "--dir", &node, "--port", "0", "--page", &page],
        Some(port),
    );
    let on_port = |port: u16| port.to_string();
    recorder.run_with_port(
        "The port for peers is taken",
        &[
            "run",
            "--dir",
            &node,
            "--port",
            &on_port(port),
            "--page",
            "127.0.0.1:0",
            "--no-mdns",
        ],
        Some(port),
    );
    recorder.run("No node is running", &["status", "--page", "127.0.0.1:9"]);
    recorder.run(
        "No node to be healthy",
        &["status", "--healthy", "--page", "127.0.0.1:9"],
    );
    recorder.run("Not a run link", &["join", "http://example.org"]);
    let link = format!("weal:{}?peer=/ip4/127.0.0.1/tcp/9", "ab".repeat(32));
    recorder.run(
        "The data folder holds another run",
        &["join", &link, "--dir", &node],
    );
    recorder.run(
        "No peer answers",
        &[
            "join",
            &link,
            "--patience",
            "1",
            "--no-mdns",
            "--only-fetch",
        ],
    );
    snapshot("network.txt", &recorder);
}
