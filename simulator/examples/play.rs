//! Plays mixes of dishonest peers and prints a line for each: what it cost, what it earned, and how
//! well each signal tells its contributions from honest ones in early and in late rounds.
//!
//! ```text
//! cargo run -p weal-simulator --example play -- 16 40 1 sign-flip=4 noise=4
//! cargo run -p weal-simulator --example play -- 16 40 1 network=lossy sign-flip=2,damn=2
//! ```
//!
//! `network=` changes the network of the mixes that follow it: good, slow, lossy or split. After
//! `trust=off`, honest contributions are neither compared nor measured, and count alike. After
//! `membership=new`, weights last as in a new run, ten times as long as otherwise here.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a developer reads it

use weal_proto::manifest::{Manifest, Trust};
use weal_simulator::{Conditions, HONEST, Options, Played, Round, Summary, parse_mix, play_by};

/// Signals fade as training succeeds, so that early and late rounds differ.
const EARLY: u64 = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peers, rounds, seed, mixes @ ..] = arguments.as_slice() else {
        println!("usage: play PEERS ROUNDS SEED MIX ...");
        return;
    };
    let mut honest = Options {
        rounds: rounds.parse().unwrap(),
        ..Options::new(peers.parse().unwrap(), seed.parse().unwrap())
    };
    println!(
        "seed | mix | loss | alone | excess % | rejected % | credit % | votes % | most votes % | AUC \
         net | work | own | held | combined"
    );
    let mut alone: Option<Played> = None;
    let mut rules: fn(&mut Manifest) = |_| ();
    for mix in mixes {
        if mix == "trust=off" {
            (rules, alone) = (without_trust, None);
            continue;
        }
        if mix == "membership=new" {
            (rules, alone) = (new_run, None);
            continue;
        }
        if let Some(network) = mix.strip_prefix("network=") {
            honest.conditions = conditions(network);
            alone = None;
            continue;
        }
        let options = Options {
            dishonest: parse_mix(mix).unwrap(),
            ..honest.clone()
        };
        let reference = options.honest_only();
        if alone
            .as_ref()
            .is_none_or(|one| one.options.peers != reference.peers)
        {
            alone = Some(play_by(&reference, rules, |_| ()).unwrap());
        }
        let played = play_by(&options, rules, |_| ()).unwrap();
        print(mix, &played, alone.as_ref().unwrap());
    }
}

/// Rules by which nothing is refused or settled, so that every member's coefficient stays one.
fn without_trust(manifest: &mut Manifest) {
    manifest.trust = Trust {
        least_signal_ppm: 0,
        copy_ppm: u32::MAX,
        settle_rounds: u32::MAX,
        ..Trust::default()
    };
}

/// The membership and the pot of a new run, whose weights last ten times as long.
fn new_run(manifest: &mut Manifest) {
    manifest.membership.weight_decay_ppm = 995_000;
    manifest.membership.credit = 5_000;
    manifest.membership.probation_rounds = 10;
    manifest.membership.vesting_rounds = 20;
    manifest.membership.absence_rounds = 5;
    manifest.trust = Trust::default();
}

fn conditions(name: &str) -> Conditions {
    match name {
        "slow" => Conditions::Slow,
        "lossy" => Conditions::Lossy,
        "split" => Conditions::Split,
        _ => Conditions::Good,
    }
}

fn print(mix: &str, played: &Played, alone: &Played) {
    let summary = Summary::of(played, alone);
    let others = |of: &std::collections::BTreeMap<&'static str, f64>| {
        let others = of.iter().filter(|(name, _)| **name != HONEST);
        100.0 * others.map(|(_, share)| share).sum::<f64>()
    };
    print!(
        "{} | {mix} | {:.4} | {:.4} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1}",
        played.options.seed,
        summary.final_loss.unwrap_or(f64::NAN),
        summary.final_loss_honest_only.unwrap_or(f64::NAN),
        100.0 * summary.excess().unwrap_or(f64::NAN),
        100.0 * summary.honest_rejected_share,
        others(&summary.credit),
        others(&summary.weight),
        most_votes(played),
    );
    for rounds in [0..EARLY, EARLY..played.options.rounds.max(EARLY)] {
        for one in played.separation(rounds).into_values() {
            print!(
                " | {:.2} {:.2} {:.2} {:.2} {:.2}",
                one.net, one.work, one.own, one.held, one.combined
            );
        }
    }
    println!(
        " | {} rounds, {} forks, {} equivocations, {}, {} bytes",
        summary.rounds_decided,
        summary.forks,
        summary.equivocations,
        summary.violation.as_deref().unwrap_or("nothing wrong"),
        summary.bytes_per_peer_round
    );
}

/// The largest share of the votes that the dishonest peers held after any round, in percent.
fn most_votes(played: &Played) -> f64 {
    let share = |round: &Round| {
        let votes = |honest: bool| -> u64 {
            let after = round.after.iter();
            let of = after.filter(|(index, _)| (played.name(**index) == HONEST) == honest);
            of.map(|(_, after)| after.vote).sum()
        };
        let (honest, others) = (votes(true), votes(false));
        100.0 * others as f64 / (honest + others).max(1) as f64
    };
    let rounds = played.history.rounds().values();
    rounds.map(share).fold(0.0, f64::max)
}
