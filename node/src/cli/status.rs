//! `weal status`: shows what a running node is doing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weal_dashboard::{MonthTraffic, NodeState, Snapshot};
use weal_trainer::format_bytes;

use super::args::{FolderArgs, JsonArgs, print_json};
use crate::error::{ErrorKind, Result};
use crate::link::RunLink;
use crate::page_password::read_password;
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
    /// File with the page's password. By default the one in the folder's settings, if the page is
    /// on this machine.
    #[arg(
        long,
        env = "WEAL_PAGE_PASSWORD_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    page_password_file: Option<PathBuf>,
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
        let (page, password) = self.page()?;
        let snapshot = status_client::status_with(page, password.as_deref())?;
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

impl StatusArgs {
    /// The address to ask, and the password to say there. That in the folder's settings is said to
    /// this machine only.
    fn page(&self) -> Result<(SocketAddr, Option<String>)> {
        let settings = || -> Result<_> {
            let folder = self.folder.folder()?;
            Ok((Settings::read(&folder)?.page, folder))
        };
        let page = match self.page {
            Some(page) => page,
            None => settings()?.0.listen,
        };
        let page = reachable(page);
        let password = match &self.page_password_file {
            Some(file) if !file.as_os_str().is_empty() => Some(read_password(file)?),
            _ if self.page.is_none() || page.ip().is_loopback() => {
                let (settings, folder) = settings()?;
                settings.password(&folder)?
            }
            _ => None,
        };
        Ok((page, password))
    }
}

/// The address to ask: loopback if the page listens on every interface.
fn reachable(mut page: SocketAddr) -> SocketAddr {
    if page.ip().is_unspecified() {
        page.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    page
}

/// What was sent and received in a month.
fn of_month(month: &MonthTraffic) -> String {
    let used = |bytes: u64, most: u64| match most {
        0 => format_bytes(bytes),
        most => format!("{} of {}", format_bytes(bytes), format_bytes(most)),
    };
    format!(
        "{} sent, {} received in {} (UTC)",
        used(month.bytes_sent, month.max_bytes_sent),
        used(month.bytes_received, month.max_bytes_received),
        month.month
    )
}

fn print(snapshot: &Snapshot) -> Result<()> {
    let Snapshot {
        run,
        node,
        history,
        peers,
        month,
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
    if !month.month.is_empty() {
        print_line!("month    {}", of_month(month))?;
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
