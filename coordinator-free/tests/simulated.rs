//! Whole runs in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use weal_coordinator_free::DropCause;
use weal_coordinator_free::sim::{
    Absence, Act, Actors, Dishonest, Glimpse, Lie, Network, Outcome, Partition, Said, Scenario,
    Violation, run, run_with,
};
use weal_proto::{Envelope, Kind, PeerId, RoundNumber, View, ViewCertificate};
use weal_testing::require::full;

fn play(scenario: &Scenario) -> Outcome {
    run(scenario).unwrap_or_else(|violation| panic!("seed {}: {violation}", scenario.seed))
}

#[test]
fn four_honest_peers_decide_every_round_in_view_0() {
    let outcome = play(&Scenario::calm(1, 4));
    assert_eq!(outcome.later_views, 0);
    assert_eq!(outcome.synced, 0);
    // Accounts count a contribution when its round is settled, three rounds later.
    assert_eq!(outcome.contributions, 4 * 7);
}

#[test]
fn a_round_takes_no_longer_than_its_slowest_peer_and_a_few_seconds() {
    let scenario = Scenario {
        train_ms: 5_000..=5_000,
        ..Scenario::calm(2, 4)
    };
    let outcome = play(&scenario);
    assert!(
        outcome.virtual_ms < scenario.rounds * 7_000,
        "{} ms",
        outcome.virtual_ms
    );
}

/// Those who sent the proof that a view of a round is over.
type Speakers = Rc<RefCell<BTreeMap<(RoundNumber, View), BTreeSet<PeerId>>>>;

/// Proposes nothing, and notes who sends view certificates.
#[derive(Debug)]
struct SilentProposer(Speakers);

impl Dishonest for SilentProposer {
    fn say(&mut self, _: &Glimpse<'_>, envelope: Envelope) -> Vec<Said> {
        let says = (envelope.kind != Kind::Proposal).then_some(envelope);
        says.map(Said::to_all).into_iter().collect()
    }

    fn add(&mut self, glimpse: &Glimpse<'_>) -> Vec<Act> {
        let heard = glimpse.heard.filter(|it| it.kind == Kind::ViewCertificate);
        if let Some(envelope) = heard {
            let certificate: ViewCertificate = envelope.open().unwrap();
            let view = (certificate.round, certificate.view);
            let mut speakers = self.0.borrow_mut();
            speakers.entry(view).or_default().insert(envelope.signer);
        }
        Vec::new()
    }
}

/// If each of many voters sent its own copy of the proof, a round that needs a second view would
/// cost hundreds of megabytes, and on slow lines no later view could end in time.
#[test]
fn a_few_of_many_voters_send_the_proof_that_a_view_is_over() {
    let scenario = Scenario {
        rounds: 6,
        ..Scenario::calm(5, 24)
    };
    let speakers = Speakers::default();
    let mut actors = Actors::of(&scenario);
    for peer in 0..7 {
        let silent = SilentProposer(Rc::clone(&speakers));
        actors.dishonest.insert(peer, Box::new(silent));
    }
    let outcome = run_with(&scenario, actors).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(outcome.later_views > 0);
    let speakers = speakers.borrow();
    assert!(!speakers.is_empty());
    for (view, speakers) in speakers.iter() {
        assert!((1..=8).contains(&speakers.len()), "{view:?}: {speakers:?}");
    }
}

#[test]
fn a_newcomer_earns_a_vote_even_if_it_is_the_slowest_peer() {
    let newcomer = Absence {
        peer: 4,
        leaves_in: None,
        joins_at: 1,
    };
    let scenario = Scenario {
        founders: 4,
        rounds: 15,
        absences: vec![newcomer],
        ..Scenario::calm(3, 5)
    };
    assert_eq!(play(&scenario).voters, 5);
}

#[test]
fn peers_with_a_third_of_the_weight_may_crash_and_restart() {
    let scenario = Scenario {
        crash_ppm: 3_000,
        most_down: 3,
        rounds: 20,
        ..Scenario::calm(4, 10)
    };
    let outcome = play(&scenario);
    assert!(outcome.crashes > 20, "{}", outcome.crashes);
}

/// The simulator compares what a peer starts from with all that was decided.
#[test]
fn peers_that_start_from_a_snapshot_know_what_all_rounds_lead_to() {
    let leaves = |peer| Absence {
        peer,
        leaves_in: Some(20),
        joins_at: 60,
    };
    let scenario = Scenario {
        crash_ppm: 600,
        most_down: 1,
        rounds: 110,
        absences: vec![leaves(3)],
        ..Scenario::calm(4, 4)
    };
    let outcome = play(&scenario);
    assert!(outcome.from_snapshot > 5, "{}", outcome.from_snapshot);
}

#[test]
fn a_run_without_two_thirds_of_the_weight_waits_and_continues_when_they_return() {
    let halves = Partition {
        during: 10_000..=70_000,
        cut_off: vec![0, 1],
    };
    let network = Network {
        partitions: vec![halves],
        ..Network::good()
    };
    let outcome = play(&Scenario {
        network,
        ..Scenario::calm(5, 4)
    });
    assert!(outcome.virtual_ms > 70_000, "{} ms", outcome.virtual_ms);
}

#[test]
fn a_peer_that_was_cut_off_learns_what_the_others_decided() {
    let one = Partition {
        during: 10_000..=70_000,
        cut_off: vec![0],
    };
    let network = Network {
        partitions: vec![one],
        ..Network::good()
    };
    let outcome = play(&Scenario {
        network,
        rounds: 20,
        ..Scenario::calm(6, 4)
    });
    assert!(outcome.synced > 0);
}

#[test]
fn every_kind_of_liar_is_banned_by_those_it_lied_to() {
    for (seed, lie) in [
        (7, Lie::TwoProposals),
        (8, Lie::TwoCommitments),
        (9, Lie::TwoVotes),
    ] {
        let scenario = Scenario {
            liars: vec![(0, lie, 1)],
            rounds: 20,
            ..Scenario::calm(seed, 5)
        };
        assert_eq!(play(&scenario).banned.len(), 1, "{lie:?}");
    }
}

#[test]
fn a_run_survives_three_liars_of_ten() {
    let liars = vec![
        (0, Lie::TwoProposals, 0),
        (1, Lie::TwoVotes, 0),
        (2, Lie::TwoCommitments, 3),
    ];
    play(&Scenario {
        liars,
        rounds: 20,
        ..Scenario::calm(10, 10)
    });
}

#[test]
fn damaged_weights_are_noticed_and_fetched_again() {
    let outcome = play(&Scenario {
        damage_ppm: 30_000,
        rounds: 20,
        ..Scenario::calm(11, 7)
    });
    assert!(outcome.weights_fetched > 0);
}

#[test]
fn voters_of_whom_most_have_damaged_weights_agree_again() {
    let outcome = play(&Scenario {
        damage_ppm: 250_000,
        ..Scenario::calm(12, 7)
    });
    assert!(outcome.weights_fetched > 0);
}

#[test]
fn a_third_that_makes_up_roots_and_damaged_weights_stop_no_round() {
    let outcome = play(&Scenario {
        damage_ppm: 50_000,
        liars: vec![(0, Lie::MadeUpRoots, 0), (1, Lie::MadeUpRoots, 2)],
        rounds: 15,
        ..Scenario::calm(14, 7)
    });
    assert_eq!(outcome.banned, []);
}

#[test]
fn peers_that_nobody_can_ban_stop_no_round() {
    for (seed, lie) in [(15, Lie::Grinds), (16, Lie::Withholds), (17, Lie::Nonsense)] {
        let outcome = play(&Scenario {
            liars: vec![(0, lie, 1), (1, lie, 2)],
            ..Scenario::calm(seed, 7)
        });
        assert_eq!(outcome.banned, [], "{lie:?}");
    }
}

#[test]
fn every_round_is_decided_even_in_a_hurricane() {
    for seed in 0..12 {
        let outcome = play(&Scenario::hurricane(seed));
        assert!(outcome.crashes > 50, "{}", outcome.crashes);
    }
}

#[test]
fn peers_whose_clocks_are_minutes_apart_and_drift_decide_every_round() {
    let outcome = play(&Scenario {
        clock_starts_at_ms: 0..=600_000,
        clock_drift_ppm: 20_000,
        ..Scenario::calm(18, 7)
    });
    assert!(outcome.virtual_ms < 200_000, "{} ms", outcome.virtual_ms);
}

#[test]
fn the_audit_reports_a_run_that_stalls_although_all_are_up() {
    let network = Network {
        loss_ppm: 1_000_000,
        ..Network::good()
    };
    let outcome = run(&Scenario {
        network,
        ..Scenario::calm(13, 4)
    });
    assert!(
        matches!(outcome, Err(Violation::Stalled { .. })),
        "{outcome:?}"
    );
}

/// Ten founders of whom some propose two sets in every view, and vote for each towards the peers
/// that received it. Latencies are equal, and the mesh holds everybody, so everybody hears its own
/// half's set first.
fn two_faced(liars: usize) -> Scenario {
    Scenario {
        liars: (0..liars)
            .map(|liar| (liar, Lie::TwoProposals, 0))
            .collect(),
        network: Network {
            latency_ms: 50..=50,
            mesh_degree: 9,
            ..Network::good()
        },
        ..Scenario::calm(19, 10)
    }
}

#[test]
fn the_audit_reports_the_fork_that_more_than_a_third_of_the_votes_can_make() {
    let outcome = run(&two_faced(4));
    assert!(matches!(outcome, Err(Violation::Fork(_))), "{outcome:?}");
}

#[test]
fn a_third_of_the_votes_forks_nothing_and_is_banned() {
    let outcome = play(&two_faced(3));
    assert_eq!(outcome.banned.len(), 3);
    // Honest peers tell each other of contradictory proposals, and each takes that for proof.
    assert_eq!(outcome.dropped.get(&DropCause::Malformed), None);
}

/// Seeds of a block that are played if not all are.
const SOME: usize = 10;

/// Plays seeds of [`Scenario::stormy`] twice. Both runs must have the same trace.
fn storms(seeds: std::ops::Range<u64>) {
    let count = if full() { seeds.clone().count() } else { SOME };
    for seed in seeds.take(count) {
        let scenario = Scenario::stormy(seed);
        let outcome = play(&scenario);
        assert_eq!(
            outcome,
            play(&scenario),
            "seed {seed} gives another outcome the second time"
        );
    }
}

macro_rules! storms {
    ($($name:ident: $seeds:expr;)*) => {
        $(#[test]
        fn $name() {
            storms($seeds);
        })*
    };
}

storms! {
    storms_from_seed_0: 0..125;
    storms_from_seed_125: 125..250;
    storms_from_seed_250: 250..375;
    storms_from_seed_375: 375..500;
    storms_from_seed_500: 500..625;
    storms_from_seed_625: 625..750;
    storms_from_seed_750: 750..875;
    storms_from_seed_875: 875..1_000;
}
