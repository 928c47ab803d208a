//! The attack table in short: fewer peers, fewer rounds, the same rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_simulator::{HONEST, Options, Played, parse_mix, play};

fn simulate(mix: &str) -> Played {
    let options = Options {
        dishonest: parse_mix(mix).unwrap(),
        rounds: 8,
        ..Options::new(8, 1)
    };
    play(&options, |_| ()).unwrap()
}

/// The share of a behaviour's contributions that the voters chose.
fn chosen(played: &Played, name: &str) -> f64 {
    let rounds = played.history.rounds().values();
    let of = rounds.flat_map(|round| &round.after);
    let of: Vec<bool> = of
        .filter(|(index, _)| played.name(**index) == name)
        .map(|(_, after)| after.chosen)
        .collect();
    of.iter().filter(|chosen| **chosen).count() as f64 / of.len().max(1) as f64
}

#[test]
fn honest_peers_learn_and_all_of_their_work_counts() {
    let played = simulate("");
    let losses = played.history.rounds();
    let (first, last) = (losses[&1].loss.unwrap(), played.final_loss().unwrap());
    assert!(last < first - 0.2, "{first} to {last}");
    assert_eq!(chosen(&played, HONEST), 1.0);
    assert!(played.outcome.is_ok(), "{:?}", played.outcome);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (one, other) = (simulate("noise=2"), simulate("noise=2"));
    assert_eq!(one.final_loss(), other.final_loss());
    assert_eq!(one.outcome.unwrap().trace, other.outcome.unwrap().trace);
}

#[test]
fn what_is_withheld_from_everybody_is_never_chosen() {
    let played = simulate("withhold=2");
    assert_eq!(chosen(&played, "withhold"), 0.0);
    assert_eq!(chosen(&played, HONEST), 1.0);
}

#[test]
fn a_stolen_name_is_never_chosen() {
    let played = simulate("thief=2");
    assert_eq!(chosen(&played, "thief"), 0.0);
}

#[test]
fn turned_signs_are_told_apart_by_overlap_and_by_own_work() {
    let played = simulate("sign-flip=2");
    let found = played.separation(1..8)["sign-flip"];
    assert!(found.net > 0.99 && found.work > 0.99, "{found:?}");
}
