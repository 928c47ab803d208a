//! `weal sim`: plays a whole run in virtual time, with dishonest peers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use weal_simulator::{BEHAVIOURS, Conditions, Options, Played, Summary, parse_mix, play, report};

use super::args::{JsonArgs, print_json};
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::print_line;

/// What the network between the peers is like.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum NetworkKind {
    /// Latencies of 10 to 150 ms, and nothing is lost.
    Good,
    /// Latencies of up to 900 ms, 10 Mbit/s up and 50 Mbit/s down.
    Slow,
    /// One message in ten is lost.
    Lossy,
    /// Two of five peers are cut off for half a minute, twice.
    Split,
}

#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// Number of peers, dishonest ones included. All of them are founders.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    peers: u16,
    /// The dishonest peers among them, as behaviour=count, separated by commas.
    #[arg(long, value_name = "MIX")]
    dishonest: Option<String>,
    /// Number of rounds to play.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rounds: u64,
    /// Seed of everything that is random. The same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the network between the peers is like.
    #[arg(long, value_enum, default_value_t = NetworkKind::Good)]
    network: NetworkKind,
    /// Let a quarter of the honest peers leave, one after the other, and return.
    #[arg(long)]
    churn: bool,
    /// Write a report with plots to this file, as one HTML page.
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
    /// List the behaviours of dishonest peers and exit.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    json: JsonArgs,
}

impl SimArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.list {
            for behaviour in BEHAVIOURS {
                print_line!("{:<18}{}", behaviour.name, behaviour.does)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let options = self.options()?;
        let bar = bar(2 * options.rounds);
        let played = play_with_bar(&options, &bar, 0)?;
        let alone = play_with_bar(&options.honest_only(), &bar, options.rounds)?;
        bar.finish_and_clear();
        let summary = Summary::of(&played, &alone);
        if let Some(path) = &self.report {
            std::fs::write(path, report(&played, &alone)).map_err(|error| {
                Error::of(ErrorKind::Usage, error).context(format!("writing {}", path.display()))
            })?;
        }
        if self.json.json {
            print_json(&summary)?;
        } else {
            print(&summary)?;
        }
        let failed = summary.forks + summary.equivocations > 0 || summary.violation.is_some();
        Ok(ExitCode::from(u8::from(failed)))
    }

    fn options(&self) -> Result<Options> {
        let dishonest =
            parse_mix(self.dishonest.as_deref().unwrap_or_default()).map_err(|error| {
                Error::usage(format!("--dishonest: {error}"))
                    .with_hint("`weal sim --list` shows the behaviours; write sign-flip=2,noise=2")
            })?;
        let options = Options {
            peers: self.peers.into(),
            dishonest,
            rounds: self.rounds,
            seed: self.seed,
            conditions: match self.network {
                NetworkKind::Good => Conditions::Good,
                NetworkKind::Slow => Conditions::Slow,
                NetworkKind::Lossy => Conditions::Lossy,
                NetworkKind::Split => Conditions::Split,
            },
            churn: self.churn,
        };
        let checked = options.check();
        checked.map_err(|error| Error::usage(format!("--dishonest: {error}")))?;
        Ok(options)
    }
}

fn bar(rounds: u64) -> ProgressBar {
    let bar = ProgressBar::new(rounds);
    let style = ProgressStyle::with_template("simulating {bar:30} {pos} of {len} rounds ({eta})");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn play_with_bar(options: &Options, bar: &ProgressBar, before: u64) -> Result<Played> {
    let (shown, rounds) = (bar.clone(), options.rounds);
    play(options, move |round| {
        shown.set_position(before + round.min(rounds))
    })
    .map_err(|error| Error::of(ErrorKind::Internal, error))
}

fn print(summary: &Summary) -> Result<()> {
    let loss = |loss: Option<f64>| loss.map_or("unknown".into(), |loss| format!("{loss:.4}"));
    print_line!(
        "{} peers, {} rounds decided, {} forks, {} equivocations of honest peers",
        summary.peers,
        summary.rounds_decided,
        summary.forks,
        summary.equivocations
    )?;
    if let Some(violation) = &summary.violation {
        print_line!("the run failed: {violation}")?;
    }
    print_line!(
        "held-out loss {}; {} with the honest peers alone",
        loss(summary.final_loss),
        loss(summary.final_loss_honest_only)
    )?;
    print_line!(
        "{:.2} % of honest contributions rejected, {} bytes sent per peer and round",
        100.0 * summary.honest_rejected_share,
        summary.bytes_per_peer_round
    )?;
    for (name, credit) in &summary.credit {
        let weight = summary.weight.get(name).copied().unwrap_or(0.0);
        print_line!(
            "{name:<18}credit {:6.1} % of an honest peer's, {:5.1} % of the votes together",
            100.0 * credit,
            100.0 * weight
        )?;
    }
    Ok(())
}
