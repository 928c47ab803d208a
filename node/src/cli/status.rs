//! `weal status`: asks a running node what it is doing.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use weal_dashboard::{NodeState, Snapshot};

use super::FolderArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;
use crate::status_client;

/// Exit code of `--healthy` when the node answers, but takes no part (yet).
const UNHEALTHY: u8 = 1;

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Address of the node's page; by default the one in the folder's settings.
    #[arg(long, env = "WEAL_PAGE", value_name = "ADDRESS")]
    page: Option<SocketAddr>,
    /// Everything, as JSON.
    #[arg(long)]
    json: bool,
    /// Print nothing; succeed only when the node takes part in rounds.
    #[arg(long)]
    healthy: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl StatusArgs {
    pub fn run(self) -> Result<ExitCode> {
        let page = match self.page {
            Some(page) => page,
            None => Settings::read(&self.folder.folder())?.page.listen,
        };
        let snapshot = status_client::status(local(page)).map_err(|error| {
            error.with_hint("start the node, or give the address of its page with --page")
        })?;
        if self.healthy {
            let takes_part = matches!(
                snapshot.node.state,
                NodeState::Training | NodeState::Waiting
            );
            return Ok(ExitCode::from(if takes_part { 0 } else { UNHEALTHY }));
        }
        if self.json {
            let json = serde_json::to_string_pretty(&snapshot)
                .map_err(|error| Error::of(ErrorKind::Internal, error))?;
            println!("{json}");
        } else {
            print(&snapshot);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A page that listens everywhere is asked on loopback.
fn local(mut page: SocketAddr) -> SocketAddr {
    if page.ip().is_unspecified() {
        page.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    page
}

fn print(snapshot: &Snapshot) {
    let Snapshot {
        run,
        node,
        history,
        peers,
        ..
    } = snapshot;
    println!(
        "run      {} ({} parameters, {})",
        run.name, run.parameters, run.model
    );
    println!("state    {}", node.message);
    println!("device   {}", node.device);
    let connected = peers.iter().filter(|peer| peer.connected).count();
    println!(
        "peers    {connected} here, {} vote",
        peers.iter().filter(|peer| peer.voter).count()
    );
    if let Some(last) = history.last() {
        let loss = history
            .iter()
            .rev()
            .find_map(|record| record.heldout_nats_per_byte);
        let loss = loss.map_or_else(
            || "not measured".into(),
            |loss| format!("{loss:.4} nats per byte"),
        );
        println!(
            "last     round {}: {} contributions in {:.1} s",
            last.round, last.contributions, last.seconds
        );
        println!("loss     {loss} (held out)");
        println!("root     {}", last.root);
    }
    println!("invite   {}", run.link);
}
