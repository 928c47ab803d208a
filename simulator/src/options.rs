//! What to simulate.

use thiserror::Error;
use weal_coordinator_free::sim::{Absence, Network, Partition, Scenario};
use weal_proto::manifest::{AggregationRule, Compression, Manifest, OuterRate};

use crate::behaviour::{Behaviour, find};
use crate::conduct::Conduct;
use crate::learner::{BATCH, COMPRESSION, STEPS};

/// The outer learning rate, in parts per million.
const OUTER_RATE_PPM: u32 = 600_000;

/// What the network between the peers is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conditions {
    /// Latencies of 10 to 150 ms, and nothing is lost.
    #[default]
    Good,
    /// Latencies of up to 900 ms, 10 Mbit/s up and 50 Mbit/s down.
    Slow,
    /// One message in ten is lost.
    Lossy,
    /// Two of five peers are cut off for half a minute, twice.
    Split,
}

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of peers, dishonest ones included. All but crowds are founders.
    pub peers: usize,
    /// The dishonest peers among them: how they behave, and how many do.
    pub dishonest: Vec<(&'static Behaviour, usize)>,
    /// Rounds to play.
    pub rounds: u64,
    /// Determines everything that is random.
    pub seed: u64,
    /// What the network is like.
    pub conditions: Conditions,
    /// Whether a quarter of the honest peers leave, one after the other, and return.
    pub churn: bool,
}

/// Why there is nothing to simulate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A part of the mix is not `behaviour=count`.
    #[error("`{0}` is not of the form behaviour=count")]
    Form(String),
    /// There is no such behaviour.
    #[error("there is no behaviour `{0}`")]
    Behaviour(String),
    /// Nobody is left who is honest.
    #[error("{dishonest} of {peers} peers are dishonest, so none is honest")]
    NoneHonest {
        /// The number of peers.
        peers: usize,
        /// The number of those that are dishonest.
        dishonest: usize,
    },
}

/// Reads a mix such as `sign-flip=2,noise=2`.
///
/// # Errors
/// If it is of another form, or names a behaviour that does not exist.
pub fn parse_mix(text: &str) -> Result<Vec<(&'static Behaviour, usize)>, OptionsError> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let form = || OptionsError::Form(part.to_owned());
            let (name, count) = part.split_once('=').ok_or_else(form)?;
            let count = count.trim().parse().map_err(|_| form())?;
            let unknown = || OptionsError::Behaviour(name.to_owned());
            Ok((find(name.trim()).ok_or_else(unknown)?, count))
        })
        .collect()
}

impl Options {
    /// 40 rounds of this many honest peers on a good network.
    pub const fn new(peers: usize, seed: u64) -> Self {
        Self {
            peers,
            dishonest: Vec::new(),
            rounds: 40,
            seed,
            conditions: Conditions::Good,
            churn: false,
        }
    }

    /// The number of dishonest peers.
    pub fn liars(&self) -> usize {
        self.dishonest.iter().map(|(_, count)| count).sum()
    }

    /// Checks that somebody is honest.
    ///
    /// # Errors
    /// If nobody is.
    pub fn check(&self) -> Result<(), OptionsError> {
        let (peers, dishonest) = (self.peers, self.liars());
        if dishonest < peers {
            Ok(())
        } else {
            Err(OptionsError::NoneHonest { peers, dishonest })
        }
    }

    /// The same run with the honest peers alone.
    pub fn honest_only(&self) -> Self {
        Self {
            peers: self.peers.saturating_sub(self.liars()),
            dishonest: Vec::new(),
            ..self.clone()
        }
    }

    /// How each peer behaves, by index; `None` for honest ones, which come first.
    pub fn behaviours(&self) -> Vec<Option<&'static Behaviour>> {
        let honest = self.peers.saturating_sub(self.liars());
        let mut mix = self.dishonest.clone();
        mix.sort_by_key(|(behaviour, _)| behaviour.conduct == Conduct::Crowd);
        let liars = mix.into_iter();
        let liars = liars.flat_map(|(behaviour, count)| vec![Some(behaviour); count]);
        std::iter::repeat_n(None, honest).chain(liars).collect()
    }

    /// The simulator's scenario. One more round is decided than played, so that the weights after
    /// the last one are known.
    pub(crate) fn scenario(&self) -> Scenario {
        let liars = self.behaviours().into_iter().enumerate();
        let lie = |(index, behaviour): (usize, Option<&Behaviour>)| match behaviour?.conduct {
            Conduct::Equivocate(lie) => Some((index, lie, 1)),
            _ => None,
        };
        Scenario {
            rounds: self.rounds + 1,
            network: self.network(),
            absences: self.absences(),
            founders: self.founders(),
            liars: liars.filter_map(lie).collect(),
            give_up_after_ms: 24 * 60 * 60 * 1000,
            ..Scenario::calm(self.seed, self.peers)
        }
    }

    /// The founders come first. Crowds are newcomers, so they are the last of the mix.
    fn founders(&self) -> usize {
        let mix = self.dishonest.iter();
        let crowds = mix.filter(|(behaviour, _)| behaviour.conduct == Conduct::Crowd);
        let crowds: usize = crowds.map(|(_, count)| count).sum();
        self.peers.saturating_sub(crowds)
    }

    fn network(&self) -> Network {
        let good = Network::good();
        let cut_off: Vec<usize> = (0..self.peers * 2 / 5).collect();
        let split = |from: u64| Partition {
            during: from..=from + 30_000,
            cut_off: cut_off.clone(),
        };
        match self.conditions {
            Conditions::Good => good,
            Conditions::Slow => Network {
                latency_ms: 50..=900,
                uplink_bits_per_s: 10_000_000,
                downlink_bits_per_s: 50_000_000,
                ..good
            },
            Conditions::Lossy => Network {
                loss_ppm: 100_000,
                ..good
            },
            Conditions::Split => Network {
                partitions: vec![split(30_000), split(120_000)],
                ..good
            },
        }
    }

    fn absences(&self) -> Vec<Absence> {
        let honest = self.peers.saturating_sub(self.liars());
        let leaving = if self.churn { honest / 4 } else { 0 };
        (0..leaving)
            .map(|peer| Absence {
                peer,
                leaves_in: Some(3 + 2 * peer as u64),
                joins_at: 6 + 2 * peer as u64,
            })
            .collect()
    }
}

/// Makes the simulator's manifest one for the lab's model.
pub(crate) fn adjust(manifest: &mut Manifest) {
    manifest.inner.steps = STEPS;
    manifest.inner.batch = BATCH;
    manifest.compression = Compression {
        chunk: COMPRESSION.chunk as u32,
        keep: COMPRESSION.keep as u32,
        decay_ppm: COMPRESSION.decay_ppm,
        ..manifest.compression
    };
    manifest.outer.rule = AggregationRule::RootOfSenders;
    manifest.outer.rates = vec![OuterRate {
        from_round: 0,
        rate_ppm: OUTER_RATE_PPM,
    }];
    manifest.limits.contributions = 64;
    manifest.limits.peers = 256;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_names_behaviours_and_counts() {
        let mix = parse_mix("sign-flip=2, noise=3").unwrap();
        let names: Vec<_> = mix.iter().map(|(one, count)| (one.name, *count)).collect();
        assert_eq!(names, [("sign-flip", 2), ("noise", 3)]);
        let form = |part: &str| Err(OptionsError::Form(part.into()));
        assert_eq!(parse_mix("noise"), form("noise"));
        assert_eq!(parse_mix("noise=x"), form("noise=x"));
        assert_eq!(
            parse_mix("none=1"),
            Err(OptionsError::Behaviour("none".into()))
        );
        assert_eq!(parse_mix(""), Ok(Vec::new()));
    }
}
