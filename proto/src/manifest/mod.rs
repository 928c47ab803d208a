//! What fixes a run. Its canonical encoding is hashed to the run's id, so every byte of it is
//! agreed on.
//!
//! All numbers are integers: fractions in parts per million (ppm) or per billion (ppb), times in
//! milliseconds.

mod check;
mod wire;

pub use check::ManifestError;

use crate::ids::{BlobHash, PeerId, RunId, Weight};
use crate::limits;
use crate::message::Message;

const RUN_CONTEXT: &str = "commonweal run v1";

/// One million: a ppm field with this value is 1.
pub const PPM: u32 = 1_000_000;

/// What fixes a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What people call the run; 1 to 64 bytes.
    pub name: String,
    /// The model's sizes.
    pub model: Model,
    /// How text becomes tokens.
    pub tokeniser: Tokeniser,
    /// What is trained on.
    pub data: Data,
    /// What the weights are at the beginning.
    pub initial: Initial,
    /// How each peer trains between two agreements.
    pub inner: Inner,
    /// How a pseudo-gradient becomes a contribution.
    pub compression: Compression,
    /// How contributions change the weights.
    pub outer: Outer,
    /// Longest times of a round's phases.
    pub timing: Timing,
    /// Bounds on what a round may hold.
    pub limits: Limits,
    /// How a vote is earned and lost.
    pub membership: Membership,
    /// Who may vote from round 0, strictly rising by key.
    pub founders: Vec<Founder>,
}

/// The weights that a run begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Drawn by the integer generator from this seed.
    Seed([u8; 32]),
    /// Those of an earlier training: the blob hash of little-endian f32 values in the layout's
    /// order, which whoever joins fetches like the text.
    Weights(BlobHash),
}

/// Sizes of a Llama-architecture decoder, or of Qwen3's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Token ids.
    pub vocabulary: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Blocks of attention and feed-forward.
    pub layers: u32,
    /// Query heads; they share the width evenly unless `head_width` is given.
    pub heads: u32,
    /// Key and value heads; they divide the query heads.
    pub kv_heads: u32,
    /// Inner width of the feed-forward.
    pub feed_forward: u32,
    /// Tokens a sequence.
    pub context: u32,
    /// Whether the output uses the embedding's matrix.
    pub tied_embeddings: bool,
    /// Base of the rotary position encoding.
    pub rope_theta: u32,
    /// Added in the RMS norm, in ppb.
    pub norm_epsilon_ppb: u32,
    /// Width of one head; 0 for width / heads.
    pub head_width: u32,
    /// Whether queries and keys are normed, head by head, before they are turned.
    pub query_key_norm: bool,
    /// How the rotary frequencies are stretched, if they are.
    pub rope_scaling: Option<RopeScaling>,
}

/// Llama 3.1's stretching of the rotary frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeScaling {
    /// What slow frequencies are divided by.
    pub factor_ppm: u32,
    /// Waves longer than `original_context` over this are slow.
    pub low_frequency_ppm: u32,
    /// Waves shorter than `original_context` over this stay as they are.
    pub high_frequency_ppm: u32,
    /// Longest window of the training before, in tokens.
    pub original_context: u32,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokeniser {
    /// One token a byte.
    Bytes,
    /// A `tokenizer.json`, by content.
    File {
        /// Blob hash of the file.
        hash: BlobHash,
        /// Its length.
        bytes: u64,
        /// The token at which a text ends, if it has one.
        end_of_text: Option<u32>,
    },
}

/// What is trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Text files, by content, in this order.
    Sources(Vec<DataSource>),
    /// Text that is tokens already.
    Prepared(PreparedTokens),
    /// The built-in generator.
    Generator {
        /// Its seed.
        seed: u64,
        /// Bytes of text it makes.
        bytes: u64,
    },
}

/// Text that is tokens already, made by this run's tokeniser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedTokens {
    /// Bytes in which a shard keeps a token: 2 or 4.
    pub token_bytes: u32,
    /// What is trained on.
    pub training: TokenPart,
    /// What is measured on.
    pub heldout: TokenPart,
}

/// The training or the held-out part of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPart {
    /// Bytes of text that the tokens stand for.
    pub text_bytes: u64,
    /// The shards, in this order.
    pub shards: Vec<TokenShard>,
}

/// A file of tokens, by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenShard {
    /// Blob hash of the file.
    pub hash: BlobHash,
    /// Its length.
    pub bytes: u64,
    /// Tokens in it.
    pub tokens: u64,
}

/// One text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSource {
    /// What people call it; it names no place.
    pub name: String,
    /// Blob hash of the file.
    pub hash: BlobHash,
    /// Its length.
    pub bytes: u64,
}

/// What makes a gradient a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimiser {
    /// AdamW for everything.
    AdamW,
    /// Muon for the matrices within the blocks, AdamW for the rest.
    Muon,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// From the end of the warm-up along half a cosine.
    Cosine,
    /// At the peak until `decay_start`, then as one minus the root of the way.
    Wsd,
}

/// Training between two agreements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// Steps a round (H).
    pub steps: u32,
    /// Sequences a step.
    pub batch: u32,
    /// Learning rate after the warm-up, in ppb.
    pub peak_learning_rate_ppb: u32,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// Step at which the rate has fallen; 0 holds the peak.
    pub decay_steps: u32,
    /// The rate after the fall, as ppm of the peak.
    pub final_rate_ppm: u32,
    /// AdamW's first β.
    pub beta1_ppm: u32,
    /// AdamW's second β.
    pub beta2_ppm: u32,
    /// Decoupled weight decay of matrices.
    pub weight_decay_ppm: u32,
    /// Largest global norm of a gradient.
    pub gradient_clip_ppm: u32,
    /// What makes a gradient a step.
    pub optimiser: Optimiser,
    /// Muon's momentum; 0 for AdamW.
    pub momentum_ppm: u32,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Step at which the fall begins; 0 for a cosine.
    pub decay_start: u32,
}

/// How a pseudo-gradient becomes a contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// Version of the contribution codec.
    pub codec: u32,
    /// Consecutive values of a tensor in a chunk.
    pub chunk: u32,
    /// Values kept of a full chunk.
    pub keep: u32,
    /// Decay of the error feedback.
    pub decay_ppm: u32,
}

/// What divides the sum of contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregationRule {
    /// Each coordinate by the number of peers that sent it.
    MeanOfSenders,
    /// Every coordinate by the number of contributions.
    MeanOfAll,
    /// Each coordinate by the root of the number of peers that sent it.
    RootOfSenders,
}

/// How contributions change the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outer {
    /// What divides the sum.
    pub rule: AggregationRule,
    /// Outer learning rate from each round on; the first from round 0, strictly rising by round.
    pub rates: Vec<OuterRate>,
}

/// One step of the outer learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterRate {
    /// The first round with this rate.
    pub from_round: u64,
    /// The rate.
    pub rate_ppm: u32,
}

impl Outer {
    /// The outer learning rate of a round, in ppm.
    pub fn rate_ppm(&self, round: crate::RoundNumber) -> u32 {
        self.rates
            .iter()
            .take_while(|rate| rate.from_round <= round.0)
            .last()
            .map_or(PPM, |rate| rate.rate_ppm)
    }
}

/// Longest times of a round's phases, in milliseconds, each from the end of the one before. A phase
/// ends early when everyone who is expected has done his part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// From the round's start until commitments are in time no more.
    pub train_ms: u32,
    /// For fetching and checking contributions.
    pub fetch_ms: u32,
    /// For the voters' attestations.
    pub attest_ms: u32,
    /// What a proposer has before the others vote for the next one.
    pub propose_ms: u32,
    /// For a vote step.
    pub vote_ms: u32,
}

/// Bounds on what a round may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Contributions applied in a round (K).
    pub contributions: u32,
    /// Bytes of a contribution's blob, header included.
    pub blob_bytes: u32,
    /// Peers whose commitments are looked at in a round.
    pub peers: u32,
}

/// How a vote is earned and lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// What is left of a weight after a round.
    pub weight_decay_ppm: u32,
    /// Weight earned by one decided contribution.
    pub credit: u64,
    /// Decided contributions before a newcomer's weight begins to count.
    pub probation_rounds: u32,
    /// Further decided contributions until all of it counts.
    pub vesting_rounds: u32,
    /// Decided rounds in a row without a sign of life after which a peer leaves the roster.
    pub absence_rounds: u32,
}

/// A voter from round 0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    /// Its key.
    pub peer: PeerId,
    /// Its weight, which decays like everyone's.
    pub weight: Weight,
}

impl Manifest {
    /// The run that this manifest fixes.
    pub fn run(&self) -> RunId {
        Self::run_of(&self.encode())
    }

    /// The run of a manifest's canonical bytes.
    pub fn run_of(bytes: &[u8]) -> RunId {
        blake3::derive_key(RUN_CONTEXT, bytes).into()
    }

    /// Refuses a manifest that does not add up.
    ///
    /// # Errors
    /// The first key that is wrong, its value, and what would be accepted.
    pub fn validate(&self) -> Result<(), ManifestError> {
        check::manifest(self)
    }
}

impl Model {
    /// Trainable parameters.
    pub fn parameters(&self) -> u64 {
        let [vocabulary, width, layers, feed_forward] =
            [self.vocabulary, self.width, self.layers, self.feed_forward].map(u64::from);
        let head_width = match u64::from(self.head_width) {
            0 => width / u64::from(self.heads.max(1)),
            width => width,
        };
        let heads = u64::from(self.heads).saturating_add(self.kv_heads.into());
        let attention = width
            .saturating_mul(heads.saturating_mul(head_width))
            .saturating_mul(2);
        let head_norms = if self.query_key_norm {
            head_width.saturating_mul(2)
        } else {
            0
        };
        let block = attention
            .saturating_add(head_norms)
            .saturating_add(width.saturating_mul(feed_forward).saturating_mul(3))
            .saturating_add(width.saturating_mul(2));
        let embeddings = vocabulary
            .saturating_mul(width)
            .saturating_mul(if self.tied_embeddings { 1 } else { 2 });
        layers
            .saturating_mul(block)
            .saturating_add(embeddings)
            .saturating_add(width)
    }
}

const _: () = assert!(limits::FOUNDERS <= limits::VOTERS);
