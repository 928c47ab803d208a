//! `weal status`: shows what a running node is doing.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use weal_dashboard::{NodeState, Snapshot};

use super::args::{FolderArgs, JsonArgs, print_json};
use crate::error::{ErrorKind, Result};
use crate::link::RunLink;
use crate::settings::Settings;
use crate::status_client;
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Address of the node's page. By default the one in the folder's settings.
    #[arg(
        long,
        env = "WEAL_PAGE",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    page: Option<SocketAddr>,
    /// Print nothing. Exit with code 0 if the node takes part in rounds, and with code 12 if it
    /// does not.
    #[arg(long)]
    healthy: bool,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let page = match self.page {
            Some(page) => page,
            None => Settings::read(&self.folder.folder()?)?.page.listen,
        };
        let snapshot = status_client::status(reachable(page)).map_err(|error| {
            error.with_hint("is it running? If its page has another address, give it with --page")
        })?;
        if self.healthy {
            let takes_part = matches!(
                snapshot.node.state,
                NodeState::Training | NodeState::Waiting
            );
            return Ok(if takes_part {
                ExitCode::SUCCESS
            } else {
                ErrorKind::Unhealthy.into()
            });
        }
        if self.json.json {
            print_json(&snapshot)?;
        } else {
            print(&snapshot)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The address to ask: loopback if the page listens on every interface.
fn reachable(mut page: SocketAddr) -> SocketAddr {
    if page.ip().is_unspecified() {
        page.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    page
}

fn print(snapshot: &Snapshot) -> Result<()> {
    let Snapshot {
        run,
        node,
        history,
        peers,
        ..
    } = snapshot;
    print_line!(
        "run      {} ({} parameters, {})",
        run.name,
        run.parameters,
        run.model
    )?;
    print_line!("state    {}", node.message)?;
    print_line!("device   {}", node.device)?;
    let connected = peers.iter().filter(|peer| peer.connected).count();
    print_line!(
        "peers    {connected} connected, {} voters",
        peers.iter().filter(|peer| peer.voter).count()
    )?;
    print_line!("reach    {}", node.reachability)?;
    if !node.reachability_advice.is_empty() {
        print_line!("         hint: {}", node.reachability_advice)?;
    }
    if let Some(last) = history.last() {
        let loss = history
            .iter()
            .rev()
            .find_map(|record| record.heldout_nats_per_byte);
        let loss = loss.map_or_else(
            || "not measured".into(),
            |loss| format!("{loss:.4} nats per byte"),
        );
        print_line!(
            "last     round {}: {} contributions in {:.1} s",
            last.round,
            last.contributions,
            last.seconds
        )?;
        print_line!("loss     {loss} (held out)")?;
        print_line!("root     {}", last.root)?;
    }
    print_line!("invite   {}", run.link)?;
    match run
        .link
        .parse::<RunLink>()
        .ok()
        .and_then(|link| link.warning())
    {
        Some(warning) => print_line!("         {warning}"),
        None => Ok(()),
    }
}
