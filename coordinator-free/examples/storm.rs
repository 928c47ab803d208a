//! Plays many simulated runs in parallel, and sums up what happened.
//!
//! ```text
//! cargo run --release -p weal-coordinator-free --example storm -- swarm 0 1000
//! cargo run --release -p weal-coordinator-free --example storm -- stormy 0 200
//! cargo run --release -p weal-coordinator-free --example storm -- hurricane 3 4
//! ```
//!
//! A single seed prints everything about its run, and its trace hash.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use weal_coordinator_free::sim::{Outcome, Scenario, Violation, run};

/// What a sweep over many seeds showed.
#[derive(Default)]
struct Summary {
    runs: u64,
    violations: BTreeMap<&'static str, Vec<u64>>,
    rounds: u64,
    virtual_ms: u64,
    delivered: u64,
    crashes: u64,
    failed_writes: u64,
    contradictions_after_loss: u64,
    honest_committed: u64,
    honest_chosen: u64,
    early_reveals: u64,
    banned: u64,
}

impl Summary {
    fn add(&mut self, seed: u64, result: &Result<Outcome, Violation>) {
        self.runs += 1;
        match result {
            Ok(outcome) => {
                self.rounds += outcome.rounds;
                self.virtual_ms += outcome.virtual_ms;
                self.delivered += outcome.delivered;
                self.crashes += outcome.crashes;
                self.failed_writes += outcome.failed_writes;
                self.contradictions_after_loss += outcome.contradictions_after_loss;
                self.honest_committed += outcome.honest_committed;
                self.honest_chosen += outcome.honest_chosen;
                self.early_reveals += outcome.early_reveals;
                self.banned += outcome.banned.len() as u64;
            }
            Err(violation) => {
                println!("seed {seed}: {violation}");
                self.violations
                    .entry(name(violation))
                    .or_default()
                    .push(seed);
            }
        }
    }

    fn print(&self, seconds: f32) {
        let count = |name| self.violations.get(name).map_or(0, Vec::len);
        println!(
            "{} runs: {} forks, {} equivocations, {} stuck, {} other violations",
            self.runs,
            count("fork"),
            count("equivocation"),
            count("stuck"),
            count("other"),
        );
        println!(
            "{} rounds decided in {} h of virtual time, {} messages, {} crashes, {} failed \
             writes, {} liars banned",
            self.rounds,
            self.virtual_ms / 3_600_000,
            self.delivered,
            self.crashes,
            self.failed_writes,
            self.banned
        );
        let share = (self.honest_chosen * 1_000).checked_div(self.honest_committed);
        println!(
            "{} of {} honest contributions chosen ({} per mille), {} revealed early, \
             {} contradictions after a disk was lost",
            self.honest_chosen,
            self.honest_committed,
            share.unwrap_or(0),
            self.early_reveals,
            self.contradictions_after_loss
        );
        println!("{seconds:.1} s");
    }
}

const fn name(violation: &Violation) -> &'static str {
    match violation {
        Violation::Fork(_) | Violation::Weights(_) => "fork",
        Violation::Contradiction { .. } => "equivocation",
        Violation::Stuck { .. } | Violation::Stalled { .. } => "stuck",
        _ => "other",
    }
}

fn scenario(kind: &str, seed: u64) -> Option<Scenario> {
    Some(match kind {
        "calm" => Scenario::calm(seed, 10),
        "stormy" => Scenario::stormy(seed),
        "hurricane" => Scenario::hurricane(seed),
        "swarm" => Scenario::swarm(seed),
        _ => return None,
    })
}

/// Plays the seeds on all processors.
fn sweep(kind: &str, seeds: std::ops::Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenario(kind, seed).filter(|_| seed < seeds.end) else {
                return;
            };
            let result = run(&scenario);
            if let Ok(mut summary) = summary.lock() {
                summary.add(seed, &result);
            }
        }
    };
    scope(|threads| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            threads.spawn(work);
        }
    });
    summary.into_inner().unwrap_or_default()
}

/// Plays one seed and prints everything about it. Two runs of one seed print the same.
fn show(scenario: &Scenario) {
    println!("{scenario:#?}");
    match run(scenario) {
        Ok(outcome) => println!("{outcome:#?}"),
        Err(violation) => println!("{violation}"),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| arguments.get(place)?.parse::<u64>().ok();
    let kind = arguments.first().map_or("", String::as_str);
    let (Some(first), Some(from), Some(to)) = (scenario(kind, 0), number(1), number(2)) else {
        eprintln!("usage: storm calm|stormy|hurricane|swarm FIRST_SEED END_SEED");
        return ExitCode::from(2);
    };
    if to == from + 1 {
        show(&scenario(kind, from).unwrap_or(first));
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let summary = sweep(kind, from..to);
    summary.print(started.elapsed().as_secs_f32());
    if summary.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
