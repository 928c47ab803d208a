//! Networks of real nodes with a real trainer, some of which lie: the others decide rounds, apply
//! none of the lies, refuse no honest work, and learn what they would learn without the liars.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)] // a developer reads it

use std::time::Duration;

use weal_tests::net::{Net, quick_run};

const PATIENCE: Duration = Duration::from_secs(600);
/// Rounds of each run.
const ROUNDS: u64 = 12;
/// Honest nodes.
const HONEST: usize = 4;

/// What a run came to.
struct Outcome {
    /// The held-out loss in the end, in nats per byte.
    loss: f64,
    /// Contributions applied, of honest nodes and of liars.
    honest: usize,
    lies: usize,
    rounds: usize,
}

/// Runs a network of honest nodes, and of liars after them.
fn run(lies: &[&str]) -> Outcome {
    let mut file = quick_run();
    // Steps enough that contributions agree, and time enough for all of them.
    file.inner.steps = 6;
    file.inner.batch = 2;
    file.timing.train_seconds = 60.0;
    file.timing.fetch_seconds = 20.0;
    file.timing.attest_seconds = 20.0;
    let numbered = lies.iter().enumerate();
    let liars: Vec<_> = numbered
        .map(|(number, lie)| (HONEST + number, *lie))
        .collect();
    let net = Net::start_with_liars(HONEST + lies.len(), file, &liars);
    net.wait_for_rounds(ROUNDS, PATIENCE);
    net.assert_roots_agree();
    let status = net.status(0).expect("a node that answers");
    let rounds = || status.history.iter().take(ROUNDS as usize);
    let applied = |nodes: std::ops::Range<usize>| {
        let is_there = |peer: &&String| net.nodes[nodes.clone()].iter().any(|n| n.peer == **peer);
        rounds()
            .flat_map(|round| &round.contributors)
            .filter(is_there)
            .count()
    };
    let mut losses = rounds().filter_map(|round| round.heldout_nats_per_byte);
    Outcome {
        loss: losses
            .next_back()
            .expect("the first node measures the loss"),
        honest: applied(0..HONEST),
        lies: applied(HONEST..HONEST + lies.len()),
        rounds: rounds().count(),
    }
}

/// Runs of each kind at most. The loss of two honest runs differs by about 1 %, as much as by
/// chance their first weights and their data differ. So what looks too high is measured again, and
/// means are compared.
const MOST_RUNS: usize = 3;

/// The held-out losses of several runs.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Losses {
    /// Adds a run in which all honest work must be applied.
    fn add(&mut self, lies: &[&str]) {
        let run = run(lies);
        println!(
            "{lies:?}: {:.4} nats/byte; applied {} of {} honest, {} lies",
            run.loss,
            run.honest,
            HONEST * run.rounds,
            run.lies
        );
        assert_eq!(run.honest, HONEST * run.rounds, "honest work refused");
        self.0.push(run.loss);
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }
}

#[test]
fn two_of_six_lie_and_the_network_learns_as_without_them() {
    let mut without = Losses::default();
    without.add(&[]);
    for lies in [
        ["sign-flip", "noise"],
        ["replay,false-scores", "zeros"],
        ["wrong-data", "copy"],
    ] {
        let mut with = Losses::default();
        with.add(&lies);
        while with.mean() >= 1.02 * without.mean() && with.0.len() < MOST_RUNS {
            with.add(&lies);
            if without.0.len() < MOST_RUNS {
                without.add(&[]);
            }
        }
        assert!(with.mean() < 1.02 * without.mean(), "{lies:?}");
    }
}
