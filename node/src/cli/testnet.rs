//! `weal testnet`: a whole network on this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::block_on;
use crate::error::{Error, ErrorKind, Result};
use crate::new_run::RunFile;
use crate::settings::Device;
use crate::testnet::prepare::{self, NodePlan, Plan, PreparedNode, local_nodes, named_nodes};
use crate::testnet::processes::Processes;
use crate::testnet::watch::Watcher;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TestnetArgs {
    #[command(subcommand)]
    command: Option<TestnetCommand>,
    #[command(flatten)]
    run: RunChoice,
    /// End after so many decided rounds, with a summary; by default go on until Ctrl-C.
    #[arg(long)]
    rounds: Option<u64>,
    /// Keep the nodes' folders here, and go on from there next time; by default they are temporary.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print a summary as one line of JSON at the end.
    #[arg(long)]
    json: bool,
    /// Port of the first node's page; another one where it is taken.
    #[arg(long, default_value_t = 7780)]
    page_port: u16,
    /// Device of the nodes. By default the processor: several nodes rarely fit on one GPU.
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Put this node (counted from 1) on the GPU, the others on the device above.
    #[arg(long, value_name = "NUMBER")]
    gpu_peer: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum TestnetCommand {
    /// Only write the nodes' folders, for nodes that run elsewhere (containers, machines).
    Prepare(PrepareArgs),
}

/// The run of a testnet.
#[derive(Debug, Args)]
struct RunChoice {
    /// Nodes.
    #[arg(long, default_value_t = 4)]
    peers: usize,
    /// Text files and folders to train on, or a folder that `weal data prepare` made; without them,
    /// the built-in generator's text.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// The model: nano, micro, tiny, small, medium or 1b.
    #[arg(long, default_value = "nano")]
    preset: String,
    /// A Hugging Face folder with a model to go on from, in place of a preset.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Inner steps of a round.
    #[arg(long, default_value_t = 20)]
    steps: u32,
    /// Sequences of a step.
    #[arg(long, default_value_t = 2)]
    batch: u32,
    /// Longest time of a round's training; peers that are not done by then are not waited for.
    #[arg(long, default_value_t = 20.0)]
    train_seconds: f64,
}

impl RunChoice {
    fn file(&self) -> Result<RunFile> {
        if self.peers == 0 || self.peers > 64 {
            return Err(Error::usage(format!(
                "--peers is {}; accepted: 1 to 64",
                self.peers
            )));
        }
        let mut file = RunFile {
            name: "testnet".into(),
            ..RunFile::default()
        };
        file.model.preset.clone_from(&self.preset);
        file.model.checkpoint.clone_from(&self.from);
        file.data.files.clone_from(&self.data);
        // Many small steps learn most from few tokens, which is what one processor for all nodes is
        // short of.
        file.inner.steps = self.steps;
        file.inner.batch = self.batch;
        file.timing.train_seconds = self.train_seconds;
        file.timing.fetch_seconds = 10.0;
        file.timing.attest_seconds = 5.0;
        file.membership.probation_rounds = 3;
        file.membership.vesting_rounds = 5;
        Ok(file)
    }
}

#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// Where the folders node1, node2, … go.
    folder: PathBuf,
    #[command(flatten)]
    run: RunChoice,
    /// Name under which a node is reached; {} becomes its number.
    #[arg(long, default_value = "node{}")]
    host: String,
    /// Port for peers.
    #[arg(long, default_value_t = 7700)]
    port: u16,
    /// Port of every node's page.
    #[arg(long, default_value_t = 7780)]
    page_port: u16,
    /// Address on which every node's page listens; the page asks for no password.
    #[arg(long, default_value = "127.0.0.1")]
    page_listen: IpAddr,
    /// Device of the nodes: auto, cpu, gpu or gpu:<number>.
    #[arg(long, default_value = "auto")]
    device: Device,
}

impl TestnetArgs {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Some(TestnetCommand::Prepare(args)) => args.run(),
            None => self.start(),
        }
    }

    fn start(self) -> Result<ExitCode> {
        let run = self.run.file()?;
        let temporary = tempfile::Builder::new().prefix("weal-testnet-").tempdir();
        let temporary = temporary.map_err(Error::storage(
            "cannot make a folder",
            &std::env::temp_dir(),
        ))?;
        let root = self
            .keep
            .clone()
            .unwrap_or_else(|| temporary.path().to_owned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / self.run.peers).max(1);
        let mut nodes = local_nodes(self.run.peers, self.page_port, self.device, threads)?;
        if let Some(number) = self.gpu_peer {
            gpu_peer(&mut nodes, number)?;
        }
        let (manifest, nodes) = prepare::prepare(&Plan { root, nodes, run })?;
        let place = nodes
            .first()
            .map(|node| format!("http://{}/", node.page))
            .unwrap_or_default();
        eprintln!(
            "{} nodes train \"{}\" ({} parameters); page: {place}",
            nodes.len(),
            manifest.name,
            manifest.model.parameters()
        );
        block_on(self.follow(&nodes))
    }

    async fn follow(&self, nodes: &[PreparedNode]) -> Result<ExitCode> {
        let stop = super::stop_signal()?;
        let mut processes = Processes::start(nodes, self.rounds, super::LOGGED)?;
        let mut watcher = Watcher::new(nodes, self.rounds);
        let followed = watcher.follow(&mut processes, stop).await;
        processes.stop().await;
        followed?;
        let summary = watcher.summary();
        summary.print();
        if self.json {
            let json = serde_json::to_string(&summary)
                .map_err(|error| Error::of(ErrorKind::Internal, error))?;
            println!("{json}");
        }
        if let Some(folder) = &self.keep {
            eprintln!(
                "the nodes' folders are in {}; weal generate --dir {}/node1 lets the model write",
                folder.display(),
                folder.display()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn gpu_peer(nodes: &mut [NodePlan], number: usize) -> Result<()> {
    let count = nodes.len();
    let node = number.checked_sub(1).and_then(|index| nodes.get_mut(index));
    let node = node
        .ok_or_else(|| Error::usage(format!("--gpu-peer is {number}; accepted: 1 to {count}")))?;
    node.device = Device::Gpu;
    Ok(())
}

impl PrepareArgs {
    fn run(self) -> Result<ExitCode> {
        let run = self.run.file()?;
        let page = SocketAddr::new(self.page_listen, self.page_port);
        let nodes = named_nodes(self.run.peers, &self.host, self.port, page, self.device)?;
        let (manifest, nodes) = prepare::prepare(&Plan {
            root: self.folder,
            nodes,
            run,
        })?;
        for node in &nodes {
            println!("{} {}", node.folder.path().display(), node.peer);
        }
        println!("run {}", manifest.run());
        Ok(ExitCode::SUCCESS)
    }
}
