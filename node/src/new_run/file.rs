//! `run.toml`: a run as a person writes it, with fractions and seconds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weal_proto::PeerId;

use crate::documented::{documented, help_of, to_commented_toml};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::ByteCount;

/// Voting weight of a founder by default.
pub(super) const FOUNDER_WEIGHT: u64 = 1_000_000;

const HEAD: &str = "A run of Commonweal. The first `weal run` in this folder fixes all of it: the \
    run's id is a hash of it, and peers check it when they join. Edit this file before then.";

documented! {
    /// The whole of `run.toml`.
    pub struct RunFile {
        /// Name of the run, for people.
        name: String = "a commonweal".into(),
        /// Seed of the initial weights.
        seed: u64 = 1,
        /// Peers that vote from the start. By default the peer that starts the run.
        founders: Vec<FounderChoice> = Vec::new() => FounderChoice,
    }

    /// The model.
    [model] ModelChoice {
        /// Model size: nano, micro, tiny, small, medium or 1b.
        preset: String = "nano".into(),
        /// Hugging Face folder of a model to continue training; overrides `preset`.
        checkpoint: Option<PathBuf> = None,
        /// Context length in tokens, if shorter than the model's.
        context: Option<u32> = None,
    }

    /// The tokeniser.
    [tokeniser] TokeniserChoice {
        /// Path of a tokenizer.json; without one, each byte is a token.
        file: Option<PathBuf> = None,
    }

    /// The training text.
    [data] DataChoice {
        /// Text files and folders to train on, or one folder of tokens from `weal data prepare`.
        /// A tenth of the text is held out. Without any, the built-in generator makes the text.
        files: Vec<PathBuf> = Vec::new(),
        /// Seed of the built-in generator.
        generator_seed: u64 = 1,
        /// Bytes of text that the built-in generator makes.
        generator_bytes: ByteCount = ByteCount(4_000_000),
    }

    /// Training within a round, by each peer on its own.
    [inner] InnerChoice {
        /// Optimiser steps per round (H).
        steps: u32 = 10,
        /// Sequences per step.
        batch: u32 = 8,
        /// Peak learning rate.
        learning_rate: f64 = 0.002,
        /// Steps of linear learning-rate warm-up, counted over the whole run.
        warmup_steps: u32 = 20,
        /// Optimiser: adamw, or muon for the matrices inside the blocks and adamw for the rest.
        optimiser: Optimiser = Optimiser::AdamW,
        /// Momentum of muon.
        momentum: f64 = 0.95,
        /// Learning-rate schedule: cosine (falls from the end of the warm-up) or wsd (holds the
        /// peak until `decay_start`).
        schedule: Schedule = Schedule::Cosine,
        /// Step at which wsd starts to fall, counted over the whole run.
        decay_start: u32 = 0,
        /// Step at which the learning rate reaches its final value, counted over the whole run; 0
        /// holds the peak.
        decay_steps: u32 = 0,
        /// Final learning rate, as a fraction of the peak.
        final_rate: f64 = 0.1,
        /// Decay of AdamW's first moment (β1).
        beta1: f64 = 0.9,
        /// Decay of AdamW's second moment (β2).
        beta2: f64 = 0.95,
        /// Decoupled weight decay of matrices.
        weight_decay: f64 = 0.1,
        /// Largest global gradient norm; larger gradients are scaled down to it.
        gradient_clip: f64 = 1.0,
    }

    /// How a pseudo-gradient is compressed into a contribution.
    [compression] CompressionChoice {
        /// Consecutive values of a tensor per chunk.
        chunk: u32 = 4096,
        /// Values kept per chunk, the largest ones; the rest stays in the error feedback.
        keep: u32 = 32,
        /// Fraction of the error feedback that is left after a round.
        decay: f64 = 0.9,
    }

    /// How contributions change the weights.
    [outer] OuterChoice {
        /// What the sum of each value is divided by: root-of-senders (the square root of the number
        /// of peers that sent it), mean-of-senders (that number) or mean-of-all (the number of all
        /// contributions).
        rule: Rule = Rule::RootOfSenders,
        /// Outer learning rates, each from one round on.
        rates: Vec<RateStep> = vec![RateStep { from_round: 0, rate: 1.3 }] => RateStep,
        /// Whether a round with more than 8 contributions, n, multiplies the rate by (8 / n)^0.7:
        /// by 0.62 for 16, 0.53 for 20, 0.38 for 32. Without it, a run diverges as it grows.
        slower_with_more: bool = true,
    }

    /// Time limits of a round's phases, in seconds. A phase ends early when every peer has done its
    /// part.
    [timing] TimingChoice {
        /// Most seconds for training; the round does not wait for peers that take longer.
        train_seconds: f64 = 60.0,
        /// Most seconds for fetching and checking contributions.
        fetch_seconds: f64 = 30.0,
        /// Most seconds for the voters' attestations.
        attest_seconds: f64 = 10.0,
        /// Most seconds a proposer has before the others move on.
        propose_seconds: f64 = 3.0,
        /// Most seconds for each step of a vote.
        vote_seconds: f64 = 1.0,
    }

    /// Limits on what a round takes in.
    [limits] LimitsChoice {
        /// Most contributions applied per round.
        contributions: u32 = 20,
        /// Most bytes of a contribution. By default computed from the model.
        blob_bytes: Option<ByteCount> = None,
        /// Most places per round. There are a quarter more than contributions, if this allows it.
        peers: u32 = 40,
    }

    /// How contributions are judged. The book explains each number under "Trust".
    [trust] TrustChoice {
        /// Refuse a contribution whose agreement with the others is below this part of the median.
        least_signal: f64 = 0.5,
        /// Refuse one of two contributions that share more than this part of their values.
        copy: f64 = 0.5,
        /// Fewest contributions of a round that are compared with one another.
        least_compared: u32 = 5,
        /// Voters drawn to measure what a contribution does to the loss.
        committee: u32 = 5,
        /// Measured contributions before those of a newcomer are applied.
        probation: u32 = 3,
        /// Rounds after which the measurements of a round count.
        settle_rounds: u32 = 3,
        /// Rounds over which a peer's standing averages.
        memory_rounds: u32 = 8,
        /// Apply a contribution in full from this part of the median standing on.
        full_standing: f64 = 0.5,
        /// Most weight that all peers together earn in a round.
        pot: u64 = 50_000,
    }

    /// How voting weight is earned and lost.
    [membership] MembershipChoice {
        /// Fraction of a peer's weight that is left after a round.
        weight_decay: f64 = 0.995,
        /// Weight earned by a typical contribution; a founder starts with 1000000.
        credit: u64 = 5_000,
        /// Decided contributions before a newcomer's weight starts to count.
        probation_rounds: u32 = 10,
        /// Further contributions until all of its weight counts.
        vesting_rounds: u32 = 20,
        /// Rounds of silence after which a peer is no longer counted.
        absence_rounds: u32 = 5,
        /// Most of the whole weight that voters who leave or fall silent take from the quorum in a
        /// round. They are not waited for in any case.
        quorum_shrink: f64 = 0.05,
        /// Zero bits with which the hash of a newcomer's ticket begins: 20 take a laptop less than
        /// a second.
        ticket_bits: u32 = 20,
    }
}

documented! {
    item
    /// A step of the outer learning rate.
    pub struct RateStep {
        /// First round with this rate.
        from_round: u64,
        /// Outer learning rate from then on.
        rate: f64,
    }
}

documented! {
    item
    /// A founder.
    pub struct FounderChoice {
        /// Public key, as `weal key` prints it.
        peer: PeerId,
        /// Voting weight at the start.
        weight: u64,
    }
}

impl FounderChoice {
    /// A founder with the usual weight.
    pub(crate) fn usual(peer: PeerId) -> Self {
        Self {
            peer,
            weight: FOUNDER_WEIGHT,
        }
    }
}

/// The optimiser of the inner steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimiser {
    /// AdamW for everything.
    AdamW,
    /// Muon for the matrices inside the blocks, AdamW for the rest.
    Muon,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Along half a cosine, from the end of the warm-up.
    Cosine,
    /// Only at the end: warm-up, stable, decay.
    Wsd,
}

/// What the sum of contributions is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Each value by the number of peers that sent it.
    MeanOfSenders,
    /// Every value by the number of contributions.
    MeanOfAll,
    /// Each value by the square root of the number of peers that sent it.
    RootOfSenders,
}

impl RunFile {
    /// The file's text, with a comment above every key.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub(super) fn to_commented_toml(&self) -> Result<String> {
        to_commented_toml(HEAD, self).map_err(|error| Error::of(ErrorKind::Internal, error))
    }
}

/// Help of the flag that sets a key of a new run: the key's doc.
pub(crate) fn flag_help(key: &str) -> &'static str {
    help_of::<RunFile>(key)
}

#[cfg(test)]
mod tests {
    use weal_trainer::PRESETS;

    use super::*;

    #[test]
    fn the_file_lists_every_preset() {
        let doc = flag_help("model.preset");
        assert!(PRESETS.iter().all(|name| doc.contains(name)), "{doc}");
    }

    #[test]
    fn a_file_with_founders_reads_back() {
        let file = RunFile {
            founders: vec![FounderChoice::usual([1; 32].into()); 2],
            ..RunFile::default()
        };
        let text = file.to_commented_toml().unwrap();
        assert_eq!(toml::from_str::<RunFile>(&text).unwrap(), file);
    }
}
