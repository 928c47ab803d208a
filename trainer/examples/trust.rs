//! Measures how well each signal tells dishonest contributions from honest ones: the loss, a
//! voter's own work, and net overlap. Honest peers train a small model together; in each round,
//! contributions of every dishonest kind are made as well and measured, but not applied. Prints
//! the AUC of each signal for each kind: the chance that an honest contribution of the same round
//! scores higher.
//!
//! ```sh
//! cargo run -p weal-trainer --example trust -- peers=8 rounds=12
//! ```

#![allow(clippy::print_stdout)] // a developer reads it

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weal_kernels::{
    Compression, Contribution, Layout, OuterStep, Overlaps, OwnWork, Rule, apply, clip_factors,
    compress, decode,
};
use weal_trainer::{
    Assignment, Candidate, Corpus, InnerSpec, Judge, Learner, ModelSpec, ModelWeights, OpenDevice,
    Sent, TextSource, Tokeniser, initial_weights,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The dishonest kinds, in the order of the table.
const KINDS: [&str; 7] = [
    "all signs turned",
    "a quarter turned",
    "random places and signs",
    "its places, random signs",
    "last round's own again",
    "lazy: 2 steps, scaled up",
    "trained on random text",
];
/// The signals, in the order of the table.
const SIGNALS: [&str; 8] = [
    "own, 1 window",
    "held-out, 1 window",
    "own, 8 windows",
    "held-out, 8 windows",
    "work: v",
    "work: Δ",
    "work: larger",
    "net overlap",
];
/// Windows of the two loss tests.
const WINDOWS: [usize; 2] = [1, 8];

struct Settings {
    peers: usize,
    rounds: u64,
    alpha: f32,
    inner: InnerSpec,
    seed: u8,
}

fn settings() -> Result<Settings> {
    let mut settings = Settings {
        peers: 8,
        rounds: 12,
        alpha: 1.3,
        inner: InnerSpec::default(),
        seed: 0,
    };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument
            .split_once('=')
            .ok_or("arguments must be name=value")?;
        match name {
            "peers" => settings.peers = value.parse()?,
            "rounds" => settings.rounds = value.parse()?,
            "alpha" => settings.alpha = value.parse()?,
            "steps" => settings.inner.steps = value.parse()?,
            "batch" => settings.inner.batch = value.parse()?,
            "seed" => settings.seed = value.parse()?,
            _ => return Err(format!("unknown setting {name:?}").into()),
        }
    }
    Ok(settings)
}

/// Everything that stays the same from round to round.
struct Run {
    settings: Settings,
    layout: Layout,
    compression: Compression,
}

/// A peer, and what it does in a round.
struct Peer {
    learner: Learner,
    number: u8,
    /// Inner steps that it takes at most.
    steps: u64,
}

/// A peer's work in a round.
struct Work {
    contribution: Contribution,
    own: OwnWork,
    assignment: Assignment,
    samples: u64,
}

fn main() -> Result<()> {
    let settings = settings()?;
    let model = ModelSpec::preset("nano")?;
    let text = |seed| TextSource::Generated {
        seed: [seed; 32],
        bytes: 1 << 20,
    };
    let corpus = Arc::new(Corpus::new(&[text(0)], Tokeniser::Bytes)?);
    let noise: Vec<u8> = draws(99)
        .take(1 << 20)
        .map(|draw| 32 + (draw % 95) as u8)
        .collect();
    let random = Arc::new(Corpus::new(&[TextSource::Text(noise)], Tokeniser::Bytes)?);
    let peer = |number: usize, corpus: &Arc<Corpus>, steps: u32| -> Result<Peer> {
        let inner = settings.inner.clone();
        let learner = Learner::new(model.clone(), inner, corpus.clone(), &OpenDevice::cpu())?;
        Ok(Peer {
            learner,
            number: number as u8,
            steps: steps.into(),
        })
    };
    let steps = settings.inner.steps;
    let honest = (0..settings.peers).map(|number| peer(number, &corpus, steps));
    let mut honest: Vec<Peer> = honest.collect::<Result<_>>()?;
    let mut lazy = peer(settings.peers, &corpus, 2)?;
    let mut misled = peer(settings.peers + 1, &random, steps)?;
    let mut theta: Arc<ModelWeights> =
        Arc::new(initial_weights(&model, &[settings.seed; 32])?.into());
    let run = Run {
        layout: model.layout()?,
        compression: Compression::default(),
        settings,
    };
    let mut table = Table::default();
    let mut before: Option<Contribution> = None;
    for round in 0..run.settings.rounds {
        let works = honest
            .iter_mut()
            .map(|peer| work(&run, peer, &theta, round));
        let works: Vec<Work> = works.collect::<Result<_>>()?;
        let contributions: Vec<Contribution> =
            works.iter().map(|work| work.contribution.clone()).collect();
        let liars = [
            Some(reworked(&run, &contributions[1], |value, _| -value)?),
            Some(reworked(&run, &contributions[1], |value, draw| {
                if draw % 4 == 0 { -value } else { value }
            })?),
            Some(random_places(&run, &contributions[1])?),
            Some(reworked(&run, &contributions[1], |value, draw| {
                if draw % 2 == 0 { -value } else { value }
            })?),
            before.take(),
            Some(scaled_up(
                &run,
                &work(&run, &mut lazy, &theta, round)?.contribution,
                &contributions[1],
            )?),
            Some(work(&run, &mut misled, &theta, round)?.contribution),
        ];
        let mut measure = Measure {
            run: &run,
            voter: &mut honest[0].learner,
            own: &works[0].own,
            theta: &theta,
            round,
            spent: Duration::ZERO,
        };
        let honest_scores: Vec<[f64; SIGNALS.len()]> = (1..works.len())
            .map(|number| {
                measure.scores(
                    &contributions,
                    Some(number),
                    &contributions[number],
                    &works[number],
                )
            })
            .collect::<Result<_>>()?;
        for (kind, liar) in liars.iter().enumerate() {
            if let Some(liar) = liar {
                let scores = measure.scores(&contributions, None, liar, &works[1])?;
                table.add(round, kind, &honest_scores, &scores);
            }
        }
        let spent = measure.spent;
        before = Some(contributions[1].clone());
        let mut next = theta.to_vec();
        let ones = vec![1_000_000; contributions.len()];
        let step = OuterStep {
            contributions: &contributions,
            coefficients_ppm: &ones,
            alpha: run.settings.alpha,
            rule: Rule::RootOfSenders,
        };
        apply(&run.layout, &mut next, &step)?;
        theta = Arc::new(next.into());
        let loss = honest[0].learner.heldout_loss(&theta, 64)?.nats_per_byte;
        println!(
            "round {:2}  held-out {loss:.4} nats/byte  judging {:.2} s",
            round + 1,
            spent.as_secs_f64()
        );
    }
    table.print(run.settings.rounds);
    Ok(())
}

/// Trains a peer for a round.
fn work(run: &Run, peer: &mut Peer, theta: &[f32], round: u64) -> Result<Work> {
    let inner = &run.settings.inner;
    let samples = u64::from(inner.steps) * u64::from(inner.batch);
    let peers = run.settings.peers as u64 + 2;
    let first = (round * peers + u64::from(peer.number)) * samples;
    let assignment = Assignment {
        spans: vec![first..first + samples],
        ..Assignment::newcomer([run.settings.seed; 32], [peer.number; 32])
    };
    let steps = peer.steps;
    let before = round * u64::from(inner.steps);
    let trained = peer
        .learner
        .train(theta, &assignment, before, &mut |progress| {
            if progress.steps < steps {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
    let body = peer.learner.compress(theta, &run.compression)?;
    let sent = Sent {
        body: &body,
        compression: &run.compression,
    };
    Ok(Work {
        contribution: decode(&run.layout, &run.compression, &body, body.len())?,
        own: peer.learner.own_work(theta, &sent, &[peer.number; 32])?,
        assignment,
        samples: trained.samples,
    })
}

/// What a voter measures in a round.
struct Measure<'a> {
    run: &'a Run,
    voter: &'a mut Learner,
    own: &'a OwnWork,
    theta: &'a Arc<ModelWeights>,
    round: u64,
    spent: Duration,
}

impl Measure<'_> {
    /// Every signal of a contribution among the honest ones, of which it may be number `number`.
    /// `claimed` says which samples it claims.
    fn scores(
        &mut self,
        honest: &[Contribution],
        number: Option<usize>,
        contribution: &Contribution,
        claimed: &Work,
    ) -> Result<[f64; SIGNALS.len()]> {
        let layout = &self.run.layout;
        let mut all: Vec<&Contribution> = honest.iter().collect();
        // A liar takes the place of the peer whose samples it claims.
        let number = number.unwrap_or(1);
        all[number] = contribution;
        let net = Overlaps::of(layout, &all)?.net(number, &vec![true; all.len()]);
        let owned: Vec<Contribution> = all.into_iter().cloned().collect();
        let clips = clip_factors(&owned, &vec![1_000_000; owned.len()]);
        let agreement = self.own.agreement(layout, contribution)?;
        let (v, delta) = agreement.map_or((0, 0), |found| (found.to_send_ppm, found.learnt_ppm));
        let mut scores = [0.0; SIGNALS.len()];
        let begun = Instant::now();
        for (which, windows) in WINDOWS.into_iter().enumerate() {
            let mut seed = [which as u8; 32];
            seed[..8].copy_from_slice(&self.round.to_le_bytes());
            let mut judge = Judge::new(self.theta.clone(), seed, windows);
            let candidate = Candidate {
                contribution,
                scale: self.run.settings.alpha,
                clip: &clips[number],
                assignment: &claimed.assignment,
                samples: claimed.samples,
            };
            let control = &mut || ControlFlow::Continue(());
            let judged = self.voter.judge(&mut judge, &candidate, control)?;
            let judged = judged.ok_or("nothing interrupts it")?;
            scores[2 * which] = judged.own_ppm.into();
            scores[2 * which + 1] = judged.heldout_ppm.into();
        }
        self.spent += begun.elapsed();
        scores[4..].copy_from_slice(&[
            v.into(),
            delta.into(),
            v.max(delta).into(),
            net.map_or(0.0, |net| net.ppm.into()),
        ]);
        Ok(scores)
    }
}

/// A contribution with each value changed. `change` also gets a random number.
fn reworked(
    run: &Run,
    contribution: &Contribution,
    mut change: impl FnMut(f32, u64) -> f32,
) -> Result<Contribution> {
    let mut values = dense(run, contribution)?;
    let sent = values.iter_mut().filter(|value| **value != 0.0);
    sent.zip(draws(1))
        .for_each(|(value, draw)| *value = change(*value, draw));
    encoded(run, values)
}

/// As many values of the same size, elsewhere.
fn random_places(run: &Run, contribution: &Contribution) -> Result<Contribution> {
    let mut values = dense(run, contribution)?;
    let size = values.iter().map(|value| value.abs()).fold(0.0, f32::max);
    for (value, draw) in values.iter_mut().zip(draws(2)) {
        *value = size * ((draw >> 40) as f32 / (1 << 23) as f32 - 1.0);
    }
    encoded(run, values)
}

/// A contribution with the norm of another.
fn scaled_up(run: &Run, small: &Contribution, like: &Contribution) -> Result<Contribution> {
    let mut values = dense(run, small)?;
    for (tensor, range) in run.layout.ranges().enumerate() {
        let (from, to) = (small.norms()[tensor], like.norms()[tensor]);
        let factor = if from > 0.0 { to / from } else { 1.0 };
        values[range].iter_mut().for_each(|value| *value *= factor);
    }
    encoded(run, values)
}

fn dense(run: &Run, contribution: &Contribution) -> Result<Vec<f32>> {
    let mut values = vec![0.0; run.layout.parameters()];
    contribution.add_to(&run.layout, &mut values, 1.0)?;
    Ok(values)
}

fn encoded(run: &Run, mut values: Vec<f32>) -> Result<Contribution> {
    let zeros = vec![0.0; values.len()];
    let body = compress(&run.layout, &run.compression, &zeros, &mut values)?;
    Ok(decode(&run.layout, &run.compression, &body, body.len())?)
}

/// Random numbers (SplitMix64).
fn draws(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |number| {
        let mut z = seed
            .wrapping_mul(1 << 40)
            .wrapping_add(number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Wins of honest contributions by kind and signal, in the first and the second half of the run.
#[derive(Default)]
struct Table {
    rounds: BTreeMap<(usize, usize), BTreeMap<u64, f64>>,
}

impl Table {
    fn add(&mut self, round: u64, kind: usize, honest: &[[f64; SIGNALS.len()]], liar: &[f64]) {
        for (signal, liar) in liar.iter().enumerate() {
            let wins = honest
                .iter()
                .map(|honest| match honest[signal].total_cmp(liar) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                });
            let share = wins.sum::<f64>() / honest.len() as f64;
            self.rounds
                .entry((kind, signal))
                .or_default()
                .insert(round, share);
        }
    }

    fn print(&self, rounds: u64) {
        println!(
            "\n| AUC: first half, second half | {} |",
            SIGNALS.join(" | ")
        );
        println!("|---|{}", "---|".repeat(SIGNALS.len()));
        let mean = |shares: Vec<f64>| shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        for (kind, name) in KINDS.iter().enumerate() {
            let cells = (0..SIGNALS.len()).map(|signal| {
                let of = self.rounds.get(&(kind, signal)).into_iter().flatten();
                let (early, late): (Vec<_>, Vec<_>) =
                    of.partition(|(round, _)| **round < rounds / 2);
                let [early, late] = [early, late]
                    .map(|half| mean(half.into_iter().map(|(_, share)| *share).collect()));
                format!("{early:.2}, {late:.2}")
            });
            println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}
