//! The queue of events, and the loop over it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use weal_proto::manifest::Manifest;
use weal_proto::{BlobHash, Envelope, EnvelopeHash, PeerId, RoundNumber, RunId, Status};

use super::audit::{Audit, Violation};
use super::liar::Liar;
use super::node::Node;
use super::random::Random;
use super::scenario::{Absence, Scenario};
use super::trace::Trace;
use crate::interface::event::DropCause;
use crate::interface::input::{Input, MessageId};
use crate::interface::output::TimerId;
use crate::interface::time::Millis;
use crate::rules::signatures::{CheckSignature, Ed25519};

/// What a run showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Hash over every input and output of every peer.
    pub trace: [u8; 32],
    /// Virtual time played, in milliseconds.
    pub virtual_ms: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Crashes.
    pub crashes: u64,
    /// Rounds decided later than in view 0, counted once a peer.
    pub later_views: u64,
    /// Rounds that peers learnt from others instead of deciding them.
    pub synced: u64,
    /// Weights repaired after damage.
    pub repaired: u64,
    /// Contributions decided.
    pub contributions: u64,
    /// Peers with a vote at the end.
    pub voters: usize,
    /// Peers banned at the end.
    pub banned: Vec<PeerId>,
    /// Messages dropped, by cause.
    pub dropped: BTreeMap<DropCause, u64>,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A peer starts, for the first time or again.
    Start { peer: usize },
    /// A message arrives.
    Deliver {
        peer: usize,
        envelope: Arc<Envelope>,
    },
    /// Something a peer's life was waiting for.
    Local {
        peer: usize,
        life: u64,
        input: Input,
    },
    /// A timer goes off.
    Timer {
        peer: usize,
        life: u64,
        id: TimerId,
        number: u64,
    },
    /// Training comes to an end.
    TrainingEnds {
        peer: usize,
        life: u64,
        training: u64,
        round: RoundNumber,
    },
    /// A peer tries to get a contribution.
    TryFetch {
        peer: usize,
        life: u64,
        commitment: EnvelopeHash,
        blob: BlobHash,
        tries: u32,
    },
    /// A peer tries to apply a round.
    TryApply {
        peer: usize,
        life: u64,
        apply: crate::interface::output::Apply,
    },
    /// A peer is asked for something.
    Ask {
        peer: usize,
        by: usize,
        what: Question,
    },
    /// A peer that leaves goes.
    Go { peer: usize },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Decided(RoundNumber),
    RoundMessages(RoundNumber),
    Status,
}

/// Checks each signature once for all peers: it is the same for all of them.
#[derive(Debug, Default)]
struct Shared(Mutex<BTreeMap<EnvelopeHash, bool>>);

impl CheckSignature for Shared {
    fn check(&self, envelope: &Envelope, run: RunId) -> bool {
        let Ok(mut known) = self.0.lock() else {
            return false;
        };
        *known
            .entry(envelope.hash())
            .or_insert_with(|| Ed25519.check(envelope, run))
    }
}

/// Everything there is.
pub(super) struct World {
    pub scenario: Scenario,
    pub manifest: Arc<Manifest>,
    pub random: Random,
    pub now: Millis,
    pub nodes: Vec<Node>,
    pub audit: Audit,
    pub outcome: Outcome,
    /// The message being taken in.
    pub arrived: Option<Arc<Envelope>>,
    absences: Vec<Absence>,
    checker: Arc<Shared>,
    queue: BTreeMap<(Millis, u64), Event>,
    numbers: u64,
    trace: Trace,
}

/// Plays a scenario.
///
/// # Errors
/// The first thing that must never happen.
pub fn run(scenario: &Scenario) -> Result<Outcome, Violation> {
    let mut world = World::new(scenario);
    world.play()?;
    Ok(world.finish())
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let liar = |peer: usize| {
            scenario
                .liars
                .iter()
                .find(|(of, _, _)| *of == peer)
                .map(|(_, lie, from)| Liar::new(*lie, *from))
        };
        let nodes: Vec<_> = (0..scenario.peers)
            .map(|peer| Node::new(scenario.key(peer), liar(peer)))
            .collect();
        let honest = nodes
            .iter()
            .filter(|node| node.liar.is_none())
            .map(|node| node.key.peer())
            .collect();
        let mut world = Self {
            manifest: Arc::new(scenario.manifest()),
            random: Random::new(scenario.seed),
            now: Millis(0),
            nodes,
            audit: Audit::of(honest),
            outcome: Outcome::default(),
            arrived: None,
            absences: scenario.absences.clone(),
            checker: Arc::default(),
            queue: BTreeMap::new(),
            numbers: 0,
            trace: Trace::default(),
            scenario: scenario.clone(),
        };
        let later = |peer: &usize| {
            scenario
                .absences
                .iter()
                .any(|a| a.peer == *peer && a.leaves_in.is_none())
        };
        for peer in (0..scenario.peers).filter(|peer| !later(peer)) {
            let delay = world.random.within(&(0..=500));
            world.schedule(delay, Event::Start { peer });
        }
        world
    }

    fn play(&mut self) -> Result<(), Violation> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if self.is_done() {
                return Ok(());
            }
            if at.0 > self.scenario.patience_ms {
                break;
            }
            self.happen(event)?;
        }
        let decided = self.nodes.iter().map(Node::decided).collect();
        Err(Violation::Stuck {
            virtual_ms: self.now.0,
            decided,
        })
    }

    /// Whoever is down comes back, so all that are not away must get there.
    fn is_done(&self) -> bool {
        self.absences
            .iter()
            .all(|absence| absence.leaves_in.is_none())
            && self
                .nodes
                .iter()
                .filter(|node| node.liar.is_none())
                .all(|node| {
                    node.core.is_some() && node.disk.decided.len() as u64 >= self.scenario.rounds
                })
    }

    fn finish(self) -> Outcome {
        let mut outcome = self.outcome;
        outcome.trace = self.trace.finish();
        outcome.virtual_ms = self.now.0;
        let honest = self.nodes.iter().filter(|node| node.liar.is_none());
        if let Some(core) = honest
            .filter_map(|node| node.core.as_ref())
            .max_by_key(|core| core.chain().round())
        {
            outcome.voters = core.chain().ledger().roster().len();
            outcome.banned = core
                .chain()
                .ledger()
                .iter()
                .filter(|(_, a)| a.banned)
                .map(|(peer, _)| peer)
                .collect();
            outcome.contributions = core
                .chain()
                .ledger()
                .iter()
                .map(|(_, a)| a.contributions)
                .sum();
        }
        outcome
    }

    pub fn schedule(&mut self, delay_ms: u64, event: Event) {
        self.schedule_at(self.now.after(delay_ms), event);
    }

    pub fn schedule_at(&mut self, at: Millis, event: Event) {
        let number = self.number();
        self.queue.insert((at, number), event);
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Start { peer } => self.start(peer),
            Event::Deliver { peer, envelope } => {
                self.outcome.delivered += 1;
                let id = MessageId(self.number());
                let input = Input::Received {
                    id,
                    envelope: envelope.as_ref().clone(),
                };
                self.arrived = Some(envelope);
                self.step(peer, input)
            }
            Event::Local { peer, life, input } if self.lives(peer, life) => self.step(peer, input),
            Event::Timer {
                peer,
                life,
                id,
                number,
            } if self.lives(peer, life) => {
                if self.nodes[peer].timers.get(&id) != Some(&number) {
                    return Ok(());
                }
                self.nodes[peer].timers.remove(&id);
                self.step(peer, Input::TimerFired(id))
            }
            Event::TrainingEnds {
                peer,
                life,
                training,
                round,
            } if self.lives(peer, life) => self.training_ends(peer, training, round),
            Event::TryFetch {
                peer,
                life,
                commitment,
                blob,
                tries,
            } if self.lives(peer, life) => self.try_fetch(peer, commitment, blob, tries),
            Event::TryApply { peer, life, apply } if self.lives(peer, life) => {
                self.try_apply(peer, apply)
            }
            Event::Ask { peer, by, what } => self.answer(peer, by, what),
            Event::Go { peer } => {
                self.nodes[peer].stop();
                Ok(())
            }
            Event::Local { .. }
            | Event::Timer { .. }
            | Event::TrainingEnds { .. }
            | Event::TryFetch { .. }
            | Event::TryApply { .. } => Ok(()),
        }
    }

    fn lives(&self, peer: usize, life: u64) -> bool {
        let node = &self.nodes[peer];
        node.core.is_some() && node.life == life
    }

    fn start(&mut self, peer: usize) -> Result<(), Violation> {
        if self.nodes[peer].core.is_some() {
            return Ok(());
        }
        let checker: Arc<dyn CheckSignature> = self.checker.clone();
        self.nodes[peer]
            .start(&self.manifest, checker)
            .map_err(|cause| Violation::Restart { peer, cause })?;
        let (round, root) = self.nodes[peer].weights;
        let life = self.nodes[peer].life;
        let delay = self.random.within(&(50..=500));
        self.schedule(
            delay,
            Event::Local {
                peer,
                life,
                input: Input::WeightsReady { round, root },
            },
        );
        self.ask(peer, Question::Status);
        self.step(peer, Input::Start)
    }

    /// Lets a peer take a step, and carries out what it asks for. A crash may come before each
    /// output.
    pub fn step(&mut self, peer: usize, input: Input) -> Result<(), Violation> {
        let now = self.now;
        let Some(core) = &mut self.nodes[peer].core else {
            return Ok(());
        };
        self.trace.input(now, peer, &input);
        let outputs = core.step(now, input);
        for output in outputs {
            if self.crashes(peer) {
                return Ok(());
            }
            self.trace.output(&output);
            self.carry_out(peer, output)?;
        }
        Ok(())
    }

    fn crashes(&mut self, peer: usize) -> bool {
        if self.scenario.crash_ppm == 0 || !self.random.chance(self.scenario.crash_ppm) {
            return false;
        }
        let away = |node: &&Node| node.core.is_none() && node.life > 0;
        if self.nodes.iter().filter(away).count() >= self.scenario.most_down {
            return false;
        }
        self.outcome.crashes += 1;
        self.nodes[peer].stop();
        let down = self.scenario.down_ms.clone();
        let delay = self.random.within(&down);
        self.schedule(delay, Event::Start { peer });
        true
    }

    fn answer(&mut self, peer: usize, by: usize, what: Question) -> Result<(), Violation> {
        let Some(core) = &self.nodes[peer].core else {
            return Ok(());
        };
        let envelopes = match what {
            Question::RoundMessages(round) => core.round_messages(round),
            Question::Decided(_) | Question::Status => Vec::new(),
        };
        for envelope in envelopes {
            self.audit.sent(&envelope)?;
            self.send(peer, by, &Arc::new(envelope));
        }
        let decided = &self.nodes[peer].disk.decided;
        let input = match what {
            Question::Decided(from) => {
                let found: Vec<_> = decided
                    .iter()
                    .skip(from.0 as usize)
                    .take(8)
                    .cloned()
                    .collect();
                (!found.is_empty()).then_some(Input::Synced(found))
            }
            Question::Status => {
                let status = Status {
                    decided_rounds: decided.len() as u64,
                    weights_round: self.nodes[peer].weights.0,
                    oldest_blobs_round: RoundNumber(0),
                };
                Some(Input::PeerStatus {
                    peer: self.nodes[peer].key.peer(),
                    status,
                })
            }
            Question::RoundMessages(_) => None,
        };
        let Some(input) = input else { return Ok(()) };
        let life = self.nodes[by].life;
        if let Some(at) = self.arrival(peer, by) {
            self.schedule_at(
                at,
                Event::Local {
                    peer: by,
                    life,
                    input,
                },
            );
        }
        Ok(())
    }

    /// Whoever is to come when so many rounds are decided, or to leave in a round, does.
    pub fn come_and_go(&mut self, decided: u64) -> Result<(), Violation> {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.absences)
            .into_iter()
            .partition(|a| decided >= a.leaves_in.unwrap_or(a.comes_at));
        self.absences = later;
        for absence in due {
            let peer = absence.peer;
            if absence.leaves_in.is_some() {
                self.absences.push(Absence {
                    leaves_in: None,
                    ..absence
                });
                self.nodes[peer].leaving = true;
                self.step(peer, Input::Leave)?;
                self.schedule(1_000, Event::Go { peer });
            } else {
                self.schedule(0, Event::Start { peer });
            }
        }
        Ok(())
    }
}
