//! Whole runs in virtual time.

use weal_coordinator_free::sim::{Scenario, run};

#[test]
fn four_honest_peers_decide_every_round_in_view_0() {
    let outcome = run(&Scenario::calm(1, 4)).expect("nothing goes wrong");
    println!("{outcome:#?}");
    assert_eq!(outcome.later_views, 0);
    assert_eq!(outcome.contributions, 40);
}

#[test]
fn one_stormy_run() {
    let outcome = run(&Scenario::stormy(1)).expect("nothing goes wrong");
    println!("{outcome:#?}");
}
