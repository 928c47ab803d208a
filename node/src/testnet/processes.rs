//! Starts the nodes of a testnet as processes, and ends them with it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::testnet::prepare::PreparedNode;

/// Time a node has to leave politely.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes of a dead node's log that are shown.
const TAIL: u64 = 2_000;

/// The nodes' processes. When this is dropped, they end.
#[derive(Debug)]
pub struct Processes {
    children: Vec<(PathBuf, Child)>,
}

impl Processes {
    /// Starts a process for each node. Each writes to `log.txt` in its folder.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(nodes: &[PreparedNode], rounds: Option<u64>, log: &str) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Error::internal(format!("this program cannot be found: {error}")))?;
        let mut children = Vec::new();
        for node in nodes {
            let path = node.folder.path().join("log.txt");
            let file =
                File::create(&path).map_err(Error::storage("cannot write the log", &path))?;
            let errors = file
                .try_clone()
                .map_err(Error::storage("cannot write the log", &path))?;
            let mut command = Command::new(&program);
            command
                .args(["--log", log, "run", "--dir"])
                .arg(node.folder.path())
                // Flags of this command must not become flags of the nodes.
                .env_remove("WEAL_PAGE")
                .env_remove("WEAL_PORT")
                .env_remove("WEAL_DEVICE")
                .env_remove("WEAL_THREADS")
                .env_remove("WEAL_ROUNDS")
                .stdin(Stdio::null())
                .stdout(file)
                .stderr(errors)
                .kill_on_drop(true);
            if let Some(rounds) = rounds {
                command.args(["--rounds", &rounds.to_string()]);
            }
            let child = command
                .spawn()
                .map_err(|error| Error::internal(format!("a node cannot be started: {error}")))?;
            children.push((path, child));
        }
        Ok(Self { children })
    }

    /// Refuses to go on when a node has ended by itself.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> Result<()> {
        for (log, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::internal(format!(
                    "a node has ended ({status}); {}:\n{}",
                    log.display(),
                    tail(log)
                )));
            }
        }
        Ok(())
    }

    /// Asks the nodes to leave, and ends those that take too long.
    pub async fn stop(&mut self) {
        for (_, child) in &mut self.children {
            ask_to_leave(child);
        }
        for (log, child) in &mut self.children {
            if timeout(GRACE, child.wait()).await.is_err() {
                tracing::warn!(log = %log.display(), "a node did not leave in time and is killed");
                if let Err(error) = child.kill().await {
                    tracing::warn!(%error, "it cannot be killed");
                }
            }
        }
    }
}

#[cfg(unix)]
fn ask_to_leave(child: &mut Child) {
    let Some(id) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw)
    else {
        return;
    };
    if let Err(error) = rustix::process::kill_process(id, rustix::process::Signal::TERM) {
        tracing::debug!(%error, "a node cannot be told to leave");
    }
}

#[cfg(not(unix))]
fn ask_to_leave(child: &mut Child) {
    if let Err(error) = child.start_kill() {
        tracing::debug!(%error, "a node cannot be ended");
    }
}

fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
}
