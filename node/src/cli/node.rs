//! Flags that `weal run` and `weal join` share: they come before what `settings.toml` says.

use std::net::SocketAddr;

use clap::Args;
use libp2p::Multiaddr;

use crate::daemon::{self, Options};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::settings::{Auto, Bytes, Device, NetworkSettings, Settings};

/// How this machine takes part.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Port for peers, QUIC (UDP) and TCP, on every interface [settings: network.listen].
    #[arg(long, env = "WEAL_PORT")]
    port: Option<u16>,
    /// A peer to begin with, with its identity; may be given several times
    /// [settings: network.bootstrap].
    #[arg(
        long,
        env = "WEAL_BOOTSTRAP",
        value_delimiter = ',',
        value_name = "MULTIADDR"
    )]
    bootstrap: Vec<Multiaddr>,
    /// An address under which others reach this machine [settings: network.external].
    #[arg(
        long,
        env = "WEAL_EXTERNAL",
        value_delimiter = ',',
        value_name = "MULTIADDR"
    )]
    external: Vec<Multiaddr>,
    /// Do not look for peers on the local network [settings: network.mdns].
    #[arg(long, env = "WEAL_NO_MDNS")]
    no_mdns: bool,
    /// The most bytes of contributions and weights sent each second; 0: no limit
    /// [settings: network.max_upload].
    #[arg(long, env = "WEAL_MAX_UPLOAD", value_name = "BYTES")]
    max_upload: Option<u64>,
    /// The most bytes of contributions and weights received each second; 0: no limit [settings:
    /// network.max_download].
    #[arg(long, env = "WEAL_MAX_DOWNLOAD", value_name = "BYTES")]
    max_download: Option<u64>,
    /// Address of the page, /metrics and /api [settings: page.listen].
    #[arg(long, env = "WEAL_PAGE", value_name = "ADDRESS")]
    page: Option<SocketAddr>,
    /// The device that trains: auto, cpu, gpu or gpu:<number> [settings: compute.device].
    #[arg(long, env = "WEAL_DEVICE")]
    device: Option<Device>,
    /// Threads on the processor; 0 is one for each core [settings: compute.threads].
    #[arg(long, env = "WEAL_THREADS")]
    threads: Option<usize>,
    /// The most memory that training may take, e.g. "6 GB": of the GPU's, or of the machine's
    /// [settings: compute.memory].
    #[arg(long, env = "WEAL_MEMORY", value_name = "BYTES")]
    memory: Option<Auto<Bytes>>,
    /// Stop training after so many decided rounds; go on answering others.
    #[arg(long, env = "WEAL_ROUNDS")]
    pub(super) rounds: Option<u64>,
}

impl NodeArgs {
    /// The folder's settings, written where there are none, with these flags over them.
    pub(super) fn settings(&self, folder: &Folder) -> Result<Settings> {
        Ok(self.over(Settings::load_or_write(folder, &Settings::default())?))
    }

    /// Settings with these flags over them.
    pub(super) fn over(&self, mut settings: Settings) -> Settings {
        let network = &mut settings.network;
        if let Some(port) = self.port {
            network.listen = NetworkSettings::on_port(port).listen;
        }
        network.bootstrap.extend(self.bootstrap.iter().cloned());
        network.external.extend(self.external.iter().cloned());
        network.mdns &= !self.no_mdns;
        if let Some(limit) = self.max_upload {
            network.max_upload = limit;
        }
        if let Some(limit) = self.max_download {
            network.max_download = limit;
        }
        if let Some(page) = self.page {
            settings.page.listen = page;
        }
        if let Some(device) = self.device {
            settings.compute.device = device;
        }
        if let Some(threads) = self.threads {
            settings.compute.threads = threads;
        }
        if let Some(memory) = self.memory {
            settings.compute.memory = memory;
        }
        settings
    }
}

/// Sets the threads that training and hashing share.
pub(super) fn set_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| Error::internal(format!("threads cannot be started: {error}")))
}

/// Takes part until told to stop.
pub(super) async fn take_part(options: Options) -> Result<()> {
    let stop = super::stop_signal()?;
    let daemon = daemon::open(options).await?;
    eprintln!("page: http://{}/", daemon.page());
    daemon.run(stop).await
}
