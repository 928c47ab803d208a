//! `run.toml`: a run as a person writes it, with fractions and seconds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weal_proto::PeerId;

/// Weight of a founder where the file names none.
pub const FOUNDER_WEIGHT: u64 = 1_000_000;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunFile {
    /// What people call the run.
    pub name: String,
    /// Seed of the initial weights.
    pub seed: u64,
    /// The model.
    pub model: ModelChoice,
    /// The tokeniser.
    pub tokeniser: TokeniserChoice,
    /// The text.
    pub data: DataChoice,
    /// Training between two agreements.
    pub inner: InnerChoice,
    /// What is sent of what was learnt.
    pub compression: CompressionChoice,
    /// What is done with what was sent.
    pub outer: OuterChoice,
    /// Longest times.
    pub timing: TimingChoice,
    /// Bounds.
    pub limits: LimitsChoice,
    /// Votes.
    pub membership: MembershipChoice,
    /// Who votes from the start.
    pub founders: Vec<FounderChoice>,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section!(
    /// The model.
    ModelChoice {
        /// Name of the preset.
        preset: String = "nano".into(),
        /// A model to go on from, in a Hugging Face folder; the preset is of no account then.
        checkpoint: Option<PathBuf> = None,
        /// Tokens of a window, where they are fewer than the model could have.
        context: Option<u32> = None,
    }
);
section!(
    /// The tokeniser.
    TokeniserChoice {
        /// A `tokenizer.json`; none is one token a byte.
        file: Option<PathBuf> = None,
    }
);
section!(
    /// The text.
    DataChoice {
        /// Files and folders, or one folder of prepared tokens.
        files: Vec<PathBuf> = Vec::new(),
        /// Seed of the built-in generator.
        generator_seed: u64 = 1,
        /// Bytes that the generator makes.
        generator_bytes: u64 = 4_000_000,
    }
);
section!(
    /// Training between two agreements.
    InnerChoice {
        /// Steps a round.
        steps: u32 = 10,
        /// Sequences a step.
        batch: u32 = 8,
        /// Peak learning rate.
        learning_rate: f64 = 0.002,
        /// Steps of warm-up.
        warmup_steps: u32 = 20,
        /// What makes a gradient a step.
        optimiser: Optimiser = Optimiser::AdamW,
        /// Muon's momentum.
        momentum: f64 = 0.95,
        /// How the rate falls.
        schedule: Schedule = Schedule::Cosine,
        /// Step at which it begins to fall, under wsd.
        decay_start: u32 = 0,
        /// Step at which it has fallen; 0 holds the peak.
        decay_steps: u32 = 0,
        /// Part of the peak that is left then.
        final_rate: f64 = 0.1,
        /// First β.
        beta1: f64 = 0.9,
        /// Second β.
        beta2: f64 = 0.95,
        /// Weight decay of matrices.
        weight_decay: f64 = 0.1,
        /// Largest norm of a gradient.
        gradient_clip: f64 = 1.0,
    }
);
section!(
    /// What is sent of what was learnt.
    CompressionChoice {
        /// Values in a chunk.
        chunk: u32 = 4096,
        /// Values kept of a chunk.
        keep: u32 = 32,
        /// Decay of the error feedback.
        decay: f64 = 0.9,
    }
);

/// What makes a gradient a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimiser {
    /// AdamW for everything.
    AdamW,
    /// Muon for the matrices within the blocks, AdamW for the rest.
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

/// What divides the sum of contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Each value by the number of those that sent it.
    MeanOfSenders,
    /// Every value by the number of contributions.
    MeanOfAll,
    /// Each value by the root of the number of those that sent it.
    RootOfSenders,
}

/// One step of the outer learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateStep {
    /// The first round with this rate.
    pub from_round: u64,
    /// The rate.
    pub rate: f64,
}

section!(
    /// What is done with what was sent.
    OuterChoice {
        /// What divides the sum.
        rule: Rule = Rule::RootOfSenders,
        /// Learning rate by round.
        rates: Vec<RateStep> = vec![RateStep { from_round: 0, rate: 1.3 }],
    }
);
section!(
    /// Longest times, in seconds.
    TimingChoice {
        /// For training.
        train_seconds: f64 = 60.0,
        /// For fetching and checking.
        fetch_seconds: f64 = 30.0,
        /// For attestations.
        attest_seconds: f64 = 10.0,
        /// For a proposal.
        propose_seconds: f64 = 3.0,
        /// For a vote.
        vote_seconds: f64 = 1.0,
    }
);
section!(
    /// Bounds.
    LimitsChoice {
        /// Contributions applied in a round.
        contributions: u32 = 20,
        /// Bytes of a contribution; none is computed from the model.
        blob_bytes: Option<u32> = None,
        /// Peers whose commitments are looked at.
        peers: u32 = 40,
    }
);
section!(
    /// Votes.
    MembershipChoice {
        /// What is left of a weight after a round.
        weight_decay: f64 = 0.995,
        /// Weight earned by a decided contribution.
        credit: u64 = 5_000,
        /// Contributions before a newcomer's weight begins to count.
        probation_rounds: u32 = 10,
        /// Further contributions until all of it counts.
        vesting_rounds: u32 = 20,
        /// Rounds without a sign of life after which a peer is not counted any more.
        absence_rounds: u32 = 5,
    }
);

/// A founder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FounderChoice {
    /// Its key, as `weal key` prints it.
    pub peer: PeerId,
    /// Its weight.
    pub weight: u64,
}

impl Default for RunFile {
    fn default() -> Self {
        Self {
            name: "a commonweal".into(),
            seed: 1,
            model: ModelChoice::default(),
            tokeniser: TokeniserChoice::default(),
            data: DataChoice::default(),
            inner: InnerChoice::default(),
            compression: CompressionChoice::default(),
            outer: OuterChoice::default(),
            timing: TimingChoice::default(),
            limits: LimitsChoice::default(),
            membership: MembershipChoice::default(),
            founders: Vec::new(),
        }
    }
}

const HEAD: &str = "\
# A run of Commonweal. Everything in here is fixed once the first node starts: the run's id is a hash of it, and whoever
# joins checks it. Edit it before the first `weal run` in this folder.
";

/// What stands above a line that begins so, within its section.
const COMMENTS: [(&str, &str, &str); 40] = [
    ("", "name", "What people call the run."),
    ("", "seed", "Seed of the initial weights."),
    ("model", "preset", "nano, micro, tiny, small, medium or 1b."),
    (
        "model",
        "checkpoint",
        "A Hugging Face folder with a model to go on from; the preset is of no account then.",
    ),
    (
        "model",
        "context",
        "Tokens of a window, where they are fewer than the model could have.",
    ),
    (
        "tokeniser",
        "file",
        "A tokenizer.json; without it, one token a byte.",
    ),
    (
        "data",
        "files",
        "Text files and folders; the last tenth of each file is held out. Or one folder that `weal data prepare` made. None: the built-in generator.",
    ),
    ("data", "generator_seed", "Seed of the built-in generator."),
    (
        "data",
        "generator_bytes",
        "Bytes of text that the generator makes.",
    ),
    ("inner", "steps", "Steps between two agreements (H)."),
    ("inner", "batch", "Sequences a step."),
    ("inner", "learning_rate", "Peak learning rate."),
    (
        "inner",
        "warmup_steps",
        "Steps of linear warm-up, counted over the run.",
    ),
    (
        "inner",
        "optimiser",
        "adamw; or muon, for the matrices within the blocks, at the same learning rate.",
    ),
    ("inner", "momentum", "Of muon."),
    (
        "inner",
        "schedule",
        "How the rate falls: cosine, from the warm-up on; wsd, only from decay_start on.",
    ),
    (
        "inner",
        "decay_start",
        "Step at which wsd begins to fall, counted over the run.",
    ),
    (
        "inner",
        "decay_steps",
        "Step at which the rate has fallen, counted over the run; 0 holds the peak.",
    ),
    ("inner", "final_rate", "Part of the peak that is left then."),
    (
        "inner",
        "gradient_clip",
        "Largest global norm of a gradient.",
    ),
    (
        "compression",
        "chunk",
        "Consecutive values of a tensor in a chunk.",
    ),
    (
        "compression",
        "keep",
        "Values kept of a chunk; the rest waits in the error feedback.",
    ),
    (
        "compression",
        "decay",
        "What is left of the error feedback after a round.",
    ),
    (
        "outer",
        "rule",
        "The sum of a value is divided by: root-of-senders, the root of the number of peers that sent it; mean-of-senders, that number; mean-of-all, the number of all.",
    ),
    ("outer", "rates", "Outer learning rate from each round on."),
    (
        "timing",
        "train_seconds",
        "Longest times of a round's phases; each ends early when everyone has done his part.",
    ),
    (
        "timing",
        "propose_seconds",
        "What a proposer has before the others vote for the next one.",
    ),
    (
        "limits",
        "contributions",
        "Contributions applied in a round.",
    ),
    ("limits", "blob_bytes", "Bytes of a contribution."),
    (
        "limits",
        "peers",
        "Peers whose commitments are looked at in a round.",
    ),
    (
        "membership",
        "weight_decay",
        "What is left of a weight after a round.",
    ),
    (
        "membership",
        "credit",
        "Weight earned by one decided contribution; a founder begins with 1000000.",
    ),
    (
        "membership",
        "probation_rounds",
        "Decided contributions before a newcomer's weight begins to count.",
    ),
    (
        "membership",
        "vesting_rounds",
        "Further ones until all of it counts.",
    ),
    (
        "membership",
        "absence_rounds",
        "Rounds without a sign of life after which a peer is not counted any more.",
    ),
    (
        "founders",
        "peer",
        "A key that votes from the start, as `weal key` prints it.",
    ),
    (
        "timing",
        "fetch_seconds",
        "For fetching and checking contributions.",
    ),
    ("timing", "attest_seconds", "For the voters' attestations."),
    ("timing", "vote_seconds", "For a vote step."),
    (
        "inner",
        "weight_decay",
        "Decoupled weight decay of matrices.",
    ),
];

impl RunFile {
    /// The file's text, with comments.
    pub fn to_commented_toml(&self) -> String {
        // Every value of this type can be written as TOML.
        let plain = toml::to_string(self).unwrap_or_default();
        let mut text = HEAD.to_owned();
        let mut section = String::new();
        for line in plain.lines().filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_matches(['[', ']']).to_owned();
                text.push('\n');
            }
            let comment = COMMENTS.iter().find(|(place, key, _)| {
                *place == section
                    && line
                        .strip_prefix(key)
                        .is_some_and(|rest| rest.starts_with(" ="))
            });
            if let Some((_, _, comment)) = comment {
                text.push_str(&format!("# {comment}\n"));
            }
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
