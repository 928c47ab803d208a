//! `weal status`: shows what a running node is doing.

use std::process::ExitCode;

use clap::Args;
use weal_dashboard::{MonthTraffic, NodeState, Snapshot};
use weal_trainer::format_bytes;

use super::args::{FolderArgs, JsonArgs, print_json};
use super::page_args::PageArgs;
use crate::error::{ErrorKind, Result};
use crate::link::RunLink;
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    page: PageArgs,
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
        let snapshot = self.page.status(&self.folder)?;
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
