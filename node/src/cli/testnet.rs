//! `weal testnet`: runs a whole network on this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use weal_files::TemporaryFolder;

use super::args::{JsonArgs, PresetParser, TrainingDataArgs, print_json};
use super::command::LOGGED;
use super::runtime::block_on;
use crate::error::{Error, Result};
use crate::new_run::{RunFile, flag_help};
use crate::settings::Device;
use crate::signals;
use crate::terminal::{print_line, say};
use crate::testnet::prepare::{
    self, NodePlan, PreparedNode, TestnetPlan, local_nodes, named_nodes,
};
use crate::testnet::processes::Processes;
use crate::testnet::watch::Watcher;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct TestnetArgs {
    #[command(subcommand)]
    command: Option<TestnetCommand>,
    #[command(flatten)]
    run: TestnetRunArgs,
    /// Stop after this many decided rounds and print a summary. By default run until Ctrl-C.
    #[arg(long)]
    rounds: Option<u64>,
    /// Keep the nodes' folders here, and continue from them next time. By default they are
    /// temporary.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgs,
    /// Port of the first node's page; another one if it is taken.
    #[arg(long, default_value_t = 7780)]
    page_port: u16,
    /// Device of the nodes: auto, cpu, gpu or gpu:<number>. Several nodes rarely fit on one GPU.
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Run this node (counted from 1) on the GPU, and the others on --device.
    #[arg(long, value_name = "NUMBER")]
    gpu_peer: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum TestnetCommand {
    /// Write the nodes' folders without starting nodes, for containers or other machines.
    Prepare(PrepareArgs),
}

/// The run of a testnet.
#[derive(Debug, Args)]
struct TestnetRunArgs {
    /// Number of nodes.
    #[arg(long, default_value_t = 4)]
    peers: usize,
    #[command(flatten)]
    data: TrainingDataArgs,
    #[arg(long, help = flag_help("model.preset"), default_value = "nano",
        value_parser = PresetParser, hide_possible_values = true)]
    preset: String,
    #[arg(long, help = flag_help("model.checkpoint"), value_name = "FOLDER")]
    from: Option<PathBuf>,
    #[arg(long, help = flag_help("inner.steps"), default_value_t = 20)]
    steps: u32,
    #[arg(long, help = flag_help("inner.batch"), default_value_t = 2)]
    batch: u32,
    #[arg(long, help = flag_help("timing.train_seconds"), default_value_t = 20.0,
        value_name = "SECONDS")]
    train_seconds: f64,
}

impl TestnetRunArgs {
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
        file.data.files.clone_from(&self.data.data);
        // All nodes share one CPU, so tokens are scarce: many small steps learn most from them.
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
struct PrepareArgs {
    /// Folder in which to create the folders node1, node2, …
    folder: PathBuf,
    #[command(flatten)]
    run: TestnetRunArgs,
    /// Host name or IP address of each node; {} stands for its number. Without {} all nodes are on
    /// one host, on ports that follow one another.
    #[arg(long, default_value = "node{}")]
    host: String,
    /// Port on which each node listens for peers.
    #[arg(long, default_value_t = 7700)]
    port: u16,
    /// Port of each node's page.
    #[arg(long, default_value_t = 7780)]
    page_port: u16,
    /// Address on which each node's page listens; the page asks for no password.
    #[arg(long, default_value = "127.0.0.1")]
    page_listen: IpAddr,
    /// Device of the nodes: auto, cpu, gpu or gpu:<number>.
    #[arg(long, default_value = "auto")]
    device: Device,
}

impl TestnetArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.command {
            Some(TestnetCommand::Prepare(args)) => args.run(),
            None => self.start(),
        }
    }

    fn start(self) -> Result<ExitCode> {
        let run = self.run.file()?;
        let temporary = TemporaryFolder::in_system("weal-testnet-")?;
        let root = self
            .keep
            .clone()
            .unwrap_or_else(|| temporary.path().to_owned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / self.run.peers).max(1);
        let mut nodes = local_nodes(self.run.peers, self.page_port, self.device, threads)?;
        if let Some(number) = self.gpu_peer {
            put_on_gpu(&mut nodes, number)?;
        }
        let (manifest, nodes) = prepare::prepare(&TestnetPlan { root, nodes, run })?;
        let page = nodes
            .first()
            .map(|node| format!("http://{}/", node.page))
            .unwrap_or_default();
        say!(
            "{} nodes train \"{}\" ({} parameters); page: {page}",
            nodes.len(),
            manifest.name,
            manifest.model.parameters()
        );
        block_on(self.follow(&nodes))
    }

    async fn follow(&self, nodes: &[PreparedNode]) -> Result<ExitCode> {
        let stop = signals::stop_gracefully();
        let mut processes = Processes::start(nodes, self.rounds, LOGGED)?;
        let mut watcher = Watcher::new(nodes, self.rounds);
        let followed = watcher.follow(&mut processes, stop).await;
        processes.stop().await;
        followed?;
        let summary = watcher.summary();
        summary.print();
        if self.json.json {
            print_json(&summary)?;
        }
        if let Some(folder) = &self.keep {
            say!(
                "the nodes' folders are in {}; generate text with: weal generate --dir {}/node1",
                folder.display(),
                folder.display()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn put_on_gpu(nodes: &mut [NodePlan], number: usize) -> Result<()> {
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
        let (manifest, nodes) = prepare::prepare(&TestnetPlan {
            root: self.folder,
            nodes,
            run,
        })?;
        for node in &nodes {
            print_line!("{} {}", node.folder.path().display(), node.peer)?;
        }
        print_line!("run {}", manifest.run())?;
        Ok(ExitCode::SUCCESS)
    }
}
