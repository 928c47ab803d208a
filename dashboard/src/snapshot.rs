//! What a node reports to its owner: plain structs, from which the page, `/api/status` and the
//! metrics are made.
//!
//! Hashes and keys are lower-case hex strings, because they are shown here and never checked. Every
//! field has a default, so that nodes and readers of different versions understand each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of one node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When this was published, in milliseconds since 1970. [`publish`] replaces 0 with the current
    /// time.
    ///
    /// [`publish`]: crate::Dashboard::publish
    pub unix_ms: u64,
    /// The run this node takes part in.
    pub run: Run,
    /// The node itself.
    pub node: Node,
    /// What this node is fetching before it can take part; absent if nothing.
    pub fetch: Option<Fetch>,
    /// The state of training on this node.
    pub learner: Learner,
    /// The current round.
    pub round: Round,
    /// Decided rounds that are new or have changed.
    ///
    /// The dashboard keeps them by number, so a node may publish each once, or all of them every
    /// time.
    pub history: Vec<RoundRecord>,
    /// All known peers of the run, this node included.
    pub peers: Vec<Peer>,
    /// Losses of simpler models on the same held-out text, drawn as dashed lines.
    pub floors: Vec<Floor>,
    /// Bytes since the node started, by kind of traffic: `gossip`, `blob`, `sync`, `relay`
    /// (between other peers), `upkeep`.
    pub traffic: BTreeMap<String, Traffic>,
    /// Bytes of this month, of all kinds.
    pub month: MonthTraffic,
    /// Messages, contributions and connections dropped since the node started, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// Recent log lines, oldest first. The dashboard keeps the last [`EVENTS_KEPT`].
    pub events: Vec<LogLine>,
}

/// The most log lines in a snapshot.
pub const EVENTS_KEPT: usize = 200;

/// The run, as its manifest defines it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The run id: hash of the manifest, hex.
    pub id: String,
    /// The run's name in the manifest.
    pub name: String,
    /// The run link, to invite others: `weal:<run id>?peer=<multiaddr>`.
    pub link: String,
    /// The model in a few words, such as `nano, 4 layers of width 128`.
    pub model: String,
    /// Number of the model's weights.
    pub parameters: u64,
    /// The data in a few words, such as `3 text files, 12.4 MB`.
    pub data: String,
    /// Inner steps per round.
    pub inner_steps: u64,
    /// Sequences per inner step.
    pub batch: u64,
    /// Values of each chunk of the pseudo-gradient that are sent.
    pub keep: u64,
    /// Values per chunk of the pseudo-gradient.
    pub chunk: u64,
}

/// The node that serves the page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Public key, hex.
    pub id: String,
    /// A name for people; may be empty.
    pub name: String,
    /// Version of `weal`.
    pub version: String,
    /// The training device, such as `NVIDIA GeForce RTX 4070, Vulkan`.
    pub device: String,
    /// Threads it uses.
    pub threads: u64,
    /// Seconds since the program started.
    pub uptime_seconds: f64,
    /// What it is doing, in one word.
    pub state: NodeState,
    /// The reason for the state, in words; may be empty.
    pub message: String,
    /// Whether peers reach this node, in words.
    pub reachability: String,
    /// What would improve that; empty if nothing would.
    pub reachability_advice: String,
}

/// Weights or data on their way to a node that joins or catches up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fetch {
    /// What is fetched, such as `weights of round 64`.
    pub what: String,
    /// Bytes that are here, those from earlier attempts included.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// The state of training on this node, and counts of failures since it started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learner {
    /// Whether the training device is lost, so that this node cannot train now.
    pub device_lost: bool,
    /// Times the training device was lost.
    pub devices_lost: u64,
    /// Inner steps skipped because the loss or a gradient was not finite.
    pub skipped_steps: u64,
    /// Times training produced non-finite values and restarted from the round's weights.
    pub restorations: u64,
    /// Rounds without a contribution because training diverged.
    pub diverged_rounds: u64,
    /// Contributions of other peers whose effect on the loss this node measured.
    pub judged: u64,
    /// Seconds that this took.
    pub judging_seconds: f64,
}

/// What a node is doing, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Opening its store and its device.
    #[default]
    Starting,
    /// Fetching weights or decided rounds.
    CatchingUp,
    /// Training in the current round.
    Training,
    /// Done training in this round, and waiting for peers.
    Waiting,
    /// Paused, for a reason that the node's message gives.
    Paused,
    /// Unable to train; the node's message gives the reason.
    Error,
}

impl NodeState {
    /// All states.
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

/// A phase of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Peers train on their samples.
    #[default]
    Train,
    /// Peers publish their commitments, until a deadline.
    Commit,
    /// Peers reveal their contributions and fetch the others.
    Fetch,
    /// Peers check contributions and attest the valid ones.
    Attest,
    /// Voters agree on the set to apply.
    Decide,
    /// Peers apply the agreed set to the weights.
    Apply,
}

impl Phase {
    /// All phases, in the order of a round.
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

/// Seconds spent in each phase of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseSeconds {
    /// Seconds of training.
    pub train: f64,
    /// Seconds of waiting for commitments.
    pub commit: f64,
    /// Seconds of fetching contributions.
    pub fetch: f64,
    /// Seconds of waiting for attestations.
    pub attest: f64,
    /// Seconds until the set was decided.
    pub decide: f64,
    /// Seconds of applying the set.
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

/// The current round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// The round's number, from 0.
    pub number: u64,
    /// The current phase.
    pub phase: Phase,
    /// When the current phase began, in milliseconds since 1970.
    pub phase_started_unix_ms: u64,
    /// Seconds spent in the finished phases; 0 for the current and later ones.
    pub elapsed: PhaseSeconds,
    /// Seconds each phase is expected to take; 0 if unknown.
    pub expected: PhaseSeconds,
    /// Inner steps this node has done.
    pub steps_done: u64,
    /// Inner steps this node will do.
    pub steps: u64,
    /// The deadline of the current phase, in milliseconds since 1970, if it has one.
    pub deadline_unix_ms: Option<u64>,
}

/// A decided round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoundRecord {
    /// The round's number, from 0.
    pub round: u64,
    /// Held-out loss of the weights after this round, in nats per byte, if it was measured.
    pub heldout_nats_per_byte: Option<f64>,
    /// This node's mean training loss in this round, in nats per byte, if it trained.
    pub train_nats_per_byte: Option<f64>,
    /// Tokens that all applied contributions were trained on, from the start of the run to the end
    /// of this round.
    pub tokens: u64,
    /// Contributions applied.
    pub contributions: u64,
    /// Public keys (hex) of the peers whose contributions were applied.
    pub contributors: Vec<String>,
    /// State root of the weights after this round, hex.
    pub root: String,
    /// Voters that signed the certificate.
    pub certificate_voters: u64,
    /// Voting weight of those voters.
    pub certificate_weight: u64,
    /// Voting weight of the whole roster.
    pub roster_weight: u64,
    /// Seconds from the start to the end of the round.
    pub seconds: f64,
    /// Those seconds by phase.
    pub phases: PhaseSeconds,
    /// Bytes this node sent in this round.
    pub bytes_sent: u64,
    /// Bytes this node received in this round.
    pub bytes_received: u64,
}

/// A peer of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Public key, hex.
    pub id: String,
    /// A name for people; may be empty, and is not verified.
    pub name: String,
    /// Whether it votes in the current round.
    pub voter: bool,
    /// Its voting weight in the current round.
    pub weight: u64,
    /// Its contributions applied since the start of the run.
    pub contributions: u64,
    /// Its contributions whose effect voters measured.
    pub measured: u64,
    /// How much its contribution counts in a round's step, as a fraction of 1; 0 on probation.
    pub coefficient: f64,
    /// Whether it may contribute in the current round.
    pub placed: bool,
    /// The last round it contributed to.
    pub last_round: Option<u64>,
    /// Whether this node is connected to it (true for the node itself).
    pub connected: bool,
    /// Its multiaddr; empty if it is not connected.
    pub address: String,
    /// Whether it is connected through a relay only.
    pub relayed: bool,
    /// Bytes sent to it since this node started.
    pub bytes_sent: u64,
    /// Bytes received from it since this node started.
    pub bytes_received: u64,
    /// The state of its contribution to the current round.
    pub this_round: PeerRound,
    /// Whether its weights equal this node's, bit for bit; absent if it has not reported a root.
    /// Nodes do not report roots yet, so this is always absent today.
    pub state_root_agrees: Option<bool>,
}

/// The state of a peer's contribution to the current round. In JSON `{"state": "valid"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PeerRound {
    /// Nothing has arrived yet.
    #[default]
    None,
    /// Its commitment has arrived.
    Committed,
    /// Its contribution has arrived.
    Fetched,
    /// Its contribution passed this node's checks.
    Valid,
    /// Its contribution failed a check.
    Invalid {
        /// The reason, in words.
        reason: String,
    },
}

/// The loss of a simpler model, for comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floor {
    /// The model's name, such as `bigram`.
    pub name: String,
    /// Its loss on held-out text, in nats per byte.
    pub nats_per_byte: f64,
}

/// Bytes in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

/// Bytes of a calendar month (UTC), of all kinds, with what lies below the protocols.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonthTraffic {
    /// The month, such as `2026-11`.
    pub month: String,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Most bytes to send; 0 means no limit.
    pub max_bytes_sent: u64,
    /// Most bytes to receive; 0 means no limit.
    pub max_bytes_received: u64,
}

/// A log line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLine {
    /// When it was logged, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Its severity.
    pub level: Level,
    /// What happened, in one line.
    pub text: String,
}

/// The severity of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Details for debugging.
    Debug,
    /// Normal events of a healthy run.
    #[default]
    Info,
    /// Something went wrong that the node could handle, or that deserves a look.
    Warn,
    /// Something failed.
    Error,
}
