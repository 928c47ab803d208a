//! Compares rules of the outer step, with liars among the peers and without: a small language
//! model, trained by many peers in one process, through the real codec.
//!
//! ```sh
//! cargo run --release -p weal-kernels --example liars -- text=tinyshakespeare.txt
//! ```
//!
//! Prints a line of JSON for each run. Settings, as name=value:
//!
//! ```text
//! peers=16 liars=4 rounds=30 steps=10 batch=128 alpha=0.8 keep=32
//! attacks=honest,turned,…   rules=root,senders,…   admit=0,1   seeds=0,1
//! ```
//!
//! `admit=1` refuses contributions whose net overlap is below half of the median, as voters do.

#![allow(clippy::print_stdout)] // a developer reads it

mod attack;
mod model;
mod rule;

use std::error::Error;

use rayon::prelude::*;
use weal_kernels::{Compression, Contribution, Layout, Overlaps, compress, decode};
use weal_testing::SplitMix64;

use attack::Attack;
use model::{Buffers, CONTEXT, Example, Optimiser, WEIGHTS};
use rule::Rule;

type Failure = Box<dyn Error + Send + Sync>;

/// What is equal in all runs.
#[derive(Debug, Clone)]
struct Settings {
    text: Vec<u8>,
    peers: usize,
    liars: usize,
    rounds: u64,
    steps: usize,
    batch: usize,
    alpha: f32,
    keep: usize,
    attacks: Vec<Attack>,
    rules: Vec<Rule>,
    admit: Vec<bool>,
    seeds: Vec<u64>,
}

impl Settings {
    fn from_arguments() -> Result<Self, Failure> {
        let mut settings = Self {
            text: Vec::new(),
            peers: 16,
            liars: 4,
            rounds: 30,
            steps: 10,
            batch: 128,
            alpha: 0.8,
            keep: 32,
            attacks: Attack::ALL.map(|(_, attack)| attack).to_vec(),
            rules: Rule::ALL.map(|(_, rule)| rule).to_vec(),
            admit: vec![false, true],
            seeds: vec![0, 1],
        };
        for argument in std::env::args().skip(1) {
            let (name, value) = argument.split_once('=').ok_or("write name=value")?;
            match name {
                "text" => settings.text = std::fs::read(value)?,
                "peers" => settings.peers = value.parse()?,
                "liars" => settings.liars = value.parse()?,
                "rounds" => settings.rounds = value.parse()?,
                "steps" => settings.steps = value.parse()?,
                "batch" => settings.batch = value.parse()?,
                "alpha" => settings.alpha = value.parse()?,
                "keep" => settings.keep = value.parse()?,
                "attacks" => settings.attacks = named(value, &Attack::ALL)?,
                "rules" => settings.rules = named(value, &Rule::ALL)?,
                "admit" => settings.admit = value.split(',').map(|one| one == "1").collect(),
                "seeds" => {
                    let seeds = value.split(',').map(str::parse);
                    settings.seeds = seeds.collect::<Result<_, _>>()?;
                }
                _ => return Err(format!("there is no setting {name}").into()),
            }
        }
        if settings.text.len() < 100_000 {
            return Err("name a text of at least 100 kB: text=FILE".into());
        }
        Ok(settings)
    }

    /// Examples from a part of the text, from `first` to `end` in thousandths.
    fn examples(
        &self,
        count: usize,
        part: (usize, usize),
        random: &mut SplitMix64,
    ) -> Vec<Example> {
        let place = |thousandths: usize| self.text.len() / 1000 * thousandths;
        let (first, end) = (place(part.0), place(part.1));
        let draw = |_| {
            let start = first + random.below(end - first - CONTEXT - 1);
            let context = &self.text[start..start + CONTEXT];
            let target = self.text[start + CONTEXT];
            (context.try_into().unwrap_or([0; CONTEXT]), target)
        };
        (0..count).map(draw).collect()
    }
}

fn named<T: Copy>(list: &str, all: &[(&str, T)]) -> Result<Vec<T>, Failure> {
    let find = |name: &str| {
        let found = all.iter().find(|(other, _)| *other == name);
        found
            .map(|(_, one)| *one)
            .ok_or_else(|| format!("there is no {name}").into())
    };
    list.split(',').map(find).collect()
}

fn main() -> Result<(), Failure> {
    let settings = Settings::from_arguments()?;
    let mut runs = Vec::new();
    for &attack in &settings.attacks {
        for &rule in &settings.rules {
            for &admit in &settings.admit {
                runs.extend(
                    settings
                        .seeds
                        .iter()
                        .map(|&seed| (attack, rule, admit, seed)),
                );
            }
        }
    }
    runs.par_iter()
        .try_for_each(|&(attack, rule, admit, seed)| {
            let mut run = Run::new(&settings, attack, rule, seed)?;
            for round in 0..settings.rounds {
                run.round(round, admit)?;
            }
            println!("{}", run.report(admit));
            Ok(())
        })
}

/// One run.
struct Run<'a> {
    settings: &'a Settings,
    layout: Layout,
    compression: Compression,
    attack: Attack,
    rule: Rule,
    seed: u64,
    theta: Vec<f32>,
    last: Vec<f32>,
    peers: Vec<Peer>,
    buffers: Buffers,
    heldout: Vec<Example>,
    losses: Vec<f32>,
    honest_refused: usize,
    liars_admitted: usize,
}

#[derive(Default)]
struct Peer {
    optimiser: Optimiser,
    error: Vec<f32>,
    bodies: Vec<Vec<u8>>,
}

impl<'a> Run<'a> {
    fn new(settings: &'a Settings, attack: Attack, rule: Rule, seed: u64) -> Result<Self, Failure> {
        let heldout = settings.examples(2_000, (900, 1_000), &mut SplitMix64(99));
        let absent = if attack == Attack::Absent {
            settings.liars
        } else {
            0
        };
        Ok(Self {
            settings,
            layout: model::layout()?,
            compression: Compression {
                keep: settings.keep,
                ..Compression::default()
            },
            attack,
            rule,
            seed,
            theta: model::initial(seed),
            last: vec![0.0; WEIGHTS],
            peers: (absent..settings.peers)
                .map(|_| Peer {
                    error: vec![0.0; WEIGHTS],
                    ..Peer::default()
                })
                .collect(),
            buffers: Buffers::default(),
            heldout,
            losses: Vec::new(),
            honest_refused: 0,
            liars_admitted: 0,
        })
    }

    /// How many of the first peers lie.
    fn liars(&self) -> usize {
        match self.attack {
            Attack::Absent | Attack::Honest => 0,
            _ => self.settings.liars,
        }
    }

    fn round(&mut self, round: u64, admit: bool) -> Result<(), Failure> {
        let contributions = (0..self.peers.len()).map(|number| self.contribute(round, number));
        let contributions = contributions.collect::<Result<Vec<_>, _>>()?;
        let admitted = if admit {
            self.admitted(&contributions)?
        } else {
            vec![true; contributions.len()]
        };
        let liars = self.liars();
        for (number, admitted) in admitted.iter().enumerate() {
            self.honest_refused += usize::from(number >= liars && !admitted);
            self.liars_admitted += usize::from(number < liars && *admitted);
        }
        let set: Vec<Contribution> = contributions
            .into_iter()
            .zip(&admitted)
            .filter(|(_, admitted)| **admitted)
            .map(|(one, _)| one)
            .collect();
        self.last = self.rule.step(&self.layout, &set, &self.last)?;
        let alpha = self.settings.alpha;
        let step = self.theta.iter_mut().zip(&self.last);
        step.for_each(|(weight, step)| *weight -= alpha * step);
        let loss = model::loss(&self.theta, &self.heldout, &mut self.buffers);
        self.losses.push(loss);
        Ok(())
    }

    fn contribute(&mut self, round: u64, number: usize) -> Result<Contribution, Failure> {
        let lies = number < self.liars();
        let mut random = SplitMix64(self.seed << 40 | round << 20 | (number as u64) << 8 | 1);
        let mut delta = self.theta.clone();
        let steps = if lies && self.attack == Attack::Lazy {
            2
        } else {
            self.settings.steps
        };
        for _ in 0..steps {
            let mut batch = self
                .settings
                .examples(self.settings.batch, (0, 900), &mut random);
            if lies && self.attack == Attack::Reversed {
                batch.iter_mut().for_each(|(context, target)| {
                    context.reverse();
                    std::mem::swap(&mut context[0], target);
                });
            }
            self.peers[number]
                .optimiser
                .step(&mut delta, &batch, &mut self.buffers);
        }
        weal_kernels::pseudo_gradient(&self.theta, &mut delta)?;
        let peer = &mut self.peers[number];
        if lies {
            self.attack.lie(&mut delta, &self.last, &mut random);
        }
        let body = compress(&self.layout, &self.compression, &peer.error, &mut delta)?;
        // A liar that makes values up has nothing left to send later.
        let made_up = matches!(
            self.attack,
            Attack::Noise | Attack::Against | Attack::Scaled
        );
        if lies && made_up {
            delta.fill(0.0);
        }
        peer.error = delta;
        peer.bodies.push(body);
        let age = if lies && self.attack == Attack::Stale {
            3
        } else {
            1
        };
        let sent = &peer.bodies[peer.bodies.len().saturating_sub(age)];
        Ok(decode(&self.layout, &self.compression, sent, sent.len())?)
    }

    /// Which contributions have at least half of the median net overlap.
    fn admitted(&self, contributions: &[Contribution]) -> Result<Vec<bool>, Failure> {
        let overlaps = Overlaps::of(&self.layout, &contributions.iter().collect::<Vec<_>>())?;
        let everyone = vec![true; contributions.len()];
        let nets: Vec<i32> = (0..contributions.len())
            .map(|number| overlaps.net(number, &everyone).map_or(0, |net| net.ppm))
            .collect();
        let mut rising = nets.clone();
        rising.sort_unstable();
        let median = rising[(rising.len() - 1) / 2];
        Ok(nets.iter().map(|net| 2 * net >= median).collect())
    }

    fn report(&self, admit: bool) -> String {
        let attack = Attack::ALL.iter().find(|(_, one)| *one == self.attack);
        let rule = Rule::ALL.iter().find(|(_, one)| *one == self.rule);
        let losses: Vec<String> = self
            .losses
            .iter()
            .map(|loss| format!("{loss:.4}"))
            .collect();
        format!(
            "{{\"attack\":\"{}\",\"rule\":\"{}\",\"admit\":{admit},\"seed\":{},\"loss\":{},\
             \"honest_refused\":{},\"liars_admitted\":{},\"losses\":[{}]}}",
            attack.map_or("", |(name, _)| name),
            rule.map_or("", |(name, _)| name),
            self.seed,
            losses.last().map_or("null", String::as_str),
            self.honest_refused,
            self.liars_admitted,
            losses.join(","),
        )
    }
}
