//! Collects what happens, for the page.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use weal_coordinator_free::{Apply, Event};
use weal_dashboard::snapshot::EVENTS_KEPT;
use weal_dashboard::{Floor, Level, LogLine, Node, NodeState, PeerRound, Phase, RoundRecord, Run};
use weal_network as network;
use weal_proto::{Manifest, PeerId, RoundNumber, StateRoot, Verdict};

use super::line_budget::LineBudget;
use super::phase_clock::PhaseClock;
use super::run::describe;
use crate::check::Refusal;
use crate::learner::Contributed;
use crate::wall_clock::unix_ms;

/// Rounds kept here. The dashboard keeps a longer history.
const RECORDS: usize = 8;

/// Everything that has happened, as far as the page shows it.
pub(in crate::daemon) struct PageFeed {
    pub(super) run: Run,
    pub(super) node: Node,
    pub(super) floors: Vec<Floor>,
    pub(super) started: Instant,
    pub(super) clock: PhaseClock,
    /// Bytes sent and received until the running round began.
    traffic_before: (u64, u64),
    /// Tokens trained on by all peers since the run began.
    tokens: u64,
    /// Tokens of a sample.
    context: u64,
    pub(super) records: VecDeque<RoundRecord>,
    pub(super) this_round: BTreeMap<PeerId, PeerRound>,
    /// The last round to which each peer contributed.
    pub(super) last_rounds: BTreeMap<PeerId, u64>,
    pub(super) dropped: BTreeMap<String, u64>,
    pub(super) lines: VecDeque<LogLine>,
    pub(super) message: Option<(NodeState, String)>,
    /// Whether the log says that a limit of the month is used up.
    told_of_limit: bool,
    /// Lines that strangers cause.
    strangers: LineBudget,
}

impl PageFeed {
    /// A feed in which nothing has happened yet.
    pub(crate) fn new(manifest: &Manifest, node: Node, floors: Vec<Floor>) -> Self {
        Self {
            run: describe(manifest),
            node,
            floors,
            started: Instant::now(),
            clock: PhaseClock::new(),
            traffic_before: (0, 0),
            tokens: 0,
            context: u64::from(manifest.model.context),
            records: VecDeque::new(),
            this_round: BTreeMap::new(),
            last_rounds: BTreeMap::new(),
            dropped: BTreeMap::new(),
            lines: VecDeque::new(),
            message: None,
            told_of_limit: false,
            strangers: LineBudget::new(Instant::now()),
        }
    }

    /// Takes over what an earlier process recorded of a round.
    pub(crate) fn remember(&mut self, record: RoundRecord) {
        self.tokens = self.tokens.max(record.tokens);
        self.push(record);
    }

    fn push(&mut self, record: RoundRecord) {
        self.records.push_back(record);
        if self.records.len() > RECORDS {
            self.records.pop_front();
        }
    }

    fn record(&mut self, round: RoundNumber) -> Option<&mut RoundRecord> {
        self.records
            .iter_mut()
            .rev()
            .find(|record| record.round == round.0)
    }

    /// Adds a line to the page's log and to the program's.
    pub(crate) fn say(&mut self, level: Level, text: impl Into<String>) {
        let text = text.into();
        match level {
            Level::Error => tracing::error!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Info => tracing::info!("{text}"),
            Level::Debug => tracing::debug!("{text}"),
        }
        self.lines.push_back(LogLine {
            unix_ms: unix_ms(),
            level,
            text,
        });
        if self.lines.len() > EVENTS_KEPT {
            self.lines.pop_front();
        }
    }

    /// Adds a line that strangers may cause as often as they like. There is room for some; the rest
    /// is counted, so that strangers do not push everything else out of the log.
    pub(crate) fn say_of_stranger(&mut self, level: Level, text: impl Into<String>) {
        let Some(left_out) = self.strangers.take(Instant::now()) else {
            self.count_drop("log_lines_of_strangers");
            return;
        };
        if left_out > 0 {
            let text = format!("left out {left_out} lines about strangers");
            self.say(Level::Info, text);
        }
        self.say(level, text);
    }

    /// Says once that a limit of the month is used up.
    pub(crate) fn tell_of_limit(&mut self, message: Option<String>) {
        let is_told = std::mem::replace(&mut self.told_of_limit, message.is_some());
        match message {
            Some(text) if !is_told => self.say(Level::Warn, text),
            None if is_told => self.say(Level::Info, "a new month begins: the node continues"),
            _ => {}
        }
    }

    /// Shows this state instead of the one derived from the core; `None` shows the derived one
    /// again.
    pub(crate) fn set_message(&mut self, message: Option<(NodeState, String)>) {
        self.message = message;
    }

    /// Counts a dropped message.
    pub(crate) fn count_drop(&mut self, cause: &str) {
        *self.dropped.entry(cause.to_owned()).or_default() += 1;
    }

    /// A peer's contribution was examined.
    pub(crate) fn examined(&mut self, peer: PeerId, refusal: Option<Refusal>) {
        let state = match refusal {
            None => PeerRound::Valid,
            Some(Refusal {
                verdict,
                cause,
                why,
            }) => {
                self.count_drop(cause);
                let text = format!("the contribution of {} is not valid: {why}", peer.short());
                self.say(Level::Warn, text);
                PeerRound::Invalid {
                    reason: format!("{verdict:?}").to_lowercase(),
                }
            }
        };
        self.this_round.insert(peer, state);
    }

    /// This node's voter refuses a contribution that is well formed, after it compared it with the
    /// others of the round.
    pub(crate) fn refused(&mut self, peer: PeerId, verdict: Verdict) {
        let cause = match verdict {
            Verdict::Copy => "contribution_copy",
            Verdict::Disagrees => "contribution_disagrees",
            Verdict::Contradicted => "contribution_contradicted",
            // Counted when it was examined.
            _ => return,
        };
        self.count_drop(cause);
        let reason = format!("{verdict:?}").to_lowercase();
        self.this_round.insert(peer, PeerRound::Invalid { reason });
    }

    /// This node made a contribution.
    pub(crate) fn contributed(&mut self, contributed: &Contributed) {
        self.clock.enter(Phase::Commit);
        let Contributed {
            round,
            tokens,
            train_seconds,
            mean_loss,
            blob_bytes,
            skipped_steps,
            restorations,
            ..
        } = contributed;
        let text = format!(
            "round {round}: trained on {tokens} tokens in {train_seconds:.1} s, loss {mean_loss:.3}; the contribution has {blob_bytes} bytes"
        );
        self.say(Level::Debug, text);
        if *skipped_steps > 0 || *restorations > 0 {
            let text = format!(
                "round {round}: skipped {skipped_steps} inner steps that were not finite; went back to the agreed weights {restorations} times"
            );
            self.say(Level::Warn, text);
        }
    }

    /// A round is decided. [`PageFeed::chosen`] and [`PageFeed::applied`] complete its record.
    pub(crate) fn decided(&mut self, event: &Event, train_loss: Option<f64>) {
        let Event::Decided {
            round,
            voters,
            weight,
            total,
            synced,
            ..
        } = event
        else {
            return;
        };
        self.push(RoundRecord {
            round: round.0,
            train_nats_per_byte: train_loss,
            certificate_voters: *voters as u64,
            certificate_weight: weight.0,
            roster_weight: total.0,
            ..RoundRecord::default()
        });
        let how = if *synced {
            "fetched as decided"
        } else {
            "decided"
        };
        let text = format!("round {round} {how}: {voters} voters, weight {weight} of {total}");
        self.say(Level::Info, text);
    }

    /// The contributions of a decided round are known.
    pub(crate) fn chosen(&mut self, apply: &Apply) {
        let samples = apply.contributions.iter().fold(0u64, |sum, chosen| {
            sum.saturating_add(chosen.commitment.samples().0)
        });
        self.tokens = self
            .tokens
            .saturating_add(samples.saturating_mul(self.context));
        for chosen in &apply.contributions {
            self.last_rounds.insert(chosen.peer, apply.round.0);
        }
        let tokens = self.tokens;
        if let Some(record) = self.record(apply.round) {
            record.tokens = tokens;
            record.contributions = apply.contributions.len() as u64;
            record.contributors = apply
                .contributions
                .iter()
                .map(|chosen| chosen.peer.to_string())
                .collect();
        }
    }

    /// The weights of round `next` are in memory, which completes the round before. Returns that
    /// round's record.
    pub(crate) fn applied(
        &mut self,
        next: RoundNumber,
        root: StateRoot,
        network: &network::Status,
    ) -> Option<RoundRecord> {
        let (seconds, phases) = self.clock.end_round();
        self.this_round.clear();
        let (sent, received) = total_traffic(network);
        let (sent_before, received_before) =
            std::mem::replace(&mut self.traffic_before, (sent, received));
        let record = self.record(next.previous()?)?;
        record.root = root.to_string();
        record.seconds = seconds;
        record.phases = phases;
        record.bytes_sent = sent.saturating_sub(sent_before);
        record.bytes_received = received.saturating_sub(received_before);
        Some(record.clone())
    }

    /// The held-out loss of the weights at a round's start was measured. Returns the record of the
    /// round before, which led to these weights.
    pub(crate) fn evaluated(
        &mut self,
        round: RoundNumber,
        nats_per_byte: f64,
    ) -> Option<RoundRecord> {
        let text = format!(
            "after round {}: held-out loss {nats_per_byte:.4} nats per byte",
            round.0.saturating_sub(1)
        );
        self.say(Level::Info, text);
        let record = self.record(round.previous()?)?;
        record.heldout_nats_per_byte = Some(nats_per_byte);
        Some(record.clone())
    }
}

fn total_traffic(network: &network::Status) -> (u64, u64) {
    let bytes = &network.traffic;
    let kinds = [
        bytes.gossip,
        bytes.blob,
        bytes.sync,
        bytes.relay,
        bytes.upkeep,
    ];
    kinds.iter().fold((0, 0), |(sent, received), count| {
        (sent + count.sent, received + count.received)
    })
}
