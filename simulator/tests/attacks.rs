//! The attack table: what each behaviour costs, in runs of 16 peers of which 4 are dishonest.
//!
//! Each row plays 40 rounds and is compared with the same run of the honest peers alone. That one
//! is played once for each test, so the rows of a kind share a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use weal_simulator::{Conditions, HONEST, Options, Played, Summary, parse_mix, play};

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

impl Table {
    fn new() -> Self {
        Self::like(Options::new(16, 1))
    }

    fn like(like: Options) -> Self {
        Self {
            like,
            alone: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

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

    /// Every row held.
    fn holds(self) {
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
    }
}

#[test]
fn turned_and_random_contributions() {
    let mut table = Table::new();
    table.earns_nothing("sign-flip=4", HARM);
    table.earns_nothing("scaled=4", HARM_OF_SCALED);
    table.earns_nothing("small-poison=4", HARM);
    table.earns_nothing("noise=4", HARM);
    table.earns_nothing("zeros=4", HARM);
    table.earns_nothing("wrong-labels=4", HARM);
    table.holds();
}

#[test]
fn contributions_without_work() {
    let mut table = Table::new();
    table.survives("free-rider=4", HARM);
    table.earns_nothing("copier=4", HARM);
    table.earns_nothing("noisy-copier=4", HARM);
    table.survives("lazy=4", HARM);
    table.survives("stale=4", HARM);
    table.holds();
}

/// A free rider works in its first round, and the next two rounds still accept what it repeats. In
/// 40 rounds that comes to 6 % of an honest peer's credit, so it takes more to see what it earns.
#[test]
fn free_riders_in_a_longer_run() {
    let mut table = Table::like(Options {
        rounds: 80,
        ..Options::new(16, 1)
    });
    table.earns_nothing("free-rider=4", HARM);
    table.holds();
}

#[test]
fn stolen_contributions() {
    let mut table = Table::new();
    table.earns_nothing("thief=4", HARM);
    table.earns_nothing("old-thief=4", HARM);
    table.earns_nothing("late-copier=4", HARM);
    table.holds();
}

#[test]
fn coalitions_and_traitors() {
    let mut table = Table::new();
    table.earns_nothing("inner-product=4", HARM);
    table.survives("little-is-enough=4", HARM);
    table.survives("betrayal=4", HARM);
    table.survives("late-betrayal=4", HARM);
    table.survives("slow-betrayal=4", HARM);
    table.survives("hide=4", HARM);
    table.holds();
}

#[test]
fn what_is_withheld() {
    let mut table = Table::new();
    table.earns_nothing("withhold=4", HARM);
    table.survives("withhold-some=4", HARM);
    table.survives("drip=4", HARM);
    table.survives("vanish=5", HARM);
    table.survives("no-proposals=4", HARM);
    table.survives("no-votes=4", HARM);
    table.holds();
}

#[test]
fn contradictions() {
    let mut table = Table::new();
    table.survives("two-commitments=4", HARM);
    table.survives("two-proposals=4", HARM);
    table.survives("two-votes=4", HARM);
    table.survives("two-attestations=4", HARM);
    table.holds();
}

#[test]
fn cheating_in_the_agreement() {
    let mut table = Table::new();
    table.survives("bad-attestations=4", HARM);
    table.survives("refuse-all=4", HARM);
    table.survives("garbage=4", HARM);
    table.survives("censor=4", HARM);
    table.survives("narrow-sets=4", HARM);
    table.survives("flood=4", HARM);
    table.holds();
}

#[test]
fn false_judges() {
    let mut table = Table::new();
    table.earns_nothing("praise-friends=4", HARM);
    table.survives("flatter=4", HARM);
    table.survives("damn=4", HARM);
    table.survives("silent-judge=4", HARM);
    table.survives("tilt=4", HARM);
    table.survives("grind=4", HARM);
    table.holds();
}

#[test]
fn a_mix() {
    let mut table = Table::new();
    table.survives("sign-flip=1,noise=1,free-rider=1,praise-friends=1", HARM);
    table.holds();
}

/// Partitions are left out: what a peer sends while it is cut off is lost, liars or not.
#[test]
fn a_mix_on_a_slow_and_on_a_lossy_network() {
    for conditions in [Conditions::Slow, Conditions::Lossy] {
        let mut table = Table::like(Options {
            conditions,
            ..Options::new(16, 1)
        });
        table.survives("sign-flip=1,noise=1,free-rider=1,praise-friends=1", HARM);
        table.holds();
    }
}

#[test]
fn a_crowd_of_newcomers_beside_ten_honest_peers() {
    let mut table = Table::like(Options::new(11, 1));
    let found = table.survives("crowd=1", HARM);
    let votes = found.weight.get("crowd").copied().unwrap_or(0.0);
    assert!(votes < 0.05, "{votes} of the votes");
    table.holds();
}
