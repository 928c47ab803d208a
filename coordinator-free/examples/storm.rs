//! Plays stormy runs and prints what they showed: `cargo run -p weal-coordinator-free --example storm -- 0 200`.

use std::time::Instant;

use weal_coordinator_free::sim::{Scenario, run};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let (from, to) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(10));
    let started = Instant::now();
    let (mut crashes, mut later, mut synced, mut banned, mut repaired) = (0, 0, 0, 0, 0);
    for seed in from..to {
        match run(&Scenario::stormy(seed)) {
            Ok(outcome) => {
                crashes += outcome.crashes;
                later += outcome.later_views;
                synced += outcome.synced;
                banned += outcome.banned.len();
                repaired += outcome.repaired;
                let dropped = &outcome.dropped;
                println!(
                    "{seed}: {} s, {} contributions, {} voters, {dropped:?}",
                    outcome.virtual_ms / 1000,
                    outcome.contributions,
                    outcome.voters
                );
            }
            Err(violation) => println!("{seed}: {violation}"),
        }
    }
    let seconds = started.elapsed().as_secs_f32();
    println!("{crashes} crashes, {later} later views, {synced} synced, {banned} banned, {repaired} repaired, {seconds} s");
}
