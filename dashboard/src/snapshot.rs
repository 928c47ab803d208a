//! What a node tells its owner: plain structs that the page, `/api/status` and the metrics are made
//! from.
//!
//! Hashes and keys are lower-case hex strings, since they are only shown here, never checked. Every
//! field has a default, so that a node fills in what it knows, and an older reader skips what it
//! does not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of one node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When this was published, in milliseconds since 1970. Zero is replaced by the time of
    /// [`publish`].
    ///
    /// [`publish`]: crate::Dashboard::publish
    pub unix_ms: u64,
    /// What is trained.
    pub run: Run,
    /// This machine.
    pub node: Node,
    /// What trains here.
    pub learner: Learner,
    /// The round under way.
    pub round: Round,
    /// Decided rounds that are new, or of which more is known now.
    ///
    /// The dashboard keeps them by number: a node may publish each once, or all of them every time.
    pub history: Vec<RoundRecord>,
    /// Everyone who takes part in the run, this node among them.
    pub peers: Vec<Peer>,
    /// Losses that simpler models reach on the same held-out text, drawn as dashed lines under the
    /// curve.
    pub floors: Vec<Floor>,
    /// Bytes since this node's start, by kind of traffic (`gossip`, `blobs`, `sync`, …).
    pub traffic: BTreeMap<String, Traffic>,
    /// Messages, contributions and connections dropped since this node's start, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// Recent log lines, oldest first. The dashboard keeps the last [`EVENTS_KEPT`].
    pub events: Vec<LogLine>,
}

/// How many log lines a snapshot holds at most.
pub const EVENTS_KEPT: usize = 200;

/// The run, as its manifest fixes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Hash of the manifest, hex.
    pub id: String,
    /// Name from the manifest.
    pub name: String,
    /// The link that invites others: `weal:<run id>?peer=<multiaddr>`.
    pub link: String,
    /// Model in a few words: `nano, 4 layers of width 128`.
    pub model: String,
    /// Weights in the model.
    pub parameters: u64,
    /// Data in a few words: `3 text files, 12.4 MB`.
    pub data: String,
    /// H: inner steps in a round.
    pub inner_steps: u64,
    /// Sequences in one inner step.
    pub batch: u64,
    /// k: values kept of each chunk of the pseudo-gradient.
    pub keep: u64,
    /// Values in a chunk of the pseudo-gradient.
    pub chunk: u64,
}

/// The machine that serves the page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Public key, hex.
    pub id: String,
    /// Name its owner chose; may be empty.
    pub name: String,
    /// Version of `weal`.
    pub version: String,
    /// What it trains on: `NVIDIA GeForce RTX 4070, Vulkan`.
    pub device: String,
    /// Threads it may use.
    pub threads: u64,
    /// Seconds since the program's start.
    pub uptime_seconds: f64,
    /// What it is doing, in one word.
    pub state: NodeState,
    /// Why it is in that state, in words for its owner; empty where the state says it all.
    pub message: String,
}

/// What trains on this machine, and what went wrong with it since the node's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learner {
    /// Whether there is nothing to train on now, since the device failed.
    pub device_lost: bool,
    /// Failures of the device in mid-run.
    pub devices_lost: u64,
    /// Inner steps that were not finite and changed nothing.
    pub skipped_steps: u64,
    /// How often training led to values that are not finite, and went back to the agreed weights.
    pub restorations: u64,
    /// Rounds in which nothing was learnt for that reason.
    pub diverged_rounds: u64,
}

/// What a node is doing, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Opening its store and device, looking for its first peer.
    #[default]
    Starting,
    /// Fetching weights and decided rounds.
    CatchingUp,
    /// Taking part in rounds.
    Training,
    /// Ready, but the run cannot go on: too few voters, or nobody else there.
    Waiting,
    /// Stopped by its owner, or by a limit of his (disk, bandwidth, power, GPU in use).
    Paused,
    /// Something failed that needs its owner.
    Error,
}

impl NodeState {
    /// All states, in the order a node passes through them.
    pub const ALL: [Self; 6] = [
        Self::Starting,
        Self::CatchingUp,
        Self::Training,
        Self::Waiting,
        Self::Paused,
        Self::Error,
    ];

    /// The word used in JSON and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::CatchingUp => "catching_up",
            Self::Training => "training",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Error => "error",
        }
    }
}

/// The part of a round that is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Inner steps on this round's samples.
    #[default]
    Train,
    /// Commitments are gathered until the deadline.
    Commit,
    /// Contributions are revealed and fetched.
    Fetch,
    /// Contributions are measured, and attestations gathered.
    Attest,
    /// Voters agree on the set.
    Decide,
    /// The agreed set is applied to the weights.
    Apply,
}

impl Phase {
    /// All phases, in a round's order.
    pub const ALL: [Self; 6] = [
        Self::Train,
        Self::Commit,
        Self::Fetch,
        Self::Attest,
        Self::Decide,
        Self::Apply,
    ];

    /// The word used in JSON and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Commit => "commit",
            Self::Fetch => "fetch",
            Self::Attest => "attest",
            Self::Decide => "decide",
            Self::Apply => "apply",
        }
    }
}

/// Seconds for each phase of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseSeconds {
    /// Inner training.
    pub train: f64,
    /// Gathering commitments.
    pub commit: f64,
    /// Fetching contributions.
    pub fetch: f64,
    /// Measuring contributions and gathering attestations.
    pub attest: f64,
    /// Agreeing on the set.
    pub decide: f64,
    /// Applying the set.
    pub apply: f64,
}

impl PhaseSeconds {
    /// Seconds of one phase.
    pub fn get(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Train => self.train,
            Phase::Commit => self.commit,
            Phase::Fetch => self.fetch,
            Phase::Attest => self.attest,
            Phase::Decide => self.decide,
            Phase::Apply => self.apply,
        }
    }

    /// Sets the seconds of one phase.
    pub fn set(&mut self, phase: Phase, seconds: f64) {
        match phase {
            Phase::Train => self.train = seconds,
            Phase::Commit => self.commit = seconds,
            Phase::Fetch => self.fetch = seconds,
            Phase::Attest => self.attest = seconds,
            Phase::Decide => self.decide = seconds,
            Phase::Apply => self.apply = seconds,
        }
    }
}

/// The round under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// Its number; the first is 0.
    pub number: u64,
    /// The phase it is in.
    pub phase: Phase,
    /// When that phase began, in milliseconds since 1970.
    pub phase_started_unix_ms: u64,
    /// Seconds that the phases already over took; zero for the current and later ones.
    pub elapsed: PhaseSeconds,
    /// Seconds that each phase is expected to take; zero where nobody knows.
    pub expected: PhaseSeconds,
    /// Inner steps this node has done.
    pub steps_done: u64,
    /// Inner steps it means to do.
    pub steps: u64,
    /// When the current phase ends at the latest, in milliseconds since 1970; absent where it has
    /// no such time.
    pub deadline_unix_ms: Option<u64>,
}

/// A decided round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoundRecord {
    /// Its number.
    pub round: u64,
    /// Loss on held-out text of the weights after this round, in nats per byte; absent where it was
    /// not measured.
    pub heldout_nats_per_byte: Option<f64>,
    /// This node's mean training loss in this round, in nats per byte; absent where it did not
    /// train.
    pub train_nats_per_byte: Option<f64>,
    /// Tokens that all applied contributions were trained on, from the run's start to the end of
    /// this round.
    pub tokens: u64,
    /// Contributions in the agreed set.
    pub contributions: u64,
    /// Keys (hex) of the peers whose contributions were applied.
    pub contributors: Vec<String>,
    /// State root of the weights after this round, hex.
    pub root: String,
    /// Voters that signed the certificate.
    pub certificate_voters: u64,
    /// Weight behind the certificate.
    pub certificate_weight: u64,
    /// Weight of all voters.
    pub roster_weight: u64,
    /// Seconds from the round's start to its end.
    pub seconds: f64,
    /// Where they went.
    pub phases: PhaseSeconds,
    /// Bytes this node sent in this round.
    pub bytes_sent: u64,
    /// Bytes this node received in this round.
    pub bytes_received: u64,
}

/// One participant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Public key, hex.
    pub id: String,
    /// Name it goes by; may be empty, and nothing vouches for it.
    pub name: String,
    /// Whether it votes in this round.
    pub voter: bool,
    /// Its voting weight in this round.
    pub weight: u64,
    /// Its contributions applied since the run's start.
    pub contributions: u64,
    /// The last round it contributed to.
    pub last_round: Option<u64>,
    /// Whether this node has a connection to it (true for itself).
    pub connected: bool,
    /// Where it is reached: a multiaddr; empty where it is not connected.
    pub address: String,
    /// Bytes sent to it since this node's start.
    pub bytes_sent: u64,
    /// Bytes received from it since this node's start.
    pub bytes_received: u64,
    /// What is known of its contribution to the round under way.
    pub this_round: PeerRound,
    /// Whether its weights are the same as ours, bit for bit; absent until it has said.
    pub state_root_agrees: Option<bool>,
}

/// What is known of a peer's contribution to the round under way. In JSON `{"state": "valid"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PeerRound {
    /// Nothing yet.
    #[default]
    None,
    /// Its commitment has arrived.
    Committed,
    /// Its contribution has arrived.
    Fetched,
    /// Its contribution passed all checks that this node makes.
    Valid,
    /// Its contribution was refused.
    Invalid {
        /// Why, in words.
        reason: String,
    },
}

/// A loss that something simpler reaches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floor {
    /// What reaches it: `bigram`.
    pub name: String,
    /// Its loss on held-out text, in nats per byte.
    pub nats_per_byte: f64,
}

/// Bytes both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

/// A line of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLine {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// How grave.
    pub level: Level,
    /// What happened, in one line.
    pub text: String,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For those who look closely.
    Debug,
    /// What happens in a healthy run.
    #[default]
    Info,
    /// Something was put right, or should be looked at.
    Warn,
    /// Something failed.
    Error,
}
