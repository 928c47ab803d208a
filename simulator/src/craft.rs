//! What peers contribute: honest work, or something else.

use weal_coordinator_free::sim::Random;
use weal_kernels::{Error, Layout, compress};

use crate::learner::{COMPRESSION, Learner};
use crate::model::normal;
use crate::source::{Example, VOCABULARY};

/// Rounds by which [`Craft::Stale`] lags behind.
pub(crate) const STALE_ROUNDS: u64 = 4;
/// The rounds from which [`Craft::Betrayal`] and [`Craft::LateBetrayal`] lie.
const BETRAYAL: u64 = 15;
const LATE_BETRAYAL: u64 = 30;
/// The round from which [`Craft::SlowBetrayal`] turns signs, and the share of them by which it
/// turns more in each round, in parts per million.
const SLOW_BETRAYAL: u64 = 10;
const SLOW_STEP_PPM: u32 = 25_000;
/// The share of signs that [`Craft::Hiding`] turns, in parts per million.
const HIDDEN_PPM: u32 = 200_000;
/// Steps that [`Craft::Lazy`] takes.
const LAZY_STEPS: usize = 1;
/// How far [`Craft::LittleIsEnough`] leaves the mean, in standard deviations.
const LITTLE: f32 = 1.5;
/// The share of signs that [`Craft::NoisyCopy`] turns, in parts per million.
const COPY_NOISE_PPM: u32 = 100_000;

/// How a peer makes its contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Craft {
    /// Trains and compresses as the rules say.
    #[default]
    Honest,
    /// Sends the negative of what it learnt.
    SignFlip,
    /// Sends the negative of what it learnt, a thousand times as large.
    Scaled,
    /// Sends the negative of what it learnt at half the usual norm, which no clip touches.
    SmallPoison,
    /// Sends random numbers of an honest norm.
    Noise,
    /// Sends zeros.
    Zeros,
    /// Trains once, and then sends the same body round after round.
    Replay,
    /// Sends what another peer sent in the last round.
    Copy,
    /// Sends what another peer sent in the last round, with a tenth of the values turned.
    NoisyCopy,
    /// With its coalition, sends the negative of the mean of what honest peers learn.
    InnerProduct,
    /// With its coalition, sends a value just inside the spread of honest ones, on the wrong side.
    LittleIsEnough,
    /// Trains on wrong answers.
    Reversed,
    /// Trains from the weights of some rounds ago, and says that it did not.
    Stale,
    /// Takes one step instead of all, and scales the result to an honest norm.
    Lazy,
    /// Is honest for some rounds, and then sends the negative of what it learns.
    Betrayal,
    /// The same, much later.
    LateBetrayal,
    /// Is honest for some rounds, and then turns more signs in each round.
    SlowBetrayal,
    /// Turns a fifth of the signs, which no voter refuses.
    Hiding,
    /// Makes nothing.
    Idle,
}

/// What a peer has at hand when it makes its contribution.
pub(crate) struct Bench<'a> {
    /// The model's tensors.
    pub layout: &'a Layout,
    /// The weights to start from.
    pub base: &'a [f32],
    /// Older weights.
    pub stale: &'a [f32],
    /// The round, from 0.
    pub round: u64,
    /// The batches of its own share.
    pub batches: Vec<Vec<Example>>,
    /// Batches that its coalition trains on to guess what honest peers learn. They are the same for
    /// all of a coalition.
    pub guesses: Vec<Vec<Vec<Example>>>,
    /// What other peers sent in the last round, as one value per parameter.
    pub overheard: Vec<Vec<f32>>,
    /// The peer's own chance.
    pub random: Random,
}

/// What a peer made.
pub(crate) struct Made {
    /// The body of its contribution.
    pub body: Vec<u8>,
    /// What it would send if nothing were left out.
    pub to_send: Vec<f32>,
    /// What it learnt in this round.
    pub learnt: Vec<f32>,
}

impl Craft {
    /// Whether it needs to know what honest peers learn.
    pub(crate) const fn guesses(self) -> bool {
        matches!(self, Self::InnerProduct | Self::LittleIsEnough)
    }

    /// Whether it looks at what others sent.
    pub(crate) const fn copies(self) -> bool {
        matches!(self, Self::Copy | Self::NoisyCopy)
    }

    /// Makes a contribution. `last` is the body that the peer sent before, if any.
    ///
    /// # Errors
    /// If a value is not finite.
    pub(crate) fn make(
        self,
        learner: &mut Learner,
        last: Option<&[u8]>,
        bench: &mut Bench<'_>,
    ) -> Result<Made, Error> {
        if let (Self::Replay, Some(last)) = (self, last) {
            let nothing = || vec![0.0; bench.base.len()];
            return Ok(Made {
                body: last.to_vec(),
                to_send: nothing(),
                learnt: nothing(),
            });
        }
        let delta = self.delta(learner, bench)?;
        let (to_send, learnt) = (learner.wants(&delta), delta.clone());
        let body = if self.keeps_feedback(bench.round) {
            learner.compress(bench.layout, delta)?
        } else {
            let (mut delta, nothing) = (delta, vec![0.0; bench.base.len()]);
            compress(bench.layout, &COMPRESSION, &nothing, &mut delta)?
        };
        Ok(Made {
            body,
            to_send,
            learnt,
        })
    }

    /// Whether what it did not send belongs to what it learnt, and is worth sending later.
    const fn keeps_feedback(self, round: u64) -> bool {
        match self {
            Self::Honest | Self::SignFlip | Self::Reversed | Self::Stale | Self::Lazy => true,
            Self::Replay => true,
            Self::Betrayal => round < BETRAYAL,
            Self::LateBetrayal => round < LATE_BETRAYAL,
            Self::SlowBetrayal => round < SLOW_BETRAYAL,
            _ => false,
        }
    }

    /// The share of signs that it turns, in parts per million.
    fn turns_ppm(self, round: u64) -> u32 {
        if self == Self::Hiding {
            return HIDDEN_PPM;
        }
        let rounds = u32::try_from(round.saturating_sub(SLOW_BETRAYAL)).unwrap_or(u32::MAX);
        SLOW_STEP_PPM.saturating_mul(rounds).min(1_000_000)
    }

    /// The pseudo-gradient that it pretends to have.
    fn delta(self, learner: &mut Learner, bench: &mut Bench<'_>) -> Result<Vec<f32>, Error> {
        let (base, batches) = (bench.base, &bench.batches);
        Ok(match self {
            Self::Honest | Self::Replay => learner.train(base, batches)?,
            Self::SignFlip => scaled(learner.train(base, batches)?, -1.0),
            Self::Scaled => scaled(learner.train(base, batches)?, -1000.0),
            Self::SmallPoison => {
                let honest = learner.train(base, batches)?;
                scaled(learner.wants(&honest), -0.5)
            }
            Self::Betrayal | Self::LateBetrayal | Self::SlowBetrayal
                if self.keeps_feedback(bench.round) =>
            {
                learner.train(base, batches)?
            }
            Self::Betrayal | Self::LateBetrayal => {
                let honest = learner.train(base, batches)?;
                scaled(learner.wants(&honest), -1.0)
            }
            Self::SlowBetrayal | Self::Hiding => {
                let honest = learner.train(base, batches)?;
                let share = self.turns_ppm(bench.round);
                turned_by(learner.wants(&honest), share, &mut bench.random)
            }
            Self::Idle => vec![0.0; base.len()],
            Self::Noise => {
                let norm = norm(&learner.train(base, batches)?);
                let noise = base.iter().map(|_| normal(&mut bench.random)).collect();
                with_norm(noise, norm)
            }
            Self::Zeros => vec![0.0; base.len()],
            Self::Copy => overheard(bench),
            Self::NoisyCopy => turned(overheard(bench), &mut bench.random),
            Self::InnerProduct => scaled(mean(&guess(learner, bench)?), -1.0),
            Self::LittleIsEnough => little_is_enough(&guess(learner, bench)?),
            Self::Reversed => learner.train(base, &wrong(batches))?,
            Self::Stale => learner.train(bench.stale, batches)?,
            Self::Lazy => {
                let some = &batches[..LAZY_STEPS.min(batches.len())];
                scaled(learner.train(base, some)?, batches.len() as f32)
            }
        })
    }
}

fn scaled(mut values: Vec<f32>, factor: f32) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value *= factor);
    values
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn with_norm(values: Vec<f32>, wanted: f32) -> Vec<f32> {
    let factor = wanted / norm(&values).max(f32::MIN_POSITIVE);
    scaled(values, factor)
}

/// What one of the others sent in the last round; zeros in the first one.
fn overheard(bench: &mut Bench<'_>) -> Vec<f32> {
    let count = bench.overheard.len().max(1) as u64;
    let which = (bench.random.next() % count) as usize;
    let nothing = || vec![0.0; bench.base.len()];
    bench.overheard.get(which).cloned().unwrap_or_else(nothing)
}

/// These values with a tenth of the signs turned.
pub(crate) fn turned(values: Vec<f32>, random: &mut Random) -> Vec<f32> {
    turned_by(values, COPY_NOISE_PPM, random)
}

fn turned_by(mut values: Vec<f32>, share_ppm: u32, random: &mut Random) -> Vec<f32> {
    for value in &mut values {
        if random.chance(share_ppm) {
            *value = -*value;
        }
    }
    values
}

/// The same questions with other answers.
fn wrong(batches: &[Vec<Example>]) -> Vec<Vec<Example>> {
    let wrong = |example: &Example| Example {
        next: (VOCABULARY - 1 - usize::from(example.next)) as u8,
        ..*example
    };
    let batch = |batch: &Vec<Example>| batch.iter().map(wrong).collect();
    batches.iter().map(batch).collect()
}

/// What honest peers learn, as a coalition guesses it: it trains on samples of its own.
fn guess(learner: &Learner, bench: &Bench<'_>) -> Result<Vec<Vec<f32>>, Error> {
    let one = |batches: &Vec<Vec<Example>>| learner.clone().train(bench.base, batches);
    bench.guesses.iter().map(one).collect()
}

fn mean(guesses: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; guesses.first().map_or(0, Vec::len)];
    for guess in guesses {
        sum.iter_mut()
            .zip(guess)
            .for_each(|(sum, value)| *sum += value);
    }
    scaled(sum, 1.0 / guesses.len().max(1) as f32)
}

/// Baruch, Baruch and Goldberg, NeurIPS 2019: the mean less some standard deviations of each value.
fn little_is_enough(guesses: &[Vec<f32>]) -> Vec<f32> {
    let mut crafted = mean(guesses);
    for (place, value) in crafted.iter_mut().enumerate() {
        let squares: f32 = guesses
            .iter()
            .map(|guess| (guess[place] - *value).powi(2))
            .sum();
        let deviation = (squares / guesses.len().max(1) as f32).sqrt();
        *value -= LITTLE * deviation * value.signum();
    }
    crafted
}
