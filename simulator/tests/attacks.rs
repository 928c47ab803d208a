//! The attack table: what each behaviour costs, in runs of 16 peers of which 4 are dishonest.
//!
//! Each row plays 40 rounds and is compared with the same run of the honest peers alone. That one
//! is played once for each test, so the rows of a kind share a test. `WEAL_FULL=1` plays three
//! seeds instead of one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use weal_simulator::{Conditions, HONEST, Options, Played, Summary, parse_mix, play};
use weal_testing::require::full;

/// How much higher the final loss may be than with the honest peers alone.
const HARM: f64 = 0.02;
/// The same where a norm is what gives the attack away.
const HARM_OF_SCALED: f64 = 0.005;
/// The share of honest contributions that may be rejected.
const REJECTED: f64 = 0.01;
/// The credit that who does no work may earn, as a share of an honest peer's.
const UNEARNED: f64 = 0.05;
/// How many times their share of the peers dishonest ones may hold of the votes in the end.
const VOTES: f64 = 1.05;

/// Runs on one kind of network, and what honest peers reach on it alone.
struct Table {
    like: Options,
    alone: BTreeMap<usize, Played>,
    failures: Vec<String>,
}

/// Plays rows on a good network.
fn rows(play: impl Fn(&mut Table)) {
    rows_like(&Options::new(16, 1), play);
}

/// Plays rows, with one seed or, in full, with three. All of them must hold.
fn rows_like(like: &Options, play: impl Fn(&mut Table)) {
    for seed in if full() { 1..=3 } else { 1..=1 } {
        let mut table = Table {
            like: Options {
                seed,
                ..like.clone()
            },
            alone: BTreeMap::new(),
            failures: Vec::new(),
        };
        play(&mut table);
        let failures = table.failures;
        assert!(failures.is_empty(), "seed {seed}: {failures:#?}");
    }
}

impl Table {
    fn simulate(&mut self, mix: &str) -> Summary {
        let options = Options {
            dishonest: parse_mix(mix).unwrap(),
            ..self.like.clone()
        };
        let honest = options.honest_only();
        let alone = self.alone.entry(honest.peers);
        let alone = alone.or_insert_with(|| play(&honest, |_| ()).unwrap());
        Summary::of(&play(&options, |_| ()).unwrap(), alone)
    }

    fn expect(&mut self, mix: &str, holds: bool, what: std::fmt::Arguments<'_>) {
        if !holds {
            self.failures.push(format!("{mix}: {what}"));
        }
    }

    /// Nothing that must never happen happened, the run learnt as without the liars, and they hold
    /// no more votes than they began with.
    fn survives(&mut self, mix: &str, harm: f64) -> Summary {
        let found = self.simulate(mix);
        let broken = (&found.violation, found.forks, found.equivocations);
        self.expect(mix, broken == (&None, 0, 0), format_args!("{broken:?}"));
        let (decided, wanted) = (found.rounds_decided, self.like.rounds);
        self.expect(mix, decided == wanted, format_args!("{decided} rounds"));
        let rejected = found.honest_rejected_share;
        self.expect(
            mix,
            rejected <= REJECTED,
            format_args!("{rejected} rejected"),
        );
        let excess = found.excess().unwrap_or(f64::INFINITY);
        self.expect(mix, excess <= harm, format_args!("{excess} more loss"));
        let liars: usize = found.dishonest.values().sum();
        let votes: f64 = 1.0 - found.weight[HONEST];
        let most = VOTES * liars as f64 / found.peers as f64;
        self.expect(mix, votes <= most, format_args!("{votes} of the votes"));
        found
    }

    /// As [`Self::survives`], and the dishonest peers earn next to nothing.
    fn earns_nothing(&mut self, mix: &str, harm: f64) {
        let found = self.survives(mix, harm);
        for (name, credit) in found.credit.iter().filter(|(name, _)| **name != HONEST) {
            let little = *credit < UNEARNED;
            self.expect(mix, little, format_args!("{name} earns {credit}"));
        }
    }
}

#[test]
fn turned_and_random_contributions() {
    rows(|table| {
        table.earns_nothing("sign-flip=4", HARM);
        table.earns_nothing("scaled=4", HARM_OF_SCALED);
        table.earns_nothing("small-poison=4", HARM);
        table.earns_nothing("noise=4", HARM);
        table.earns_nothing("zeros=4", HARM);
        table.earns_nothing("wrong-labels=4", HARM);
    });
}

#[test]
fn contributions_without_work() {
    rows(|table| {
        table.earns_nothing("free-rider=4", HARM);
        table.earns_nothing("copier=4", HARM);
        table.earns_nothing("noisy-copier=4", HARM);
        table.survives("lazy=4", HARM);
        table.survives("stale=4", HARM);
    });
}

#[test]
fn stolen_contributions() {
    rows(|table| {
        table.earns_nothing("thief=4", HARM);
        table.earns_nothing("old-thief=4", HARM);
        table.earns_nothing("late-copier=4", HARM);
    });
}

#[test]
fn coalitions_and_traitors() {
    rows(|table| {
        table.earns_nothing("inner-product=4", HARM);
        table.survives("little-is-enough=4", HARM);
        table.survives("betrayal=4", HARM);
        table.survives("late-betrayal=4", HARM);
        table.survives("slow-betrayal=4", HARM);
        table.survives("hide=4", HARM);
    });
}

#[test]
fn what_is_withheld() {
    rows(|table| {
        table.earns_nothing("withhold=4", HARM);
        table.survives("withhold-some=4", HARM);
        table.survives("drip=4", HARM);
        table.survives("vanish=5", HARM);
        table.survives("no-proposals=4", HARM);
        table.survives("no-votes=4", HARM);
    });
}

#[test]
fn contradictions() {
    rows(|table| {
        table.survives("two-commitments=4", HARM);
        table.survives("two-proposals=4", HARM);
        table.survives("two-votes=4", HARM);
        table.survives("two-attestations=4", HARM);
    });
}

#[test]
fn cheating_in_the_agreement() {
    rows(|table| {
        table.survives("bad-attestations=4", HARM);
        table.survives("refuse-all=4", HARM);
        table.survives("garbage=4", HARM);
        table.survives("censor=4", HARM);
        table.survives("narrow-sets=4", HARM);
        table.survives("flood=4", HARM);
    });
}

#[test]
fn false_judges() {
    rows(|table| {
        table.earns_nothing("praise-friends=4", HARM);
        table.survives("flatter=4", HARM);
        table.survives("damn=4", HARM);
        table.survives("silent-judge=4", HARM);
        table.survives("tilt=4", HARM);
        table.survives("grind=4", HARM);
    });
}

#[test]
fn a_mix() {
    rows(|table| {
        table.survives("sign-flip=1,noise=1,free-rider=1,praise-friends=1", HARM);
    });
}

/// Partitions are left out: what a peer sends while it is cut off is lost, liars or not.
#[test]
fn a_mix_on_a_slow_and_on_a_lossy_network() {
    for conditions in [Conditions::Slow, Conditions::Lossy] {
        let like = Options {
            conditions,
            ..Options::new(16, 1)
        };
        rows_like(&like, |table| {
            table.survives("sign-flip=1,noise=1,free-rider=1,praise-friends=1", HARM);
        });
    }
}

#[test]
fn a_crowd_of_newcomers_beside_ten_honest_peers() {
    rows_like(&Options::new(11, 1), |table| {
        let found = table.survives("crowd=1", HARM);
        let votes = found.weight.get("crowd").copied().unwrap_or(0.0);
        table.expect(
            "crowd=1",
            votes < 0.05,
            format_args!("{votes} of the votes"),
        );
    });
}
