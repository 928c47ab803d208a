//! Plays simulated runs and prints one line for each: its trace hash, and what happened.
//!
//! ```text
//! cargo run -p weal-coordinator-free --example storm -- stormy 0 200
//! cargo run -p weal-coordinator-free --example storm -- hurricane 0 100
//! ```

use std::process::ExitCode;
use std::time::Instant;

use weal_coordinator_free::sim::{Outcome, Scenario, run};

/// The first bytes of the trace hash: two runs of one seed print the same.
fn trace(outcome: &Outcome) -> String {
    let bytes = outcome.trace.iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| {
        arguments
            .get(place)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let (Some(kind), Some(from), Some(to)) = (arguments.first(), number(1), number(2)) else {
        eprintln!("usage: storm calm|stormy|hurricane FIRST_SEED END_SEED");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let mut violations = 0;
    for seed in from..to {
        let scenario = match kind.as_str() {
            "calm" => Scenario::calm(seed, 10),
            "hurricane" => Scenario::hurricane(seed),
            _ => Scenario::stormy(seed),
        };
        match run(&scenario) {
            Ok(o) => println!(
                "{seed}: trace {}, {} s of virtual time, {} messages, {} crashes, \
                 {} rounds decided in later views, {} learnt from others, {} peers banned, \
                 {} weights fetched, {} contributions, {} voters",
                trace(&o),
                o.virtual_ms / 1000,
                o.delivered,
                o.crashes,
                o.later_views,
                o.synced,
                o.banned.len(),
                o.weights_fetched,
                o.contributions,
                o.voters
            ),
            Err(violation) => {
                violations += 1;
                println!("{seed}: {violation}");
            }
        }
    }
    println!(
        "{} runs, {violations} violations, {:.1} s",
        to.saturating_sub(from),
        started.elapsed().as_secs_f32()
    );
    if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
