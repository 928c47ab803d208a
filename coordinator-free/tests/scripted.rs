//! Exact situations, step by step.
#![allow(clippy::panic)]

use weal_coordinator_free::sim::{
    Lie, Network, Outcome, Scenario, Script, Slow, Until, Violation, run,
};
use weal_proto::Kind;

const MINUTE: u64 = 60_000;

fn play(seed: u64, peers: usize, script: Script) -> Outcome {
    let scenario = Scenario {
        script,
        rounds: 8,
        ..Scenario::calm(seed, peers)
    };
    run(&scenario).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn a_peer_that_dies_between_disk_and_wire_says_the_same_when_it_is_back() {
    for kind in [Kind::Commitment, Kind::Attestation] {
        let script = Script::new()
            .when(Until::stored(2, kind, 3))
            .stop(2)
            .start(2)
            .expect_within(5 * MINUTE, Until::decided(2, 6));
        assert_eq!(play(1, 4, script).banned, []);
    }
}

#[test]
fn a_run_whose_peers_all_lose_power_continues_where_it_was() {
    for kind in [Kind::Commitment, Kind::Attestation, Kind::Vote] {
        let script = Script::new()
            .when(Until::signed(0, kind, 2))
            .stop_all(0..4)
            .start_all(0..4)
            .expect_within(5 * MINUTE, Until::AnyDecided(6));
        play(2, 4, script);
    }
}

#[test]
fn a_peer_with_an_empty_disk_follows_the_others() {
    let script = Script::new()
        .when(Until::decided(2, 3))
        .stop(2)
        .lose_disk(2)
        .start(2)
        .expect_within(5 * MINUTE, Until::decided(2, 7));
    play(3, 4, script);
}

#[test]
fn a_disk_that_was_rolled_back_does_not_fork_the_run() {
    let script = Script::new()
        .when(Until::decided(1, 2))
        .copy_disk(1)
        .when(Until::decided(1, 5))
        .stop(1)
        .restore_disk(1)
        .start(1)
        .expect_within(5 * MINUTE, Until::decided(1, 8));
    play(4, 4, script);
}

#[test]
fn half_of_the_weight_decides_nothing_and_all_of_it_continues() {
    let script = Script::new()
        .when(Until::AnyDecided(3))
        .stop_all([0, 1])
        // What was on its way may still complete one round.
        .refuse_for(5 * MINUTE, Until::AnyDecided(5))
        .start_all([0, 1])
        .expect_within(5 * MINUTE, Until::AnyDecided(7));
    play(5, 4, script);
}

#[test]
fn a_run_goes_on_when_just_less_than_a_third_falls_silent_at_once_and_takes_them_back() {
    let script = Script::new()
        .when(Until::AnyDecided(3))
        .stop_all([0, 1, 2])
        .expect_within(5 * MINUTE, Until::AnyDecided(7))
        .start_all([0, 1, 2])
        .expect_within(2 * MINUTE, Until::Trains(2));
    play(12, 10, script);
}

#[test]
fn an_eclipsed_peer_is_held_up_but_not_led_astray() {
    let script = Script::new()
        .when(Until::AnyDecided(2))
        .eclipse(3, &[0], MINUTE)
        .expect_within(10 * MINUTE, Until::decided(3, 8));
    let scenario = Scenario {
        script,
        rounds: 8,
        liars: vec![(0, Lie::TwoVotes, 0)],
        ..Scenario::calm(6, 5)
    };
    let outcome = run(&scenario);
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn a_peer_that_hears_nothing_of_two_others_keeps_up() {
    let script = Script::new()
        .when(Until::AnyDecided(2))
        .silence(0, 3, 30 * MINUTE)
        .silence(1, 3, 30 * MINUTE)
        .when(Until::AnyDecided(6))
        .expect_within(MINUTE, Until::decided(3, 6));
    play(7, 5, script);
}

#[test]
fn a_peer_without_a_disk_catches_up_within_two_minutes() {
    let script = Script::new()
        .when(Until::AnyDecided(6))
        .stop(2)
        .lose_disk(2)
        .start(2)
        .expect_within(2 * MINUTE, Until::Trains(2));
    play(11, 5, script);
}

#[test]
fn the_run_goes_on_without_a_peer_that_is_gone_for_ever() {
    let script = Script::new()
        .when(Until::AnyDecided(2))
        .retire(3)
        .expect_within(10 * MINUTE, Until::AnyDecided(8));
    play(8, 4, script);
}

/// Four peers that train for a second, of which one takes longer.
fn with_slow_peer(slow: Slow, script: Script) -> Outcome {
    let scenario = Scenario {
        script,
        rounds: 40,
        train_ms: 1_000..=1_000,
        slow: vec![slow],
        ..Scenario::calm(13, 4)
    };
    run(&scenario).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn the_slowest_peer_contributes_again_after_a_pause() {
    let slow = Slow {
        peer: 3,
        train_ms: 2_000,
        apply_ms: 0,
    };
    let script = Script::new()
        .when(Until::AnyDecided(3))
        .stop(3)
        .when(Until::AnyDecided(8))
        .start(3);
    let found = with_slow_peer(slow, script).contributions;
    // Of 37 settled rounds, the others contribute to all, and this one to most.
    assert!(found >= 3 * 37 + 25, "{found}");
}

/// It lags by three rounds, so it can attest only rounds that are decided.
#[test]
fn a_peer_that_needs_longer_to_apply_a_round_than_the_others_for_all_of_it_comes_back() {
    let slow = Slow {
        peer: 3,
        train_ms: 0,
        apply_ms: 2_500,
    };
    let script = Script::new()
        .when(Until::AnyDecided(3))
        .stop(3)
        .when(Until::AnyDecided(5))
        .start(3);
    let outcome = with_slow_peer(slow, script);
    assert_eq!(outcome.voters, 4);
    let found = outcome.contributions;
    assert!(found >= 3 * 37 + 25, "{found}");
}

#[test]
fn an_expectation_that_is_not_met_fails_the_run() {
    let script = Script::new().expect_within(1_000, Until::AnyDecided(100));
    let scenario = Scenario {
        script,
        ..Scenario::calm(9, 4)
    };
    let outcome = run(&scenario);
    assert!(
        matches!(outcome, Err(Violation::Unmet { step: 0, .. })),
        "{outcome:?}"
    );
}

#[test]
fn slow_lines_take_longer_and_bytes_are_counted() {
    let with_uplink = |uplink_bits_per_s| {
        let network = Network {
            uplink_bits_per_s,
            ..Network::good()
        };
        let scenario = Scenario {
            network,
            blob_bytes: 200_000..=200_000,
            train_ms: 2_000..=2_000,
            rounds: 5,
            ..Scenario::calm(10, 4)
        };
        run(&scenario).unwrap_or_else(|violation| panic!("{violation}"))
    };
    let (fast, slow) = (with_uplink(0), with_uplink(2_000_000));
    // Each contribution leaves its peer at least once: 200 kB at 2 Mbit/s take 0.8 s. With
    // unlimited lines a peer waits some 0.2 s.
    assert!(
        slow.virtual_ms > fast.virtual_ms + 5 * 500,
        "{} and {} ms",
        slow.virtual_ms,
        fast.virtual_ms
    );
    for outcome in [fast, slow] {
        // Everybody fetches three contributions of each other a round.
        let received: u64 = outcome
            .peers
            .iter()
            .map(|p| p.traffic.received_bytes())
            .sum();
        assert!(received > 4 * 3 * 4 * 200_000, "{received} bytes");
    }
}
