//! Starts the nodes of a testnet as processes, and stops them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{Error, Result};
#[cfg(unix)]
use crate::signals;
use crate::testnet::prepare::PreparedNode;

/// Time a node has to stop after SIGTERM before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes from the end of a stopped node's log that are shown.
const TAIL_BYTES: u64 = 2_000;

/// The nodes' processes. Dropping this kills them.
#[derive(Debug)]
pub(crate) struct Processes {
    children: Vec<(PathBuf, Child)>,
}

impl Processes {
    /// Starts a process for each node, which logs to `log.txt` in its folder.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub(crate) fn start(nodes: &[PreparedNode], rounds: Option<u64>, log: &str) -> Result<Self> {
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
                .stdin(Stdio::null())
                .stdout(file)
                .stderr(errors)
                .kill_on_drop(true);
            // What configures `weal testnet` must not configure the nodes.
            for variable in flag_variables() {
                command.env_remove(variable);
            }
            if let Some(rounds) = rounds {
                command.args(["--rounds", &rounds.to_string()]);
            }
            let child = command
                .spawn()
                .map_err(|error| Error::internal(format!("a node cannot be started: {error}")))?;
            children.push((path, child));
            #[cfg(unix)]
            signals::end_with_children(children.iter().filter_map(|(_, c)| c.id()).collect());
        }
        Ok(Self { children })
    }

    /// Checks that all nodes are still running.
    ///
    /// # Errors
    /// The exit code of a node that stopped, and the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        for (log, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::internal(format!(
                    "a node stopped ({status}); the end of {}:\n{}",
                    log.display(),
                    tail(log)
                )));
            }
        }
        Ok(())
    }

    /// Asks the nodes to stop, and kills those that take too long.
    pub(crate) async fn stop(&mut self) {
        for (_, child) in &mut self.children {
            terminate(child);
        }
        for (log, child) in &mut self.children {
            if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
                tracing::warn!(log = %log.display(), "a node did not stop in time; killing it");
                if let Err(error) = child.kill().await {
                    tracing::warn!(%error, "cannot kill a node");
                }
            }
        }
    }
}

/// The variables that stand for flags. The kernel cache is the machine's, not a node's.
fn flag_variables() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("WEAL_") && name != "WEAL_CACHE_DIR"
    })
}

#[cfg(unix)]
fn terminate(child: &mut Child) {
    let Some(id) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw)
    else {
        return;
    };
    if let Err(error) = rustix::process::kill_process(id, rustix::process::Signal::TERM) {
        tracing::debug!(%error, "cannot ask a node to stop");
    }
}

#[cfg(not(unix))]
fn terminate(child: &mut Child) {
    if let Err(error) = child.start_kill() {
        tracing::debug!(%error, "cannot kill a node");
    }
}

fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot read its log: {error})"))
}
