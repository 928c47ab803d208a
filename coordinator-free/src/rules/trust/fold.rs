//! What happens to the weight of liars over hundreds of rounds: the ledger folded over scores.

use std::collections::BTreeMap;

use weal_proto::manifest::{Manifest, Trust};
use weal_proto::{PeerId, RoundNumber, Score, SlotId, Weight};

use super::committee::{committee, own_voices_ppm};
use super::measured::Measured;
use super::score::{Scores, scores};
use crate::rules::ledger::{Ledger, Outcome};
use crate::sim::fixtures::manifest;
use weal_proto::manifest::Membership;

/// What `weal new` writes.
const MEMBERSHIP: Membership = Membership {
    weight_decay_ppm: 995_000,
    credit: 5_000,
    probation_rounds: 10,
    vesting_rounds: 20,
    absence_rounds: 5,
    quorum_shrink_ppm: 100_000,
    ticket_bits: 0,
};
const FOUNDERS: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn sybil(n: u16) -> PeerId {
    (*blake3::hash(&n.to_le_bytes()).as_bytes()).into()
}

fn founders() -> Vec<PeerId> {
    founded().founders.iter().map(|one| one.peer).collect()
}

fn founded() -> Manifest {
    (*manifest(&FOUNDERS)).clone()
}

/// A number that looks random, from 0 to `below`.
fn random(round: u64, n: u16, below: i32) -> i32 {
    let bytes = [round, n.into()].map(u64::to_le_bytes).concat();
    let [a, b, c, ..] = *blake3::hash(&bytes).as_bytes();
    i32::from_le_bytes([a, b, c, 0]) % below.max(1)
}

/// Folds rounds whose contributors have these scores. Returns the liars' part of the votes, and of
/// all weight, in ppm.
fn fold(rounds: u64, scores_of: impl Fn(u64) -> BTreeMap<PeerId, Option<i32>>) -> (u64, u64) {
    let mut ledger = Ledger::genesis(&founded());
    let rules = Trust::default();
    let honest = founders();
    for round in 0..rounds {
        let contributors = scores_of(round);
        let outcome = Outcome {
            contributors: contributors.keys().copied().collect(),
            attesters: honest.iter().copied().collect(),
            ..Outcome::default()
        };
        let scores = Scores {
            contributors,
            ..Scores::default()
        };
        ledger.settle(&scores, &MEMBERSHIP, &rules);
        ledger.apply(RoundNumber(round), &outcome, &MEMBERSHIP);
    }
    let is_honest = |peer: &PeerId| honest.contains(peer);
    let votes = |honest: bool| {
        let voters = ledger.roster().iter();
        let group = voters.filter(|(peer, _)| is_honest(peer) == honest);
        group.map(|(_, weight)| weight).sum::<u64>()
    };
    let weights = |honest: bool| {
        let group = ledger.iter().filter(|(peer, _)| is_honest(peer) == honest);
        group.map(|(_, account)| account.weight).sum::<u64>()
    };
    let part = |lying: u64, honest: u64| lying * 1_000_000 / (lying + honest);
    (
        part(votes(false), votes(true)),
        part(weights(false), weights(true)),
    )
}

fn with_honest(others: BTreeMap<PeerId, Option<i32>>, round: u64) -> BTreeMap<PeerId, Option<i32>> {
    let honest = founders().into_iter().zip(0_u16..);
    let noisy = honest.map(|(peer, n)| (peer, Some(700_000 + random(round, n, 600_000))));
    noisy.chain(others).collect()
}

#[test]
fn a_hundred_patient_sybils_without_gpus_get_next_to_no_weight() {
    // Each round draws three of them into newcomers' places. They slip past the admission every
    // time, with contributions that do as good as nothing.
    let (votes, weight) = fold(300, |round| {
        let drawn = (0..3).map(|n| sybil((3 * round as u16 + n) % 100));
        let scores = drawn
            .zip(0_u16..)
            .map(|(peer, n)| (peer, Some(random(round, 500 + n, 300_000) - 150_000)));
        with_honest(scores.collect(), round)
    });
    assert!(
        votes < 50_000 && weight < 50_000,
        "{votes} and {weight} ppm"
    );
}

#[test]
fn free_riders_that_contribute_every_round_earn_under_a_twentieth_of_an_honest_peer() {
    let (_, weight) = fold(300, |round| {
        let riders = (0..4).map(|n| (sybil(n), Some(random(round, 500 + n, 100_000) - 50_000)));
        with_honest(riders.collect(), round)
    });
    let per_rider = weight / 4 * 10;
    assert!(per_rider < 50_000, "{per_rider} ppm of an honest peer");
}

/// Folds rounds in which founders with these weights measure one another; the first `liars` of them
/// report what `lie` makes of what they find, told whose work it is by the founder's place in the
/// list. A typical contribution gains 500 ppm, and a report is off by up to `noise` either way.
fn judged(
    weights: &[u64],
    liars: usize,
    (rounds, noise): (u64, i32),
    lie: impl Fn(i32, usize) -> i32,
) -> Ledger {
    let rules = Trust::default();
    let peers = named(weights.len());
    let mut founded = (*manifest(&(1..=weights.len() as u8).collect::<Vec<_>>())).clone();
    for founder in &mut founded.founders {
        let place = peers.iter().position(|peer| *peer == founder.peer).unwrap();
        founder.weight = Weight(weights[place]);
    }
    let mut ledger = Ledger::genesis(&founded);
    let lies = |peer: &PeerId| peers.iter().take(liars).any(|liar| liar == peer);
    for round in 0..rounds {
        let seed = (*blake3::hash(&round.to_le_bytes()).as_bytes()).into();
        let measured = peers.iter().zip(0_u16..).map(|(peer, i)| {
            let committee = committee(ledger.measurers(&rules), seed, peer, rules.committee);
            let own_ppm = own_voices_ppm(ledger.measurers(&rules), peer, rules.committee);
            let reports = committee.keys().zip(0_u16..).map(|(voter, j)| {
                let found = 500 + random(round, 100 * i + j, 2 * noise) - noise;
                let ppm = if lies(voter) {
                    lie(found, i.into())
                } else {
                    found
                };
                let score = Score {
                    slot: SlotId(0),
                    own_ppm: ppm,
                    held_ppm: ppm,
                };
                (*voter, (&score).into())
            });
            Measured {
                peer: *peer,
                trusted: true,
                reports: reports.collect(),
                committee,
                own_ppm,
            }
        });
        let measured: Vec<_> = measured.collect();
        ledger.settle(&scores(&measured, &rules), &MEMBERSHIP, &rules);
        let outcome = Outcome {
            contributors: peers.iter().copied().collect(),
            attesters: peers.iter().copied().collect(),
            ..Outcome::default()
        };
        ledger.apply(RoundNumber(round), &outcome, &MEMBERSHIP);
    }
    ledger
}

fn named(count: usize) -> Vec<PeerId> {
    let names = 1..=count as u8;
    names.map(crate::sim::fixtures::peer).collect()
}

/// The first peers' part of all weight, in ppm.
fn part_of_first(ledger: &Ledger, peers: usize, first: usize) -> u64 {
    let weight = |peer: &PeerId| ledger.account(peer).map_or(0, |account| account.weight);
    let peers = named(peers);
    let all: u64 = peers.iter().map(weight).sum();
    peers.iter().take(first).map(weight).sum::<u64>() * 1_000_000 / all
}

#[test]
fn voters_that_damn_all_others_and_praise_each_other_earn_next_to_nothing() {
    // What is measured is mostly noise, as late in a run.
    let damn = |_, of| if of < 4 { 900_000 } else { -900_000 };
    let ledger = judged(&[10_000; 16], 4, (40, 800), damn);
    let earned = |peer: &PeerId| ledger.account(peer).map_or(0, |one| one.contributions);
    let peers = named(16);
    let (liars, honest) = peers.split_at(4);
    let most = liars.iter().map(earned).max().unwrap_or(0);
    let least = honest.iter().map(earned).min().unwrap_or(0);
    assert!(
        most <= 6 && least >= 30,
        "{most} rounds paid to a liar, {least} to an honest peer"
    );
}

#[test]
fn lies_within_the_noise_earn_a_quarter_of_the_voters_next_to_nothing() {
    let tilt = |found: i32, of| found + if of < 4 { found.abs() } else { -found.abs() };
    for noise in [200, 800, 3_000] {
        let ledger = judged(&[10_000; 16], 4, (300, noise), tilt);
        let part = part_of_first(&ledger, 16, 4);
        assert!(part < 280_000, "{part} ppm at a noise of {noise}");
    }
}

#[test]
fn one_voter_of_a_third_of_the_weight_ends_with_what_its_work_earned() {
    // Its work is that of one of eleven.
    let weights = [&[47_000][..], &[10_000; 10]].concat();
    let damn = |_, _| -900_000;
    let tilt = |found: i32, _| found - found.abs();
    let honest = judged(&weights, 0, (1_000, 800), damn);
    let most = part_of_first(&honest, 11, 1) * 105 / 100;
    let lies: [&dyn Fn(i32, usize) -> i32; 2] = [&damn, &tilt];
    for (number, lie) in lies.into_iter().enumerate() {
        let part = part_of_first(&judged(&weights, 1, (1_000, 800), lie), 11, 1);
        assert!(part <= most, "lie {number}: {part} of {most} ppm");
    }
}

#[test]
fn a_lone_liar_among_few_voters_ends_with_what_its_work_earned() {
    let tilt = |found: i32, _| found - found.abs();
    let lower = |found: i32, _| found - 1_000;
    let victim = |found: i32, of| found + if of == 1 { -1_500 } else { 750 };
    let lies: [&dyn Fn(i32, usize) -> i32; 3] = [&tilt, &lower, &victim];
    // From six voters on, own voices change nothing, and picking a victim still pays a little.
    let limits = [
        (4, 1_050_000),
        (5, 1_050_000),
        (6, 1_090_000),
        (7, 1_060_000),
    ];
    let noises = [800, 1_600, 3_000];
    let runs = limits
        .into_iter()
        .flat_map(|limit| noises.map(|noise| (limit, noise)));
    for ((voters, most), noise) in runs {
        for (number, lie) in lies.into_iter().enumerate() {
            let ledger = judged(&vec![10_000; voters], 1, (1_000, noise), lie);
            let part = part_of_first(&ledger, voters, 1) * voters as u64;
            assert!(
                part <= most,
                "{voters} voters, noise {noise}, lie {number}: {part} ppm of an equal part"
            );
        }
    }
}

#[test]
fn one_workers_weight_split_among_many_names_is_not_more_than_the_pot_allows() {
    // Twenty names, each with the work of a third of a peer.
    let (_, weight) = fold(1_000, |round| {
        let names = (0..20).map(|n| (sybil(n), Some(333_333)));
        with_honest(names.collect(), round)
    });
    // They did two fifths of the work, and hold that part within 5 points.
    assert!(weight < 450_000, "{weight} ppm");
}
