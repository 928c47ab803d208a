//! Real `weal` processes on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use weal::folder::Folder;
use weal::new_run::RunFile;
use weal::settings::{Device, Settings};
use weal::status_client;
use weal::testnet::prepare::{NodePlan, PreparedNode, TestnetPlan, local_nodes, prepare};
use weal_dashboard::Snapshot;
use weal_proto::Manifest;
use weal_testing::wait_for;

/// The longest wait for a process to end.
const MINUTE: Duration = Duration::from_secs(60);

/// The program, built beside the tests.
///
/// # Panics
/// When it has not been built.
pub fn program() -> PathBuf {
    let program = built_programs().join(format!("weal{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is not built; run `cargo test --workspace`, or `cargo build` first",
        program.display()
    );
    program
}

/// The program that lies. It is built here, because no default build contains it; only the node
/// itself is compiled again for it.
///
/// # Panics
/// When it cannot be built.
pub fn dishonest_program() -> PathBuf {
    let folder = built_programs();
    let (target, profile) = (folder.parent(), folder.file_name());
    let profile = match profile.and_then(std::ffi::OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(env!("CARGO"));
    // Build scripts of third-party crates watch what Cargo tells a test about its own package, and
    // would run again, here and in the next build.
    for (name, _) in std::env::vars_os() {
        let told = [
            "CARGO_MANIFEST_",
            "CARGO_PKG_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
        ];
        if name
            .to_str()
            .is_some_and(|name| told.iter().any(|prefix| name.starts_with(prefix)))
        {
            cargo.env_remove(name);
        }
    }
    let built = cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "weal",
            "--features",
            "dishonest",
        ])
        .args([
            "--bin",
            "weal-dishonest",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target.expect("a target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the node that lies cannot be built");
    folder.join(format!("weal-dishonest{}", std::env::consts::EXE_SUFFIX))
}

/// The folder of the programs that were built beside the tests.
fn built_programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(Path::parent);
    folder
        .expect("tests lie in target/<profile>/deps")
        .to_owned()
}

/// A node: its data folder, its page, and its process while it runs.
pub struct TestNode {
    /// Its data folder.
    pub folder: Folder,
    /// Its public key, which the page shows.
    pub peer: String,
    /// Address of its page.
    pub page: std::net::SocketAddr,
    /// How it lies; `None` if it is honest.
    lies: Option<String>,
    process: Option<Child>,
}

/// A network of processes, which are killed when it is dropped.
pub struct Net {
    /// The run's manifest.
    pub manifest: Manifest,
    /// The nodes; newcomers come last, in the order they joined.
    pub nodes: Vec<TestNode>,
    root: TempDir,
}

impl Net {
    /// Writes a folder for each peer and starts its process.
    ///
    /// # Panics
    /// When that fails.
    pub fn start(peers: usize, run: RunFile) -> Self {
        let nodes = local_nodes(peers, 0, Device::Cpu, 1).expect("free ports");
        Self::start_planned(nodes, run)
    }

    /// Starts nodes of which some lie, each as the second of its pair says (see the node's
    /// `dishonest` module).
    ///
    /// # Panics
    /// When that fails.
    pub fn start_with_liars(peers: usize, run: RunFile, liars: &[(usize, &str)]) -> Self {
        let nodes = local_nodes(peers, 0, Device::Cpu, 1).expect("free ports");
        let mut net = Self::prepare(nodes, run);
        for (node, lies) in liars {
            net.nodes[*node].lies = Some((*lies).to_owned());
        }
        net.launch_all();
        net
    }

    /// Starts nodes with individual settings.
    ///
    /// # Panics
    /// When that fails.
    pub fn start_planned(nodes: Vec<NodePlan>, run: RunFile) -> Self {
        let mut net = Self::prepare(nodes, run);
        net.launch_all();
        net
    }

    /// Writes a folder for each peer. No process is started.
    ///
    /// # Panics
    /// When that fails.
    pub fn asleep(peers: usize, run: RunFile) -> Self {
        let nodes = local_nodes(peers, 0, Device::Cpu, 1).expect("free ports");
        Self::prepare(nodes, run)
    }

    fn prepare(nodes: Vec<NodePlan>, run: RunFile) -> Self {
        let root = TempDir::new().expect("a temporary folder");
        let plan = TestnetPlan {
            root: root.path().to_owned(),
            nodes,
            run,
        };
        let (manifest, prepared) = prepare(&plan).expect("a valid run");
        let nodes = prepared.into_iter().map(TestNode::from).collect();
        Self {
            manifest,
            nodes,
            root,
        }
    }

    fn launch_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.launch(node);
        }
    }

    /// Starts a node's process, for the first time or again.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let dir = node.folder.path().to_owned();
        node.spawn(&["run".into(), "--dir".into(), dir.into_os_string()]);
    }

    /// Adds a newcomer that joins by link. Returns its index.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn join(&mut self, link: &str) -> usize {
        let plan = local_nodes(1, 0, Device::Cpu, 1)
            .expect("free ports")
            .remove(0);
        let folder = Folder::new(
            self.root
                .path()
                .join(format!("newcomer{}", self.nodes.len())),
        );
        let peer = folder.key().expect("a key").peer().to_string();
        let mut node = TestNode {
            folder,
            peer,
            page: plan.page,
            lies: None,
            process: None,
        };
        let dir = node.folder.path().to_owned().into_os_string();
        let port = port(&plan);
        let page = plan.page.to_string();
        node.spawn(&[
            "join".into(),
            link.into(),
            "--dir".into(),
            dir,
            "--port".into(),
            port.into(),
            "--page".into(),
            page.into(),
            "--device".into(),
            "cpu".into(),
            "--threads".into(),
            "1".into(),
            "--no-mdns".into(),
        ]);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Kills a node's process at once, as a power cut would.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("a running node");
        process.kill().expect("a process that can be killed");
        process.wait().expect("a process that ends");
    }

    /// Tells a node's process to end (SIGTERM), and waits until it has. Returns its exit code.
    ///
    /// # Panics
    /// When it is not running, or does not end.
    pub fn terminate(&mut self, node: usize) -> Option<i32> {
        let mut process = self.nodes[node].process.take().expect("a running node");
        let sent = Command::new("kill").arg(process.id().to_string()).status();
        assert!(sent.expect("kill").success());
        let mut status = None;
        let has_ended = || {
            status = process.try_wait().expect("a process");
            status.is_some()
        };
        wait_for("the node's end", MINUTE, has_ended, || self.logs());
        status.and_then(|status| status.code())
    }

    /// A link that leads to the first node, which need not be running. There must be a second one.
    ///
    /// # Panics
    /// When the second node's settings cannot be read.
    pub fn link(&self) -> String {
        let settings = Settings::read(&self.nodes[1].folder).expect("settings");
        let first = &settings.network.bootstrap[0];
        format!("weal:{}?peer={first}", self.manifest.run())
    }

    /// A node's status, if it answers.
    pub fn status(&self, node: usize) -> Option<Snapshot> {
        status_client::status(self.nodes[node].page).ok()
    }

    /// Rounds that a node has decided and applied.
    pub fn rounds(&self, node: usize) -> u64 {
        self.status(node)
            .and_then(|status| status.history.last().map(|record| record.round + 1))
            .unwrap_or(0)
    }

    /// The most rounds that any node has decided and applied.
    pub fn most_rounds(&self) -> u64 {
        (0..self.nodes.len())
            .map(|node| self.rounds(node))
            .max()
            .unwrap_or(0)
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
        wait_for(what, patience, || condition(self), || self.logs());
    }

    /// Waits until every running node has decided this number of rounds.
    ///
    /// # Panics
    /// When that takes longer than `patience`.
    pub fn wait_for_rounds(&self, rounds: u64, patience: Duration) {
        let what = format!("{rounds} rounds decided everywhere");
        self.wait_for(&what, patience, |net| {
            (0..net.nodes.len())
                .filter(|node| net.nodes[*node].process.is_some())
                .all(|node| net.rounds(node) >= rounds)
        });
    }

    /// State roots by round and node, of the rounds that the node's page shows.
    pub fn roots(&self) -> BTreeMap<u64, BTreeMap<String, String>> {
        let mut roots: BTreeMap<u64, BTreeMap<String, String>> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for record in self
                .status(index)
                .into_iter()
                .flat_map(|status| status.history)
            {
                roots
                    .entry(record.round)
                    .or_default()
                    .insert(node.peer.clone(), record.root);
            }
        }
        roots
    }

    /// Asserts that no two nodes hold different weights after any round. Returns the number of
    /// rounds that at least two nodes had.
    ///
    /// # Panics
    /// When two differ.
    pub fn assert_roots_agree(&self) -> usize {
        let roots = self.roots();
        for (round, roots) in &roots {
            let distinct: BTreeSet<_> = roots.values().collect();
            assert_eq!(
                distinct.len(),
                1,
                "round {round}: {roots:?}\n{}",
                self.logs()
            );
        }
        roots.values().filter(|roots| roots.len() > 1).count()
    }

    /// The end of every node's log.
    pub fn logs(&self) -> String {
        self.nodes.iter().map(TestNode::tail).collect()
    }
}

impl From<PreparedNode> for TestNode {
    fn from(node: PreparedNode) -> Self {
        Self {
            folder: node.folder,
            peer: node.peer.to_string(),
            page: node.page,
            lies: None,
            process: None,
        }
    }
}

impl TestNode {
    fn log(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!(
            "--- {}\n{}\n",
            self.peer,
            lines[lines.len().saturating_sub(25)..].join("\n")
        )
    }

    fn spawn(&mut self, args: &[std::ffi::OsString]) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log");
        let program = match self.lies {
            Some(_) => dishonest_program(),
            None => program(),
        };
        let child = Command::new(program)
            .envs(self.lies.as_ref().map(|lies| ("WEAL_DISHONEST", lies)))
            .args(["--log", weal::cli::LOGGED])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a node that starts");
        self.process = Some(child);
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have exited already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A single node, which is killed when this is dropped.
pub struct StartedNode {
    /// Address of its page.
    pub page: std::net::SocketAddr,
    node: TestNode,
}

impl StartedNode {
    /// Runs the node of a data folder that holds a run.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(folder: &Path) -> Self {
        let plan = local_nodes(1, 0, Device::Cpu, 1)
            .expect("free ports")
            .remove(0);
        let mut node = TestNode {
            folder: Folder::new(folder),
            peer: String::new(),
            page: plan.page,
            lies: None,
            process: None,
        };
        let (port, page) = (port(&plan), plan.page.to_string());
        let dir = folder.as_os_str().to_owned();
        let flags = [
            "--no-mdns",
            "--device",
            "cpu",
            "--threads",
            "1",
            "--port",
            &port,
            "--page",
            &page,
        ];
        let args: Vec<_> = ["run".into(), "--dir".into(), dir]
            .into_iter()
            .chain(flags.map(Into::into))
            .collect();
        node.spawn(&args);
        Self {
            page: plan.page,
            node,
        }
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// With the node's log, when it does not come true in time.
    pub fn wait_for(&self, what: &str, patience: Duration, condition: impl Fn() -> bool) {
        wait_for(what, patience, condition, || self.node.tail());
    }
}

/// Lets the tests of one program run one after another, for as long as each holds this: two
/// networks of processes at once are too slow for both.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run whose rounds are short: two small steps.
pub fn quick_run() -> RunFile {
    let mut run = RunFile::default();
    run.inner.steps = 2;
    run.inner.batch = 1;
    run.data.generator_bytes = weal::settings::ByteCount(200_000);
    run.timing.train_seconds = 4.0;
    run.timing.fetch_seconds = 4.0;
    run.timing.attest_seconds = 3.0;
    run.membership.probation_rounds = 2;
    run.membership.vesting_rounds = 2;
    run
}

fn port(plan: &NodePlan) -> String {
    use weal_network::Multiaddr;
    let udp = |address: &Multiaddr| address.to_string().split('/').nth(4).map(str::to_owned);
    udp(&plan.address).expect("an address with a port")
}
