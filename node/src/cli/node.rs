//! Flags that `weal run`, `weal join` and `weal doctor` share. They override `settings.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use libp2p::Multiaddr;

use crate::daemon::{self, Options};
use crate::error::Result;
use crate::folder::Folder;
use crate::settings::{
    Addresses, Auto, ByteCount, Bytes, Device, NetworkSettings, Settings, flag_help,
};
use crate::signals;
use crate::terminal::say;

/// How this machine takes part.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// Listen for peers on this port: QUIC (UDP) and TCP, on every interface [settings:
    /// network.listen].
    #[arg(long, env = "WEAL_PORT", hide_env_values = true)]
    port: Option<u16>,
    /// Connect to this peer too; repeat the flag for more [settings: network.bootstrap].
    #[arg(
        long,
        env = "WEAL_BOOTSTRAP",
        hide_env_values = true,
        value_name = "MULTIADDR"
    )]
    bootstrap: Vec<Addresses>,
    /// Tell peers that this address reaches this machine; repeat the flag for more [settings:
    /// network.external].
    #[arg(
        long,
        env = "WEAL_EXTERNAL",
        hide_env_values = true,
        value_name = "MULTIADDR"
    )]
    external: Vec<Addresses>,
    /// Do not look for peers on the local network [settings: network.mdns].
    #[arg(long, env = "WEAL_NO_MDNS", hide_env_values = true,
        value_parser = BoolishValueParser::new())]
    no_mdns: bool,
    #[arg(long, help = flag_help("network.max_upload"), env = "WEAL_MAX_UPLOAD",
        hide_env_values = true, value_name = "BYTES")]
    max_upload: Option<ByteCount>,
    #[arg(long, help = flag_help("network.max_download"), env = "WEAL_MAX_DOWNLOAD",
        hide_env_values = true, value_name = "BYTES")]
    max_download: Option<ByteCount>,
    #[arg(long, help = flag_help("network.max_upload_per_month"),
        env = "WEAL_MAX_UPLOAD_PER_MONTH", hide_env_values = true, value_name = "BYTES")]
    max_upload_per_month: Option<ByteCount>,
    #[arg(long, help = flag_help("network.max_download_per_month"),
        env = "WEAL_MAX_DOWNLOAD_PER_MONTH", hide_env_values = true, value_name = "BYTES")]
    max_download_per_month: Option<ByteCount>,
    #[arg(long, help = flag_help("page.listen"), env = "WEAL_PAGE", hide_env_values = true,
        value_name = "ADDRESS")]
    page: Option<SocketAddr>,
    #[arg(long, help = flag_help("page.password_file"), env = "WEAL_PAGE_PASSWORD_FILE",
        hide_env_values = true, value_name = "FILE")]
    page_password_file: Option<PathBuf>,
    #[arg(long, help = flag_help("compute.device"), env = "WEAL_DEVICE",
        hide_env_values = true)]
    device: Option<Device>,
    #[arg(long, help = flag_help("compute.threads"), env = "WEAL_THREADS",
        hide_env_values = true)]
    threads: Option<usize>,
    #[arg(long, help = flag_help("compute.memory"), env = "WEAL_MEMORY", hide_env_values = true,
        value_name = "BYTES")]
    memory: Option<Auto<Bytes>>,
    /// Stop training after this many decided rounds, but keep serving peers.
    #[arg(long, env = "WEAL_ROUNDS", hide_env_values = true)]
    pub(super) rounds: Option<u64>,
}

impl NodeArgs {
    /// The folder's settings, overridden by these flags. Writes the defaults if there are none.
    pub(super) fn settings(&self, folder: &Folder) -> Result<Settings> {
        Ok(self.override_settings(Settings::load_or_write(folder, &Settings::default())?))
    }

    /// Settings overridden by these flags.
    pub(super) fn override_settings(&self, mut settings: Settings) -> Settings {
        let network = &mut settings.network;
        if let Some(port) = self.port {
            network.listen = NetworkSettings::on_port(port).listen;
        }
        network.bootstrap.extend(all(&self.bootstrap));
        network.external.extend(all(&self.external));
        for addresses in [&mut network.bootstrap, &mut network.external] {
            addresses.retain(|address| !address.is_empty());
        }
        network.mdns &= !self.no_mdns;
        if let Some(limit) = self.max_upload {
            network.max_upload = limit;
        }
        if let Some(limit) = self.max_download {
            network.max_download = limit;
        }
        if let Some(limit) = self.max_upload_per_month {
            network.max_upload_per_month = limit;
        }
        if let Some(limit) = self.max_download_per_month {
            network.max_download_per_month = limit;
        }
        if let Some(page) = self.page {
            settings.page.listen = page;
        }
        if let Some(file) = &self.page_password_file {
            // A flag means a file in the working folder.
            let is_given = !file.as_os_str().is_empty();
            let path = std::path::absolute(file).ok().filter(|_| is_given);
            settings.page.password_file = path.unwrap_or_else(|| file.clone());
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

fn all(lists: &[Addresses]) -> impl Iterator<Item = Multiaddr> {
    lists
        .iter()
        .flat_map(|Addresses(list)| list.iter().cloned())
}

/// Runs the node until Ctrl-C. While it starts, Ctrl-C ends it at once.
pub(super) async fn take_part(options: Options) -> Result<()> {
    let is_shown = options.dashboard.is_some();
    let daemon = daemon::open(options).await?;
    let stop = signals::stop_gracefully();
    if !is_shown {
        say!("page: http://{}/", daemon.page());
    }
    daemon.run(stop).await
}
