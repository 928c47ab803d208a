//! The queue of events, and the loop over it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use weal_proto::manifest::Manifest;
use weal_proto::{Envelope, EnvelopeHash, RunId};

use super::actors::Actors;
use super::audit::{Audit, Violation};
use super::clock::Clock;
use super::event::{Event, Local};
use super::learning::Learning;
use super::network::{Gossip, Links, Mesh};
use super::node::Node;
use super::oracle::Oracle;
use super::outcome::{Outcome, PeerOutcome};
use super::random::Random;
use super::scenario::{Absence, Scenario};
use super::script::Script;
use super::trace::Trace;
use super::watch::{WATCH_MS, Watch};
use crate::interface::input::Input;
use crate::interface::output::Output;
use crate::interface::time::Millis;
use crate::rules::signatures::{CheckSignature, Ed25519};

/// With fewer peers, what must hold is checked after every step. With more peers a check takes
/// longer and there are more steps, so it runs only after some of them.
const MANY: u64 = 64;

/// Checks each signature once for all peers.
#[derive(Debug, Default)]
struct SharedChecker(Mutex<BTreeMap<EnvelopeHash, bool>>);

impl CheckSignature for SharedChecker {
    fn check(&self, envelope: &Envelope, run: RunId) -> bool {
        let Ok(mut known) = self.0.lock() else {
            return false;
        };
        *known
            .entry(envelope.hash())
            .or_insert_with(|| Ed25519.check(envelope, run))
    }
}

/// All peers, the network between them, and the events to come.
pub(super) struct World {
    /// The scenario, less what has happened already.
    pub scenario: Scenario,
    pub manifest: Arc<Manifest>,
    pub random: Random,
    pub now: Millis,
    /// How long the current step has been writing to disk, in milliseconds.
    pub lag_ms: u64,
    pub nodes: Vec<Node>,
    pub links: Links,
    pub mesh: Mesh,
    pub learning: Box<dyn Learning>,
    pub audit: Audit,
    pub watch: Watch,
    pub script: Script,
    pub outcome: Outcome,
    /// The gossip message of the current step and who sent it, if it delivers one.
    pub arrived: Option<(Arc<Gossip>, usize)>,
    checker: Arc<SharedChecker>,
    queue: BTreeMap<(Millis, u64), Event>,
    numbers: u64,
    /// Steps of all peers so far.
    steps: u64,
    trace: Trace,
}

/// Plays a scenario from its seed.
///
/// # Errors
/// The first [`Violation`].
pub fn run(scenario: &Scenario) -> Result<Outcome, Violation> {
    run_with(scenario, Actors::of(scenario))
}

/// Plays a scenario in which peers learn and lie as these actors do.
///
/// # Errors
/// The first [`Violation`].
pub fn run_with(scenario: &Scenario, actors: Actors) -> Result<Outcome, Violation> {
    let mut world = World::new(scenario, actors);
    world.play()?;
    Ok(world.finish())
}

impl World {
    fn new(scenario: &Scenario, actors: Actors) -> Self {
        let Actors {
            learning,
            mut dishonest,
            adjust,
        } = actors;
        let mut manifest = scenario.manifest();
        adjust(&mut manifest);
        let initial = learning.initial();
        let nodes: Vec<_> = (0..scenario.peers)
            .map(|peer| Node::new(scenario.key(peer), dishonest.remove(&peer), initial))
            .collect();
        let honest = nodes
            .iter()
            .map(|node| node.is_honest().then(|| node.key.peer()));
        let manifest = Arc::new(manifest);
        let mut random = Random::new(scenario.seed);
        let network = &scenario.network;
        let degree = network.mesh_degree.min(scenario.peers);
        let mut world = Self {
            audit: Audit::new(honest.collect(), Oracle::new(&manifest)),
            manifest,
            now: Millis(0),
            lag_ms: 0,
            links: Links::new(scenario.peers),
            mesh: Mesh::new(scenario.peers, degree, &mut random),
            random,
            nodes,
            learning,
            watch: Watch::default(),
            script: scenario.script.clone(),
            outcome: Outcome::default(),
            arrived: None,
            checker: Arc::default(),
            queue: BTreeMap::new(),
            numbers: 0,
            steps: 0,
            trace: Trace::default(),
            scenario: scenario.clone(),
        };
        world.schedule(WATCH_MS, Event::Watch);
        world.start_all();
        world
    }

    /// All peers start within half a second, but for those that join later.
    fn start_all(&mut self) {
        for peer in 0..self.nodes.len() {
            let mut absences = self.scenario.absences.iter();
            if !absences.any(|a| a.peer == peer && a.leaves_in.is_none()) {
                let delay = self.random.within(&(0..=500));
                self.schedule(delay, Event::Start { peer });
            }
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if self.is_done() {
                return Ok(());
            }
            if at.0 > self.scenario.give_up_after_ms {
                break;
            }
            self.handle(event)?;
            self.follow_script()?;
        }
        Err(Violation::Stuck {
            virtual_ms: self.now.0,
            peers: self.describe_peers(),
        })
    }

    /// What each peer waits for.
    pub(super) fn describe_peers(&self) -> Vec<String> {
        self.nodes.iter().map(Node::describe).collect()
    }

    /// Whether all honest peers have decided the scenario's rounds, and the script is at its end.
    /// Crashed peers restart, so none of them is left out.
    fn is_done(&self) -> bool {
        let has_decided =
            |node: &Node| node.is_up() && node.disk.decided.len() as u64 >= self.scenario.rounds;
        let joins = |absence: &Absence| absence.leaves_in.is_none();
        self.watch.decided_rounds() >= self.scenario.rounds
            && self.script.is_empty()
            && self.scenario.absences.iter().all(joins)
            && self
                .nodes
                .iter()
                .filter(|node| node.is_honest() && !node.is_gone)
                .all(has_decided)
    }

    fn finish(mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.trace = self.trace.finish();
        outcome.virtual_ms = self.now.0;
        outcome.rounds = self.watch.decided_rounds();
        outcome.decision_ms = self.watch.decision_ms();
        outcome.contradictions_after_loss = self.audit.contradictions_after_loss;
        let honest = self.nodes.iter().filter(|node| node.is_honest());
        let cores = honest.filter_map(|node| node.core.as_ref());
        let Some(core) = cores.max_by_key(|core| core.chain().round()) else {
            return outcome;
        };
        let ledger = core.chain().ledger();
        let banned = ledger.iter().filter(|(_, account)| account.banned);
        outcome.voters = ledger.roster().len();
        outcome.banned = banned.map(|(peer, _)| peer).collect();
        let contributions = ledger.iter().map(|(_, account)| account.contributions);
        outcome.contributions = contributions.sum();
        let peers = self
            .nodes
            .iter()
            .zip(std::mem::take(&mut self.links.traffic));
        outcome.peers = peers
            .map(|(node, traffic)| {
                let peer = node.key.peer();
                let account = ledger.account(&peer).copied().unwrap_or_default();
                PeerOutcome {
                    honest: node.is_honest(),
                    weight: account.weight,
                    voting_weight: ledger.roster().weight(&peer),
                    contributions: account.contributions,
                    traffic,
                }
            })
            .collect();
        outcome
    }

    pub(super) fn schedule(&mut self, delay_ms: u64, event: Event) {
        self.schedule_at(self.now.after(delay_ms), event);
    }

    pub(super) fn schedule_at(&mut self, at: Millis, event: Event) {
        self.numbers += 1;
        self.queue.insert((at, self.numbers), event);
    }

    /// Schedules something that the peer waits for.
    pub(super) fn schedule_local(&mut self, peer: usize, delay_ms: u64, what: Local) {
        self.schedule_local_at(peer, self.now.after(delay_ms), what);
    }

    pub(super) fn schedule_local_at(&mut self, peer: usize, at: Millis, what: Local) {
        let incarnation = self.nodes[peer].incarnation;
        let event = Event::Local {
            peer,
            incarnation,
            what,
        };
        self.schedule_at(at, event);
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(free_at) = self.busy_until(&event) {
            self.schedule_at(free_at, event);
            return Ok(());
        }
        match event {
            Event::Start { peer } => self.start(peer),
            Event::Stop { peer } => {
                self.nodes[peer].stop();
                Ok(())
            }
            Event::Deliver { peer, from, gossip } => self.deliver(peer, from, gossip),
            Event::Request {
                peer,
                from,
                request,
            } => self.answer(peer, from, request),
            Event::Local {
                peer,
                incarnation,
                what,
            } if self.is_current(peer, incarnation) => self.handle_local(peer, what),
            Event::Local { .. } => Ok(()),
            Event::Watch => self.watch(),
        }
    }

    /// Until when the peer that the event is for writes to its disk and takes no input.
    fn busy_until(&self, event: &Event) -> Option<Millis> {
        let peer = match event {
            Event::Deliver { peer, .. }
            | Event::Request { peer, .. }
            | Event::Local { peer, .. } => *peer,
            Event::Start { .. } | Event::Stop { .. } | Event::Watch => return None,
        };
        let until = self.nodes[peer].busy_until;
        (until > self.now).then_some(until)
    }

    fn handle_local(&mut self, peer: usize, what: Local) -> Result<(), Violation> {
        match what {
            Local::Answer(input) => self.step(peer, input),
            Local::Messages(envelopes) => envelopes
                .into_iter()
                .try_for_each(|envelope| self.step(peer, Input::Received(envelope))),
            Local::Wake => self.wake(peer),
            Local::AskStatus => {
                self.ask_status(peer);
                Ok(())
            }
            Local::TrainingEnds { training, task } => self.training_ends(peer, training, &task),
            Local::BlobArrives { blob, round } => {
                self.blob_arrives(peer, blob, round);
                Ok(())
            }
            Local::TryFetch { fetch, tries_left } => self.try_fetch(peer, fetch, tries_left),
            Local::TryApply { apply, tries_left } => self.try_apply(peer, apply, tries_left),
        }
    }

    /// Timers that are due fire, one after another.
    fn wake(&mut self, peer: usize) -> Result<(), Violation> {
        self.nodes[peer].wakes_at = None;
        let incarnation = self.nodes[peer].incarnation;
        while self.is_current(peer, incarnation) {
            let node = &mut self.nodes[peer];
            let Some(id) = node.timers.pop_due(node.clock.reads(self.now)) else {
                break;
            };
            self.step(peer, Input::TimerFired(id))?;
        }
        self.schedule_wake(peer);
        Ok(())
    }

    fn is_current(&self, peer: usize, incarnation: u64) -> bool {
        let node = &self.nodes[peer];
        node.is_up() && node.incarnation == incarnation
    }

    fn start(&mut self, peer: usize) -> Result<(), Violation> {
        if self.nodes[peer].is_up() || self.nodes[peer].is_gone {
            return Ok(());
        }
        let checker: Arc<dyn CheckSignature> = self.checker.clone();
        let clock = self.new_clock();
        self.nodes[peer]
            .start(&self.manifest, checker, clock)
            .map_err(|cause| Violation::Restart { peer, cause })?;
        let weights = self.nodes[peer].weights.0;
        let snapshot = self.nodes[peer].disk.starting_point(weights);
        self.outcome.from_snapshot += u64::from(snapshot.is_some());
        if !self.nodes[peer].knows_its_history(&self.manifest) {
            return Err(Violation::Invariant {
                peer,
                statement: "what it started from is not what the decided rounds lead to",
            });
        }
        let delay = self.random.within(&(50..=500));
        let weights = self.nodes[peer].weights_at_start();
        self.schedule_local(peer, delay, Local::Answer(weights));
        self.step(peer, Input::Start)?;
        self.greet(peer);
        Ok(())
    }

    fn new_clock(&mut self) -> Clock {
        let most = self.scenario.clock_drift_ppm;
        let drift = self.random.within(&(0..=u64::from(most) * 2)) as i64 - i64::from(most);
        Clock {
            started: self.now,
            began_at: Millis(self.random.within(&self.scenario.clock_starts_at_ms)),
            drift_ppm: drift as i32,
        }
    }

    /// Gives a peer an input, and carries out its outputs. The peer may crash before each of them.
    pub(super) fn step(&mut self, peer: usize, input: Input) -> Result<(), Violation> {
        self.steps += 1;
        let check = self
            .steps
            .is_multiple_of(self.nodes.len() as u64 / MANY + 1);
        let node = &mut self.nodes[peer];
        let (incarnation, shown) = (node.incarnation, node.clock.reads(self.now));
        let Some(core) = &mut node.core else {
            return Ok(());
        };
        self.trace.input(self.now, peer, &input);
        let heard = self.arrived.clone();
        let outputs = core.step(shown, input);
        if check {
            core.check_invariants()
                .map_err(|statement| Violation::Invariant { peer, statement })?;
        }
        self.lag_ms = 0;
        let mut writes = false;
        for output in outputs {
            // Records that follow one another are one write.
            let starts_write = matches!(output, Output::Persist(_)) && !writes;
            writes = matches!(output, Output::Persist(_));
            if starts_write {
                self.lag_ms += self.random.within(&self.scenario.disks.write_ms);
            }
            if self.crashes(peer) || starts_write && self.write_fails(peer) {
                break;
            }
            self.trace.output(&output);
            self.carry_out(peer, output)?;
            if !self.script.is_empty() {
                self.follow_script()?;
            }
            if !self.is_current(peer, incarnation) {
                break;
            }
        }
        self.arrived = None;
        if self.is_current(peer, incarnation) {
            self.nodes[peer].busy_until = self.now.after(self.lag_ms);
            self.add_lies(peer, heard.as_ref().map(|(gossip, _)| &gossip.envelope));
        }
        self.lag_ms = 0;
        Ok(())
    }
}
