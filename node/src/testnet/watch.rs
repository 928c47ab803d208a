//! Follows the rounds of a testnet through the nodes' pages: a line per round on the terminal, and
//! a summary for programs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::watch;
use weal_dashboard::{RoundRecord, Snapshot};

use crate::error::{Error, Result};
use crate::status_client;
use crate::terminal::say;
use crate::testnet::prepare::PreparedNode;
use crate::testnet::processes::Processes;

/// Time between two looks at each node.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait for the held-out loss of the last round.
const LAST_LOSS_TIMEOUT: Duration = Duration::from_secs(120);

/// Summary of a testnet, which `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// Seconds from the start of the nodes to the end of the testnet.
    pub seconds: f64,
    /// Seconds from the start of the nodes until a node reported the first decided round.
    pub seconds_to_first_round: Option<f64>,
    /// Fraction of a round that a peer spends on inner steps; mean over peers and rounds.
    pub compute_share: f64,
    /// Losses of simple text models to compare with, in nats per byte.
    pub floors: BTreeMap<String, f64>,
    /// The rounds that every node has decided.
    pub rounds: Vec<RoundSummary>,
}

/// One decided round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RoundSummary {
    /// Number of the round.
    pub round: u64,
    /// Held-out loss after the round, in nats per byte.
    pub heldout_loss: Option<f64>,
    /// Contributions applied.
    pub contributions: u64,
    /// Bytes sent by all peers together.
    pub bytes_sent: u64,
    /// Seconds the round took at the first node.
    pub seconds: f64,
    /// Seconds from the start of the nodes until all of them reported the round as decided.
    pub at_seconds: f64,
    /// State root after the round, by peer.
    pub roots: BTreeMap<String, String>,
}

/// Follows a network until a number of rounds is decided, or until Ctrl-C.
pub(crate) struct Watcher<'a> {
    nodes: &'a [PreparedNode],
    rounds: Option<u64>,
    started: Instant,
    bar: ProgressBar,
    records: BTreeMap<u64, BTreeMap<String, RoundRecord>>,
    seen_at: BTreeMap<u64, f64>,
    printed: BTreeMap<u64, Printed>,
    first_round: Option<f64>,
    floors: BTreeMap<String, f64>,
}

/// How much of a round has been printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    Decided,
    Loss,
}

impl<'a> Watcher<'a> {
    /// Starts the clock of the summary.
    pub(crate) fn new(nodes: &'a [PreparedNode], rounds: Option<u64>) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            nodes,
            rounds,
            started: Instant::now(),
            bar,
            records: BTreeMap::new(),
            seen_at: BTreeMap::new(),
            printed: BTreeMap::new(),
            first_round: None,
            floors: BTreeMap::new(),
        }
    }

    /// Prints a line for each decided round until the last one.
    ///
    /// # Errors
    /// When a node stops by itself, or two nodes hold different weights after the same round.
    pub(crate) async fn follow(
        &mut self,
        processes: &mut Processes,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        let mut complete_since = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            processes.check()?;
            for node in self.nodes {
                let page = node.page;
                let answer = tokio::task::spawn_blocking(move || status_client::status(page)).await;
                if let Ok(Ok(snapshot)) = answer {
                    self.take(&node.peer.to_string(), snapshot);
                }
            }
            self.print_new_rounds()?;
            if self.is_complete() {
                let since = *complete_since.get_or_insert_with(Instant::now);
                if self.has_last_loss() || since.elapsed() > LAST_LOSS_TIMEOUT {
                    break;
                }
            }
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    fn take(&mut self, peer: &str, snapshot: Snapshot) {
        if self
            .nodes
            .first()
            .is_some_and(|first| first.peer.to_string() == peer)
        {
            self.bar.set_message(snapshot.node.message.clone());
            self.floors = snapshot
                .floors
                .into_iter()
                .map(|floor| (floor.name, floor.nats_per_byte))
                .collect();
        }
        for record in snapshot.history {
            self.first_round
                .get_or_insert_with(|| self.started.elapsed().as_secs_f64());
            self.records
                .entry(record.round)
                .or_default()
                .insert(peer.to_owned(), record);
        }
    }

    fn print_new_rounds(&mut self) -> Result<()> {
        let mut lines = Vec::new();
        for (round, records) in &self.records {
            if records.len() < self.nodes.len() {
                continue;
            }
            self.seen_at
                .entry(*round)
                .or_insert_with(|| self.started.elapsed().as_secs_f64());
            let mut roots = records.values().map(|record| &record.root);
            let first = roots.next();
            if roots.any(|root| Some(root) != first) {
                let roots: Vec<_> = records
                    .iter()
                    .map(|(peer, record)| format!("{peer} {}", record.root))
                    .collect();
                return Err(Error::internal(format!(
                    "peers hold different weights after round {round}:\n{}",
                    roots.join("\n")
                )));
            }
            let loss = records
                .values()
                .find_map(|record| record.heldout_nats_per_byte);
            let state = if loss.is_some() {
                Printed::Loss
            } else {
                Printed::Decided
            };
            if self.printed.get(round) == Some(&state)
                || self.printed.get(round) == Some(&Printed::Loss)
            {
                continue;
            }
            if let Some(line) = self.line(*round, records, loss) {
                lines.push(line);
            }
            self.printed.insert(*round, state);
        }
        for line in lines {
            // To standard error, so that --json leaves standard output to the summary.
            self.bar.suspend(|| say!("{line}"));
        }
        Ok(())
    }

    /// The line of a round whose loss is known.
    fn line(
        &self,
        round: u64,
        records: &BTreeMap<String, RoundRecord>,
        loss: Option<f64>,
    ) -> Option<String> {
        let loss = loss?;
        let record = records.values().next()?;
        let sent: u64 = records.values().map(|record| record.bytes_sent).sum();
        let beaten: Vec<_> = self
            .floors
            .iter()
            .filter(|(_, floor)| loss < **floor)
            .map(|(name, _)| name.as_str())
            .collect();
        let beaten = if beaten.is_empty() {
            String::new()
        } else {
            format!("  below {}", beaten.join(", "))
        };
        Some(format!(
            "round {round:>4}  loss {loss:.4}  {} contributions  {:>5.1} s  {:>6.1} kB sent  \
             root {}{beaten}",
            record.contributions,
            record.seconds,
            sent as f64 / 1e3,
            record.root.get(..8).unwrap_or_default(),
        ))
    }

    fn complete_rounds(&self) -> impl Iterator<Item = (&u64, &BTreeMap<String, RoundRecord>)> {
        self.records
            .iter()
            .filter(|(_, records)| records.len() == self.nodes.len())
    }

    fn is_complete(&self) -> bool {
        self.rounds
            .is_some_and(|rounds| self.complete_rounds().any(|(round, _)| round + 1 >= rounds))
    }

    fn has_last_loss(&self) -> bool {
        let last = self.complete_rounds().last();
        last.is_some_and(|(_, records)| {
            records
                .values()
                .any(|record| record.heldout_nats_per_byte.is_some())
        })
    }

    /// Sums up the rounds that every node has decided.
    pub(crate) fn summary(&self) -> Summary {
        let rounds = self
            .complete_rounds()
            .map(|(round, records)| self.round_summary(*round, records))
            .collect();
        let shares: Vec<f64> = self
            .complete_rounds()
            .flat_map(|(_, records)| records.values())
            .filter(|record| record.seconds > 0.0)
            .map(|record| record.phases.train / record.seconds)
            .collect();
        Summary {
            seconds: self.started.elapsed().as_secs_f64(),
            seconds_to_first_round: self.first_round,
            compute_share: shares.iter().sum::<f64>() / shares.len().max(1) as f64,
            floors: self.floors.clone(),
            rounds,
        }
    }

    fn round_summary(&self, round: u64, records: &BTreeMap<String, RoundRecord>) -> RoundSummary {
        let first = self
            .nodes
            .first()
            .and_then(|node| records.get(&node.peer.to_string()));
        RoundSummary {
            round,
            heldout_loss: records
                .values()
                .find_map(|record| record.heldout_nats_per_byte),
            contributions: first.map_or(0, |record| record.contributions),
            bytes_sent: records.values().map(|record| record.bytes_sent).sum(),
            seconds: first.map_or(0.0, |record| record.seconds),
            at_seconds: self.seen_at.get(&round).copied().unwrap_or_default(),
            roots: records
                .iter()
                .map(|(peer, record)| (peer.clone(), record.root.clone()))
                .collect(),
        }
    }
}

impl Summary {
    /// Prints the main figures on standard error.
    pub(crate) fn print(&self) {
        let last = self
            .rounds
            .iter()
            .rev()
            .find_map(|round| round.heldout_loss);
        say!(
            "{} rounds in {:.0} s, the first after {:.1} s",
            self.rounds.len(),
            self.seconds,
            self.seconds_to_first_round.unwrap_or_default()
        );
        say!(
            "peers spent {:.0} % of the time on inner steps",
            self.compute_share * 100.0
        );
        if let Some(last) = last {
            say!("held-out loss {last:.4} nats per byte");
        }
        for (name, nats) in &self.floors {
            say!("  {name}: {nats:.4}");
        }
    }
}
