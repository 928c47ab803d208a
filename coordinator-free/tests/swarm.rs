//! A few runs with a mix of faults drawn from their seeds. The example `storm` plays as many as one
//! likes, and also counts those that decide too little.
#![allow(clippy::panic)]

use weal_coordinator_free::sim::{Scenario, Violation, run};
use weal_testing::require::full;

/// Half an hour of virtual time.
const SHORT_MS: u64 = 30 * 60 * 1_000;

#[test]
fn a_mix_of_faults_never_forks_a_run() {
    let seeds = if full() { 1_000..2_000 } else { 1_000..1_008 };
    for seed in seeds {
        let scenario = Scenario {
            give_up_after_ms: SHORT_MS,
            ..Scenario::swarm(seed)
        };
        match run(&scenario) {
            Ok(_) | Err(Violation::Stuck { .. } | Violation::Stalled { .. }) => {}
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
}

#[test]
fn a_mix_of_faults_is_the_same_when_it_is_played_again() {
    let scenario = Scenario {
        give_up_after_ms: SHORT_MS,
        ..Scenario::swarm(1_001)
    };
    assert_eq!(run(&scenario), run(&scenario));
}

#[test]
fn seeds_differ_in_size_faults_and_liars() {
    let all: Vec<_> = (0..50).map(Scenario::swarm).collect();
    let some_but_not_all = |has: fn(&Scenario) -> bool| {
        let count = all.iter().filter(|scenario| has(scenario)).count();
        assert!((5..=45).contains(&count), "{count} of 50");
    };
    some_but_not_all(|scenario| scenario.crash_ppm > 0);
    some_but_not_all(|scenario| scenario.liars.is_empty());
    some_but_not_all(|scenario| scenario.network.loss_ppm > 0);
    some_but_not_all(|scenario| scenario.network.uplink_bits_per_s > 0);
    some_but_not_all(|scenario| scenario.disk_faults.is_empty());
    some_but_not_all(|scenario| scenario.power_cuts.is_empty());
    some_but_not_all(|scenario| scenario.founders > 8);
}
