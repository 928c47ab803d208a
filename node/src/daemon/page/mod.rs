//! What the page shows: kept up to date from what happens, turned into a [`Snapshot`] on demand.

mod state;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use weal_coordinator_free::{Apply, CoreView, Event, Phase as CorePhase};
use weal_dashboard::snapshot::EVENTS_KEPT;
use weal_dashboard::{
    Floor, Level, LogLine, Node, NodeState, Peer, PeerRound, Phase, PhaseSeconds, Round,
    RoundRecord, Run, Snapshot, Traffic,
};
use weal_proto::{PeerId, RoundNumber, StateRoot};

use crate::check::Refusal;
use crate::learner::{Contributed, LearnerHealth, LearnerProgress};
use weal_network as network;

/// Rounds kept here; the page keeps its own longer history.
const RECORDS: usize = 8;

/// What the board needs of the rest to draw a snapshot.
pub struct Seen<'a> {
    /// The core.
    pub core: &'a CoreView,
    /// The network.
    pub network: &'a network::Status,
    /// How far the learner is.
    pub learner: LearnerProgress,
    /// How the learner is.
    pub health: LearnerHealth,
    /// Own run link.
    pub link: String,
    /// Newest round at whose start weights are here, if any.
    pub weights_round: Option<RoundNumber>,
}

/// Keeps what has happened, for people.
pub struct Page {
    run: Run,
    node: Node,
    floors: Vec<Floor>,
    steps: u64,
    started: Instant,
    phase: Phase,
    phase_started: Instant,
    phase_started_unix_ms: u64,
    elapsed: PhaseSeconds,
    last: PhaseSeconds,
    round_started: Instant,
    traffic_before: (u64, u64),
    tokens: u64,
    context: u64,
    records: VecDeque<RoundRecord>,
    this_round: BTreeMap<PeerId, PeerRound>,
    last_rounds: BTreeMap<PeerId, u64>,
    dropped: BTreeMap<String, u64>,
    lines: VecDeque<LogLine>,
    message: Option<(NodeState, String)>,
}

/// Milliseconds since 1970, for people's eyes only.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Page {
    /// An empty board.
    pub fn new(run: Run, node: Node, floors: Vec<Floor>, context: u64) -> Self {
        let now = Instant::now();
        let steps = run.inner_steps;
        Self {
            run,
            node,
            floors,
            steps,
            started: now,
            phase: Phase::Apply,
            phase_started: now,
            phase_started_unix_ms: unix_ms(),
            elapsed: PhaseSeconds::default(),
            last: PhaseSeconds::default(),
            round_started: now,
            traffic_before: (0, 0),
            tokens: 0,
            context,
            records: VecDeque::new(),
            this_round: BTreeMap::new(),
            last_rounds: BTreeMap::new(),
            dropped: BTreeMap::new(),
            lines: VecDeque::new(),
            message: None,
        }
    }

    /// Takes over what an earlier process knew of a round.
    pub fn remember(&mut self, record: RoundRecord) {
        self.tokens = self.tokens.max(record.tokens);
        self.push(record);
    }

    fn push(&mut self, record: RoundRecord) {
        self.records.push_back(record);
        if self.records.len() > RECORDS {
            self.records.pop_front();
        }
    }

    /// Adds a line to the page's log, and to the program's.
    pub fn say(&mut self, level: Level, text: impl Into<String>) {
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

    /// Sets a state that is not told by the core: catching up, paused.
    pub fn set_message(&mut self, message: Option<(NodeState, String)>) {
        self.message = message;
    }

    /// A message was dropped.
    pub fn count_drop(&mut self, cause: &str) {
        *self.dropped.entry(cause.to_owned()).or_default() += 1;
    }

    /// The round went on to another phase.
    pub fn enter(&mut self, phase: Phase) {
        if phase == self.phase {
            return;
        }
        let seconds = self.elapsed.get(self.phase) + self.phase_started.elapsed().as_secs_f64();
        self.elapsed.set(self.phase, seconds);
        self.phase = phase;
        self.phase_started = Instant::now();
        self.phase_started_unix_ms = unix_ms();
    }

    /// What was found of a contribution.
    pub fn found(&mut self, peer: PeerId, refusal: Option<Refusal>) {
        let state = refusal.map_or(
            PeerRound::Valid,
            |Refusal {
                 verdict,
                 cause,
                 why,
             }| {
                self.count_drop(cause);
                self.say(
                    Level::Warn,
                    format!("contribution of {} is not valid: {why}", peer.short()),
                );
                PeerRound::Invalid {
                    reason: format!("{verdict:?}").to_lowercase(),
                }
            },
        );
        self.this_round.insert(peer, state);
    }

    /// Own training is done.
    pub fn contributed(&mut self, contributed: &Contributed) {
        self.enter(Phase::Commit);
        let text = format!(
            "round {}: trained on {} tokens in {:.1} s, loss {:.3}; contribution of {} bytes",
            contributed.round,
            contributed.tokens,
            contributed.train_seconds,
            contributed.mean_loss,
            contributed.blob_bytes
        );
        self.say(Level::Debug, text);
        let Contributed {
            round,
            skipped_steps,
            restorations,
            ..
        } = contributed;
        if *skipped_steps > 0 || *restorations > 0 {
            let text = format!(
                "round {round}: {skipped_steps} inner steps were not finite and are skipped; went back to the agreed weights {restorations} times"
            );
            self.say(Level::Warn, text);
        }
    }

    /// A round is decided; what is not known yet comes with [`Page::applied`].
    pub fn decided(&mut self, event: &Event, train_loss: Option<f64>) {
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
        let record = RoundRecord {
            round: round.0,
            train_nats_per_byte: train_loss,
            certificate_voters: *voters as u64,
            certificate_weight: weight.0,
            roster_weight: total.0,
            ..RoundRecord::default()
        };
        self.push(record);
        let how = if *synced {
            "learnt from peers"
        } else {
            "decided"
        };
        self.say(
            Level::Info,
            format!("round {round} {how}: {voters} voters, weight {weight} of {total}"),
        );
    }

    /// The contributions of a decided round.
    pub fn chosen(&mut self, apply: &Apply) {
        let tokens = apply
            .contributions
            .iter()
            .fold(0u64, |sum, chosen| sum.saturating_add(chosen.samples.0));
        self.tokens = self
            .tokens
            .saturating_add(tokens.saturating_mul(self.context));
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

    /// A round's weights are in memory: the round before is complete. Returns its record.
    pub fn applied(
        &mut self,
        next: RoundNumber,
        root: StateRoot,
        network: &network::Status,
    ) -> Option<RoundRecord> {
        self.enter(Phase::Apply);
        let seconds = self.round_started.elapsed().as_secs_f64();
        self.round_started = Instant::now();
        self.this_round.clear();
        let (sent, received) = totals(network);
        let (sent_before, received_before) =
            std::mem::replace(&mut self.traffic_before, (sent, received));
        let apply = self.elapsed.apply + self.phase_started.elapsed().as_secs_f64();
        self.phase_started = Instant::now();
        let mut phases = std::mem::take(&mut self.elapsed);
        phases.apply = apply;
        self.last = phases;
        let record = self.record(next.previous()?)?;
        record.root = root.to_string();
        record.seconds = seconds;
        record.phases = phases;
        record.bytes_sent = sent.saturating_sub(sent_before);
        record.bytes_received = received.saturating_sub(received_before);
        Some(record.clone())
    }

    /// The held-out loss of the weights at a round's start: what the round before led to. Returns
    /// its record.
    pub fn evaluated(&mut self, round: RoundNumber, nats_per_byte: f64) -> Option<RoundRecord> {
        self.say(
            Level::Info,
            format!(
                "after round {}: held-out loss {nats_per_byte:.4} nats per byte",
                round.0.saturating_sub(1)
            ),
        );
        let record = self.record(round.previous()?)?;
        record.heldout_nats_per_byte = Some(nats_per_byte);
        Some(record.clone())
    }

    fn record(&mut self, round: RoundNumber) -> Option<&mut RoundRecord> {
        self.records
            .iter_mut()
            .rev()
            .find(|record| record.round == round.0)
    }

    /// Something the core reports.
    pub fn report(&mut self, event: &Event) {
        match event {
            Event::PhaseChanged { phase, .. } => match phase {
                CorePhase::Waiting => self.enter(Phase::Apply),
                CorePhase::Committing => self.enter(Phase::Train),
                CorePhase::Fetching => self.enter(Phase::Fetch),
                CorePhase::Attesting => self.enter(Phase::Attest),
                CorePhase::Deciding => self.enter(Phase::Decide),
            },
            Event::Dropped { cause, .. } => self.count_drop(cause.name()),
            Event::Decided { .. } => {}
            Event::Equivocation { peer, round, kind } => self.say(
                Level::Warn,
                format!("{} contradicted itself in round {round} ({kind:?}): the proof goes into the next decision", peer.short()),
            ),
            Event::Banned { peer } => self.say(Level::Warn, format!("{} is banned by decision", peer.short())),
            Event::Joined { peer } => self.say(Level::Info, format!("{} has joined", peer.short())),
            Event::Left { peer } => self.say(Level::Info, format!("{} has left", peer.short())),
            Event::RootMismatch { round, own, others } => self.say(
                Level::Error,
                format!(
                    "own weights of round {round} have root {}, the others' {}: they are fetched anew",
                    own.short(),
                    others.short()
                ),
            ),
            Event::SyncRefused { round, cause } => {
                self.say(Level::Warn, format!("a peer's round {round} does not verify: {cause}"));
            }
            Event::ProposalRefused { round, cause, .. } => {
                self.say(Level::Warn, format!("a proposal for round {round} is not valid: {cause}"));
            }
            Event::OwnKeyElsewhere { round, kind } => self.say(
                Level::Error,
                format!("round {round}: a {kind:?} signed with this node's key came from elsewhere; two machines must never share a key"),
            ),
            Event::EngineFault { round, cause } => {
                self.say(Level::Error, format!("round {round}: the agreement engine stopped: {cause}"));
            }
            Event::Behind { round, ahead } => {
                self.say(Level::Info, format!("others are in round {ahead}, this node in {round}: catching up"));
            }
        }
    }

    /// Everything, as it is now.
    pub fn snapshot(&self, seen: &Seen<'_>) -> Snapshot {
        let core = seen.core;
        let (state, message) = self.message.clone().unwrap_or_else(|| self.state(seen));
        let mut elapsed = self.elapsed;
        elapsed.set(
            self.phase,
            elapsed.get(self.phase) + self.phase_started.elapsed().as_secs_f64(),
        );
        Snapshot {
            unix_ms: unix_ms(),
            run: Run {
                link: seen.link.clone(),
                ..self.run.clone()
            },
            node: Node {
                uptime_seconds: self.started.elapsed().as_secs_f64(),
                device: seen.health.device.clone(),
                state,
                message,
                ..self.node.clone()
            },
            learner: state::learner(&seen.health),
            round: Round {
                number: core.round.0,
                phase: self.phase,
                phase_started_unix_ms: self.phase_started_unix_ms,
                elapsed,
                expected: self.last,
                steps_done: seen.learner.steps_done,
                steps: self.steps,
                deadline_unix_ms: None,
            },
            history: self
                .records
                .iter()
                .filter(|record| !record.root.is_empty())
                .cloned()
                .collect(),
            peers: self.peers(seen),
            floors: self.floors.clone(),
            traffic: traffic(seen.network),
            dropped: self.drops(seen.network),
            events: self.lines.iter().cloned().collect(),
        }
    }

    fn peers(&self, seen: &Seen<'_>) -> Vec<Peer> {
        let mut peers: BTreeMap<PeerId, Peer> = BTreeMap::new();
        for peer in &seen.core.peers {
            let this_round = match self.this_round.get(&peer.peer) {
                Some(state) => state.clone(),
                None if peer.committed => PeerRound::Committed,
                None => PeerRound::None,
            };
            peers.insert(
                peer.peer,
                Peer {
                    id: peer.peer.to_string(),
                    name: peer.peer.short(),
                    voter: peer.voting_weight.0 > 0,
                    weight: peer.voting_weight.0,
                    contributions: peer.contributions,
                    last_round: self.last_rounds.get(&peer.peer).copied(),
                    connected: peer.peer.to_string() == self.node.id,
                    this_round,
                    ..Peer::default()
                },
            );
        }
        for connection in &seen.network.peers {
            let id = PeerId::from(connection.peer);
            let peer = peers.entry(id).or_insert_with(|| Peer {
                id: id.to_string(),
                name: id.short(),
                ..Peer::default()
            });
            peer.connected = true;
            peer.address = connection.address.to_string();
            peer.bytes_sent = connection.traffic.sent;
            peer.bytes_received = connection.traffic.received;
        }
        peers.into_values().collect()
    }

    fn drops(&self, network: &network::Status) -> BTreeMap<String, u64> {
        let mut dropped = self.dropped.clone();
        for (cause, count) in network.drops.by_cause() {
            if count > 0 {
                dropped.insert(cause.to_owned(), count);
            }
        }
        dropped
    }
}

fn traffic(network: &network::Status) -> BTreeMap<String, Traffic> {
    let bytes = &network.traffic;
    [
        ("gossip", bytes.gossip),
        ("blob", bytes.blob),
        ("sync", bytes.sync),
        ("upkeep", bytes.upkeep),
    ]
    .into_iter()
    .map(|(kind, count)| {
        (
            kind.to_owned(),
            Traffic {
                bytes_sent: count.sent,
                bytes_received: count.received,
            },
        )
    })
    .collect()
}

fn totals(network: &network::Status) -> (u64, u64) {
    let bytes = &network.traffic;
    [bytes.gossip, bytes.blob, bytes.sync, bytes.upkeep]
        .iter()
        .fold((0, 0), |(sent, received), count| {
            (sent + count.sent, received + count.received)
        })
}
