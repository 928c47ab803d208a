//! Shows the page with a simulated run, without a network of peers.
//!
//! `cargo run -p weal-dashboard --example demo -- [PORT] [ROUNDS]` serves it on 127.0.0.1. PORT is
//! 8090 by default. The run starts with ROUNDS decided rounds (42 by default). The same arguments
//! give the same run.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpListener;
use weal_dashboard::{
    Access, Dashboard, Floor, Level, LogLine, Node, NodeState, Peer, PeerRound, Phase,
    PhaseSeconds, Round, RoundRecord, Run, Snapshot, Traffic, serve,
};

const NAMES: [&str; 7] = [
    "meadow",
    "attic-4070",
    "Bo's workstation",
    "library",
    "",
    "lab-2",
    "cellar",
];

/// Seconds each phase takes on average.
const EXPECTED: PhaseSeconds = PhaseSeconds {
    train: 9.0,
    commit: 0.8,
    fetch: 1.1,
    attest: 1.4,
    decide: 0.4,
    apply: 0.2,
};

const STEPS: u64 = 30;
const TICK: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(8090), |port| port.parse())?;
    let decided: u64 = arguments.next().map_or(Ok(42), |rounds| rounds.parse())?;

    let dashboard = Dashboard::new();
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    let mut demo = Demo::new(decided);
    let show = dashboard.clone();
    tokio::spawn(async move {
        loop {
            show.publish(demo.advance());
            tokio::time::sleep(TICK).await;
        }
    });
    serve(listener, dashboard, Access::default(), async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await?;
    Ok(())
}

/// The state of the simulated run.
struct Demo {
    random: StdRng,
    snapshot: Snapshot,
    phase_seconds: f64,
    started_ms: u64,
}

impl Demo {
    fn new(decided: u64) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let now = unix_ms();
        let mut demo = Self {
            snapshot: first_snapshot(&mut random, decided),
            random,
            phase_seconds: 0.0,
            started_ms: now,
        };
        for round in 0..decided {
            let record = demo.record(round, EXPECTED);
            demo.snapshot.history.push(record);
        }
        demo.snapshot.round.number = decided;
        demo.enter(Phase::Train);
        for (age, level, text) in [
            (41_000, Level::Info, "joined the run as a voter"),
            (
                29_500,
                Level::Warn,
                "the weights of cellar differ from the agreed root; it is fetching them again",
            ),
            (
                16_000,
                Level::Debug,
                "library has 2 addresses behind the same router",
            ),
        ] {
            demo.snapshot.events.push(LogLine {
                unix_ms: now - age,
                level,
                text: text.into(),
            });
        }
        demo
    }

    /// Advances to the present, and returns what a node would publish.
    fn advance(&mut self) -> Snapshot {
        let now = unix_ms();
        let spent = now.saturating_sub(self.snapshot.round.phase_started_unix_ms) as f64 / 1000.0;
        if spent >= self.phase_seconds {
            self.snapshot
                .round
                .elapsed
                .set(self.snapshot.round.phase, spent);
            self.next_phase();
        }
        if self.snapshot.round.phase == Phase::Train {
            let share = (spent / self.phase_seconds).min(1.0);
            self.snapshot.round.steps_done = (share * STEPS as f64) as u64;
        }
        self.snapshot.node.uptime_seconds = (now - self.started_ms) as f64 / 1000.0 + 5025.0;
        self.snapshot.unix_ms = now;
        self.move_bytes();
        self.snapshot.clone()
    }

    fn next_phase(&mut self) {
        match self.snapshot.round.phase {
            Phase::Train => self.enter(Phase::Commit),
            Phase::Commit => self.enter(Phase::Fetch),
            Phase::Fetch => self.enter(Phase::Attest),
            Phase::Attest => self.enter(Phase::Decide),
            Phase::Decide => self.enter(Phase::Apply),
            Phase::Apply => {
                self.decide();
                self.enter(Phase::Train);
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        let round = &mut self.snapshot.round;
        round.phase = phase;
        round.phase_started_unix_ms = unix_ms();
        self.phase_seconds = EXPECTED.get(phase) * self.random.random_range(0.8..1.2);
        round.deadline_unix_ms = (phase == Phase::Commit)
            .then(|| round.phase_started_unix_ms + (self.phase_seconds * 1000.0) as u64);
        for (index, peer) in self.snapshot.peers.iter_mut().enumerate() {
            peer.this_round = match (phase, index) {
                (Phase::Train, _) => PeerRound::None,
                (_, 6) if peer.this_round == PeerRound::None => PeerRound::None,
                (Phase::Commit, _) => PeerRound::Committed,
                (Phase::Fetch, _) => PeerRound::Fetched,
                (_, 5) if self.snapshot.round.number.is_multiple_of(3) => PeerRound::Invalid {
                    reason: "an index points past the end of its chunk".into(),
                },
                (_, _) => PeerRound::Valid,
            };
        }
    }

    /// Ends the round, and starts the next one.
    fn decide(&mut self) {
        let number = self.snapshot.round.number;
        let record = self.record(number, self.snapshot.round.elapsed);
        for peer in &mut self.snapshot.peers {
            if record.contributors.contains(&peer.id) {
                peer.contributions += 1;
                peer.last_round = Some(number);
            }
        }
        self.snapshot.peers[6].state_root_agrees = Some(!number.is_multiple_of(4));
        let root = &record.root[..8];
        let text = format!(
            "round {number} decided: {} contributions, root {root}",
            record.contributions
        );
        self.snapshot.events.push(LogLine {
            unix_ms: unix_ms(),
            level: Level::Info,
            text,
        });
        if self.random.random_bool(0.4) {
            *self
                .snapshot
                .dropped
                .entry("late commitment".into())
                .or_default() += 1;
        }
        // The dashboard has earlier records already.
        self.snapshot.history = vec![record];
        let round = &mut self.snapshot.round;
        *round = Round {
            number: number + 1,
            steps: STEPS,
            expected: EXPECTED,
            ..Round::default()
        };
    }

    fn record(&mut self, round: u64, phases: PhaseSeconds) -> RoundRecord {
        let progress = (round + 1) as f64;
        let loss = 1.42 + 4.0 * (progress + 1.0).powf(-0.62);
        let noise = self.random.random_range(-0.012..0.012);
        let contributors: Vec<String> = self
            .snapshot
            .peers
            .iter()
            .enumerate()
            .filter(|(index, _)| *index < 4 || self.random.random_bool([0.9, 0.7, 0.4][index - 4]))
            .map(|(_, peer)| peer.id.clone())
            .collect();
        let seconds = Phase::ALL.iter().map(|phase| phases.get(*phase)).sum();
        RoundRecord {
            round,
            heldout_nats_per_byte: Some(loss + noise),
            train_nats_per_byte: Some(loss - 0.05 + self.random.random_range(-0.06..0.06)),
            tokens: (round + 1) * 6 * STEPS * 16 * 512,
            contributions: contributors.len() as u64,
            contributors,
            root: hex(&mut self.random),
            certificate_voters: 5,
            certificate_weight: 912,
            roster_weight: 1000,
            seconds,
            phases,
            bytes_sent: self.random.random_range(900_000..1_400_000),
            bytes_received: self.random.random_range(4_000_000..6_000_000),
        }
    }

    fn move_bytes(&mut self) {
        for peer in self
            .snapshot
            .peers
            .iter_mut()
            .skip(1)
            .filter(|peer| peer.connected)
        {
            peer.bytes_sent += self.random.random_range(0..40_000);
            peer.bytes_received += self.random.random_range(0..160_000);
        }
        for (kind, scale) in [
            ("blob", 120_000),
            ("gossip", 3_000),
            ("sync", 200),
            ("upkeep", 600),
        ] {
            let traffic: &mut Traffic = self.snapshot.traffic.entry(kind.into()).or_default();
            traffic.bytes_sent += self.random.random_range(0..scale);
            traffic.bytes_received += self.random.random_range(0..4 * scale);
        }
    }
}

fn first_snapshot(random: &mut StdRng, decided: u64) -> Snapshot {
    let peers: Vec<Peer> = NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| peer(random, index, name, decided))
        .collect();
    let run = hex(random);
    Snapshot {
        run: Run {
            link: format!(
                "weal:{run}?peer=/ip4/203.0.113.7/udp/4433/quic-v1/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
            ),
            id: run,
            name: "Shakespeare by many hands".into(),
            model: "nano: 4 layers of width 128, 256 tokens (bytes)".into(),
            parameters: 1_052_416,
            data: "Shakespeare, 5.4 MB of text".into(),
            inner_steps: STEPS,
            batch: 16,
            keep: 32,
            chunk: 4096,
        },
        node: Node {
            id: peers[0].id.clone(),
            name: peers[0].name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            device: "NVIDIA GeForce RTX 4070, Vulkan".into(),
            threads: 8,
            uptime_seconds: 0.0,
            state: NodeState::Training,
            message: String::new(),
            reachability: "peers reach this node at /ip4/198.51.100.10/udp/4433/quic-v1".into(),
            reachability_advice: String::new(),
        },
        round: Round {
            steps: STEPS,
            expected: EXPECTED,
            ..Round::default()
        },
        floors: [("unigram", 3.31), ("bigram", 2.46), ("trigram", 2.04)]
            .map(|(name, nats_per_byte)| Floor {
                name: name.into(),
                nats_per_byte,
            })
            .into(),
        dropped: [
            ("late commitment", 3),
            ("wrong round", 12),
            ("bad signature", 1),
        ]
        .map(|(cause, count)| (cause.to_owned(), count))
        .into(),
        peers,
        ..Snapshot::default()
    }
}

fn peer(random: &mut StdRng, index: usize, name: &str, decided: u64) -> Peer {
    let connected = index != 5;
    Peer {
        id: hex(random),
        name: name.into(),
        voter: index < 5,
        weight: [260, 240, 200, 180, 120, 0, 0][index],
        contributions: decided * (10 - index as u64) / 10,
        last_round: decided.checked_sub(1),
        connected,
        address: if connected {
            format!("/ip4/198.51.100.{}/udp/4433/quic-v1", 10 + index)
        } else {
            String::new()
        },
        relayed: false,
        bytes_sent: random.random_range(20_000_000..90_000_000),
        bytes_received: random.random_range(20_000_000..90_000_000),
        this_round: PeerRound::None,
        state_root_agrees: connected.then_some(true),
        measured: decided * (10 - index as u64) / 10,
        coefficient: [1.0, 1.0, 1.0, 0.8, 0.5, 0.2, 0.0][index],
        placed: connected,
    }
}

fn hex(random: &mut StdRng) -> String {
    (0..32)
        .map(|_| format!("{:02x}", random.random::<u8>()))
        .collect()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
