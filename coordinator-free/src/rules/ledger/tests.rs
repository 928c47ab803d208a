//! The ledger folded over rounds.

use std::collections::BTreeSet;

use proptest::prelude::*;
use weal_proto::manifest::{Membership, PPM, Trust};
use weal_proto::{PeerId, RoundNumber};

use super::{Ledger, Outcome};
use crate::rules::trust::duty::Duty;
use crate::rules::trust::score::Scores;
use crate::rules::trust::standing::Standing;
use crate::sim::fixtures::{manifest, peer};

fn rules() -> Membership {
    Membership {
        weight_decay_ppm: 900_000,
        credit: 1000,
        probation_rounds: 2,
        vesting_rounds: 1,
        absence_rounds: 1,
        quorum_shrink_ppm: 100_000,
        ticket_bits: 0,
    }
}

fn trust() -> Trust {
    Trust {
        probation: 1,
        pot: 1 << 40,
        ..Trust::default()
    }
}

/// The duty of a voter whose reports are this far off.
fn far(distance: u32) -> Duty {
    Duty {
        distance: Some(distance),
        missed: 0,
    }
}

/// Typical scores of these peers.
fn scored(peers: &[u8]) -> Scores {
    Scores {
        contributors: peers.iter().map(|n| (peer(*n), Some(1_000_000))).collect(),
        ..Scores::default()
    }
}

fn contributed(peers: &[u8]) -> Outcome {
    Outcome {
        contributors: peers.iter().map(|n| peer(*n)).collect(),
        ..Outcome::default()
    }
}

fn ledger() -> Ledger {
    Ledger::genesis(&manifest(&[1, 2]))
}

#[test]
fn a_newcomer_votes_only_after_probation_and_then_in_growing_part() {
    let mut ledger = ledger();
    let mut votes = Vec::new();
    for round in 0..5 {
        ledger.settle(&scored(&[1, 2, 9]), &rules(), &trust());
        ledger.apply(RoundNumber(round), &contributed(&[1, 2, 9]), &rules());
        let account = ledger.account(&peer(9)).copied().unwrap_or_default();
        assert_eq!(account.member, round > 0);
        votes.push((ledger.roster().weight(&peer(9)), account.weight));
    }
    // Its account begins with its first contribution, and its first score is its probation.
    let expected = [(0, 0), (0, 0), (0, 900), (855, 1710), (2439, 2439)];
    assert_eq!(votes, expected);
}

#[test]
fn a_founder_votes_from_the_start_and_decays_like_everyone() {
    let mut ledger = ledger();
    let before = ledger.roster().weight(&peer(1));
    ledger.apply(RoundNumber(0), &contributed(&[2]), &rules());
    assert_eq!(ledger.roster().weight(&peer(1)), before * 9 / 10);
}

#[test]
fn silence_ends_membership_and_a_contribution_restores_it_with_the_remaining_weight() {
    let mut ledger = ledger();
    for round in 0..4 {
        assert!(ledger.is_member(&peer(1)), "round {round}");
        ledger.apply(RoundNumber(round), &contributed(&[2]), &rules());
    }
    assert!(!ledger.is_member(&peer(1)));
    let left = ledger.account(&peer(1)).map_or(0, |account| account.weight);
    assert!(left > 0);
    ledger.apply(RoundNumber(4), &contributed(&[1, 2]), &rules());
    assert_eq!(ledger.roster().weight(&peer(1)), left * 9 / 10);
}

#[test]
fn an_attestation_keeps_a_member_from_counting_as_absent() {
    let mut ledger = ledger();
    for round in 0..5 {
        let outcome = Outcome {
            attesters: [peer(1)].into(),
            ..contributed(&[2])
        };
        ledger.apply(RoundNumber(round), &outcome, &rules());
    }
    assert!(ledger.is_member(&peer(1)));
}

#[test]
fn an_equivocator_loses_its_weight_and_is_banned_for_ever() {
    let mut ledger = ledger();
    let outcome = Outcome {
        equivocators: [peer(1)].into(),
        ..contributed(&[1, 2])
    };
    ledger.apply(RoundNumber(0), &outcome, &rules());
    assert!(ledger.is_banned(&peer(1)));
    assert_eq!(ledger.roster().weight(&peer(1)), 0);
    ledger.apply(RoundNumber(1), &contributed(&[2]), &rules());
    assert!(ledger.is_banned(&peer(1)));
}

#[test]
fn a_late_attestation_counts_for_its_own_round() {
    let mut ledger = ledger();
    for round in 0..3 {
        ledger.apply(RoundNumber(round), &contributed(&[2]), &rules());
    }
    let outcome = Outcome {
        late: [(RoundNumber(1), peer(1))].into(),
        ..contributed(&[2])
    };
    ledger.apply(RoundNumber(3), &outcome, &rules());
    assert!(ledger.is_member(&peer(1)));
    let seen = ledger.account(&peer(1)).map(|account| account.seen_until);
    assert_eq!(seen, Some(RoundNumber(2)));
}

#[test]
fn whoever_leaves_counts_for_less_and_less_and_the_quorum_shrinks_slowly() {
    let mut ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4]));
    let leave = Outcome {
        leavers: [peer(1), peer(2)].into(),
        ..contributed(&[3, 4])
    };
    let mut totals = vec![ledger.roster().total().0];
    let no_decay = Membership {
        weight_decay_ppm: PPM,
        credit: 0,
        ..rules()
    };
    ledger.apply(RoundNumber(0), &leave, &no_decay);
    totals.push(ledger.roster().total().0);
    assert!(!ledger.is_member(&peer(1)));
    assert!(ledger.roster().contains(&peer(2)));
    for round in 1..8 {
        ledger.apply(RoundNumber(round), &contributed(&[3, 4]), &no_decay);
        totals.push(ledger.roster().total().0);
    }
    let shrinks = totals.windows(2).map(|pair| (pair[0], pair[0] - pair[1]));
    for (total, by) in shrinks {
        assert!(by <= total / 10, "{totals:?}");
    }
    assert_eq!(totals.last(), Some(&20_000));
    assert!(!ledger.roster().contains(&peer(1)));
}

#[test]
fn voters_that_operators_declare_gone_leave_the_quorum_at_once() {
    let mut ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4]));
    let outcome = Outcome {
        gone: [peer(1), peer(2)].into(),
        ..Outcome::default()
    };
    ledger.apply(RoundNumber(0), &outcome, &rules());
    assert_eq!(ledger.roster().len(), 2);
    assert!(!ledger.is_member(&peer(1)));
}

#[test]
fn the_last_voters_keep_their_votes_when_everyone_leaves() {
    let mut ledger = ledger();
    let outcome = Outcome {
        leavers: [peer(1), peer(2)].into(),
        ..Outcome::default()
    };
    for round in 0..100 {
        ledger.apply(RoundNumber(round), &outcome, &rules());
    }
    assert!(!ledger.roster().is_empty());
    assert!(!ledger.is_member(&peer(1)));
}

#[test]
fn the_root_covers_every_account() {
    let mut ledger = ledger();
    let mut roots = BTreeSet::from([ledger.root()]);
    for round in 0..4 {
        ledger.apply(RoundNumber(round), &contributed(&[1]), &rules());
        assert!(roots.insert(ledger.root()));
    }
    ledger.settle(&scored(&[1]), &rules(), &trust());
    assert!(roots.insert(ledger.root()));
    let distance = Scores {
        voters: [(peer(1), far(9))].into(),
        ..Scores::default()
    };
    ledger.settle(&distance, &rules(), &trust());
    assert!(roots.insert(ledger.root()));
}

#[test]
fn what_was_not_measured_or_did_harm_earns_nothing() {
    let mut ledger = ledger();
    let before = [1, 2].map(|n| ledger.account(&peer(n)).map_or(0, |one| one.weight));
    let scores = Scores {
        contributors: [(peer(1), None), (peer(2), Some(-1_000_000))].into(),
        ..Scores::default()
    };
    ledger.settle(&scores, &rules(), &trust());
    let accounts = [1, 2].map(|n| ledger.account(&peer(n)).copied().unwrap_or_default());
    assert_eq!(accounts.map(|one| one.weight), before);
    assert_eq!(accounts.map(|one| one.contributions), [0, 0]);
    // Unmeasured work changes no standing, harm does.
    assert_eq!(accounts[0].standing, Standing::founder(&trust()));
    assert!(accounts[1].standing.level < 500_000);
}

#[test]
fn a_voter_that_is_far_off_again_and_again_earns_nothing_and_loses_standing() {
    let mut ledger = Ledger::genesis(&manifest(&[1, 2, 3, 4]));
    let scores = Scores {
        voters: [
            (1, 14_000_000),
            (2, 900_000),
            (3, 1_000_000),
            (4, 2_000_000),
        ]
        .map(|(n, distance)| (peer(n), far(distance)))
        .into(),
        ..scored(&[1, 2, 3, 4])
    };
    for _ in 0..40 {
        ledger.settle(&scores, &rules(), &trust());
    }
    let [liar, honest] = [1, 2].map(|n| ledger.account(&peer(n)).copied().unwrap_or_default());
    assert_eq!(
        (honest.contributions, honest.standing.level),
        (40, 1_000_000)
    );
    assert!(liar.contributions < 5, "{liar:?}");
    assert!(liar.standing.level < 100_000, "{liar:?}");
    let coefficients = ledger.coefficients_ppm(&trust());
    assert_eq!(coefficients[&peer(2)], PPM);
    assert!(coefficients[&peer(1)] < PPM / 5);
}

fn any_peers() -> impl Strategy<Value = BTreeSet<PeerId>> {
    prop::collection::btree_set(0..12_u8, 0..6)
        .prop_map(|peers| peers.into_iter().map(|n| [n; 32].into()).collect())
}

fn any_scores() -> impl Strategy<Value = Scores> {
    let of_peers = || 0..12_u8;
    let contributors = prop::collection::btree_map(of_peers(), any::<Option<i32>>(), 0..6);
    let duty = (prop::option::of(any::<u32>()), 0..=PPM);
    let voters = prop::collection::btree_map(of_peers(), duty, 0..6);
    let all = (contributors, voters, 0..=PPM);
    all.prop_map(|(contributors, voters, doubt)| Scores {
        doubt,
        contributors: contributors
            .into_iter()
            .map(|(n, score)| ([n; 32].into(), score))
            .collect(),
        voters: voters
            .into_iter()
            .map(|(n, (distance, missed))| ([n; 32].into(), Duty { distance, missed }))
            .collect(),
    })
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    (
        any_peers(),
        any_peers(),
        any_peers(),
        prop::collection::btree_set(Just([3; 32].into()), 0..2),
    )
        .prop_map(|(contributors, attesters, leavers, equivocators)| Outcome {
            contributors,
            attesters,
            leavers,
            equivocators,
            ..Outcome::default()
        })
}

fn any_rules() -> impl Strategy<Value = Membership> {
    (
        1..=PPM,
        prop_oneof![1..10_u64, Just(1 << 40), Just(u64::MAX)],
        0..4_u32,
        0..4_u32,
        1..5_u32,
    )
        .prop_map(
            |(weight_decay_ppm, credit, probation_rounds, vesting_rounds, absence_rounds)| {
                Membership {
                    weight_decay_ppm,
                    credit,
                    probation_rounds,
                    vesting_rounds,
                    absence_rounds,
                    quorum_shrink_ppm: 100_000,
                    ticket_bits: 0,
                }
            },
        )
}

proptest! {
    #[test]
    fn whatever_is_decided_the_roster_has_voters_and_a_total_that_the_engine_can_bear(
        outcomes in prop::collection::vec((any_outcome(), any_scores()), 1..30),
        rules in any_rules(),
    ) {
        let mut ledger = ledger();
        let mut again = ledger.clone();
        for (round, (outcome, scores)) in (0..).map(RoundNumber).zip(&outcomes) {
            ledger.settle(scores, &rules, &trust());
            again.settle(scores, &rules, &trust());
            ledger.apply(round, outcome, &rules);
            again.apply(round, outcome, &rules);
            prop_assert!(!ledger.roster().is_empty());
            prop_assert!(ledger.roster().total().0 < 1 << 60);
            prop_assert_eq!(ledger.root(), again.root());
            prop_assert!(
                ledger
                    .iter()
                    .filter(|(_, account)| account.banned)
                    .all(|(_, account)| account.weight == 0 && !account.member)
            );
        }
    }
}
