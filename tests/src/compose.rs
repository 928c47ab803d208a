//! The compose testnet of `deploy/`, under its own project name.
//!
//! The image contains the program that was built beside the tests. Building it within Docker would
//! need a registry, and twenty minutes.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use weal_dashboard::Snapshot;
use weal_testing::{Patience, wait_for};

use crate::net::program;

/// Nodes of the testnet.
pub const NODES: usize = 4;

const SERVICES: [&str; NODES] = ["node1", "node2", "node3", "node4"];
/// The image of the builder and of the result. `deploy/base-image.sh` provides it.
const BASE: &str = "debian:bookworm-slim";
/// How often a condition is checked. Each check asks every container.
const POLL: Duration = Duration::from_millis(500);
/// Lines of each container's log that are shown when a test fails.
const LOG_LINES: &str = "40";

/// A testnet in containers. It is removed, with its data, when this is dropped.
#[derive(Debug)]
pub struct Compose {
    tool: Tool,
    project: String,
    image: String,
    /// Container of each node, once it is up.
    containers: Vec<String>,
}

/// `docker compose`, or the older `docker-compose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Plugin,
    Standalone,
}

impl Compose {
    /// Builds the image and brings the nodes up; `flags` go to `weal testnet prepare`.
    ///
    /// # Errors
    /// Why this machine cannot do that, in words for people.
    ///
    /// # Panics
    /// When the machine could do it and it fails.
    pub fn up(flags: &str) -> Result<Self, String> {
        let tool = Tool::find()?;
        let base = succeeds(Command::new("bash").arg(repository().join("deploy/base-image.sh")));
        base.map_err(|error| format!("{BASE} can neither be pulled nor made here: {error}"))?;
        let name = format!("weal-test-{}", std::process::id());
        let mut compose = Self {
            tool,
            project: name.clone(),
            image: name,
            containers: Vec::new(),
        };
        compose.build();
        compose.can_run()?;
        let up = succeeds(compose.command().env("WEAL_TESTNET", flags).args([
            "up",
            "--detach",
            "--no-build",
        ]));
        up.unwrap_or_else(|error| {
            panic!("the testnet does not come up: {error}\n{}", compose.logs())
        });
        compose.containers = SERVICES
            .map(|service| compose.container_of(service))
            .to_vec();
        Ok(compose)
    }

    /// Kills a node at once.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&self, node: usize) {
        docker(["kill", &self.containers[node]]);
    }

    /// Starts a killed node again.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, node: usize) {
        docker(["start", &self.containers[node]]);
    }

    /// A node's status, asked from within its container; `None` if it does not answer.
    pub fn status(&self, node: usize) -> Option<Snapshot> {
        let json = output(docker_command([
            "exec",
            &self.containers[node],
            "weal",
            "status",
            "--json",
        ]))
        .ok()?;
        serde_json::from_str(&json).ok()
    }

    /// Rounds that a node has decided and applied.
    pub fn rounds(&self, node: usize) -> u64 {
        self.status(node)
            .and_then(|status| status.history.last().map(|record| record.round + 1))
            .unwrap_or(0)
    }

    /// The result of Docker's health check of a node: `starting`, `healthy` or `unhealthy`.
    ///
    /// # Panics
    /// When the container is not there.
    pub fn health(&self, node: usize) -> String {
        docker([
            "inspect",
            "--format",
            "{{.State.Health.Status}}",
            &self.containers[node],
        ])
    }

    /// Where node 1's page is published on this machine.
    ///
    /// # Panics
    /// When it is not.
    pub fn page(&self) -> SocketAddr {
        let text = docker(["port", &self.containers[0], "7780/tcp"]);
        let address = text.lines().next().and_then(|line| line.parse().ok());
        address.unwrap_or_else(|| panic!("node 1's page is published at {text:?}"))
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// With the nodes' logs, when it does not come true in time.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) {
        let patience = Patience {
            timeout: patience,
            pause: POLL,
        };
        wait_for(what, patience, || condition(self), || self.logs());
    }

    fn build(&self) {
        let context = context();
        let built = succeeds(
            docker_command(["build", "--quiet", "--tag", &self.image])
                .args(["--build-arg", &format!("BUILDER={BASE}")])
                .arg("--file")
                .arg(repository().join("deploy/Dockerfile"))
                .arg(context.path()),
        );
        built.unwrap_or_else(|error| panic!("the image cannot be built: {error}"));
    }

    /// The program is linked against this machine's C library. An image with an older one cannot
    /// load it.
    fn can_run(&self) -> Result<(), String> {
        match output(docker_command(["run", "--rm", &self.image, "--version"])) {
            Err(error) if error.contains("GLIBC_") => Err(format!(
                "what is built here needs a newer C library than {BASE} has: {error}"
            )),
            Err(error) => panic!("the image does not run: {error}"),
            Ok(_) => Ok(()),
        }
    }

    fn container_of(&self, service: &str) -> String {
        let id = output(self.command().args(["ps", "--quiet", service]));
        id.unwrap_or_else(|error| panic!("{service} has no container: {error}\n{}", self.logs()))
    }

    fn command(&self) -> Command {
        let mut command = self.tool.command();
        command
            .args(["--project-name", &self.project, "--file"])
            .arg(repository().join("deploy/compose.yaml"))
            .env("WEAL_IMAGE", &self.image)
            // Docker chooses a free port.
            .env("WEAL_PAGE_PORT", "0");
        command
    }

    fn logs(&self) -> String {
        output(
            self.command()
                .args(["logs", "--no-color", "--tail", LOG_LINES]),
        )
        .unwrap_or_else(|error| error)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        // Leftovers do no harm, and a panic here would hide the test's own.
        let _ = succeeds(self.command().args([
            "down",
            "--volumes",
            "--remove-orphans",
            "--timeout",
            "10",
        ]));
        let _ = succeeds(&mut docker_command(["image", "rm", "--force", &self.image]));
        let stage = "label=commonweal.stage=binary";
        let _ = succeeds(&mut docker_command([
            "image", "prune", "--force", "--filter", stage,
        ]));
    }
}

impl Tool {
    fn find() -> Result<Self, String> {
        output(docker_command([
            "version",
            "--format",
            "{{.Server.Version}}",
        ]))
        .map_err(|error| format!("no Docker daemon answers: {error}"))?;
        [Self::Plugin, Self::Standalone]
            .into_iter()
            .find(|tool| output(tool.command().arg("version")).is_ok())
            .ok_or_else(|| "neither `docker compose` nor `docker-compose` is installed".to_owned())
    }

    fn command(self) -> Command {
        match self {
            Self::Plugin => docker_command(["compose"]),
            Self::Standalone => Command::new("docker-compose"),
        }
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the repository")
}

/// A build context that contains only the program, without debug information.
fn context() -> TempDir {
    let context = TempDir::new().expect("a temporary folder");
    let binary: PathBuf = context.path().join("dist/weal");
    fs::create_dir(context.path().join("dist")).expect("a folder");
    let stripped = succeeds(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&binary)
            .arg(program()),
    );
    if stripped.is_err() {
        fs::copy(program(), &binary).expect("a copy of the program");
    }
    context
}

fn docker_command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("docker");
    command.args(args);
    command
}

/// Runs `docker` and returns what it prints.
fn docker<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    output(docker_command(args)).unwrap_or_else(|error| panic!("{error}"))
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    output(command).map(drop)
}

/// What a command prints. If it fails, what it prints to standard error.
fn output(mut command: impl std::borrow::BorrowMut<Command>) -> Result<String, String> {
    let command = command.borrow_mut().stdin(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command
        .output()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    if ended.status.success() {
        Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned())
    } else {
        let complaint = String::from_utf8_lossy(&ended.stderr);
        Err(format!(
            "{name} ended with {}: {}",
            ended.status,
            complaint.trim()
        ))
    }
}
