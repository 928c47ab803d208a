//! The queue of events, and the loop over it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use weal_proto::manifest::Manifest;
use weal_proto::{Envelope, EnvelopeHash, RunId};

use super::audit::{Audit, Violation};
use super::event::{Event, Local, Request};
use super::liar::Liar;
use super::node::Node;
use super::outcome::Outcome;
use super::random::Random;
use super::scenario::{Absence, Scenario};
use super::trace::Trace;
use crate::interface::input::Input;
use crate::interface::time::Millis;
use crate::rules::signatures::{CheckSignature, Ed25519};

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
    pub scenario: Scenario,
    pub manifest: Arc<Manifest>,
    pub random: Random,
    pub now: Millis,
    pub nodes: Vec<Node>,
    pub audit: Audit,
    pub outcome: Outcome,
    /// The message of the current step, if it delivers one.
    pub arrived: Option<Arc<Envelope>>,
    absences: Vec<Absence>,
    checker: Arc<SharedChecker>,
    queue: BTreeMap<(Millis, u64), Event>,
    numbers: u64,
    trace: Trace,
}

/// Plays a scenario from its seed.
///
/// # Errors
/// The first [`Violation`].
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
        let joins_later = |peer: &usize| {
            scenario
                .absences
                .iter()
                .any(|a| a.peer == *peer && a.leaves_in.is_none())
        };
        for peer in (0..scenario.peers).filter(|peer| !joins_later(peer)) {
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
            if at.0 > self.scenario.give_up_after_ms {
                break;
            }
            self.handle(event)?;
        }
        let decided = self.nodes.iter().map(Node::decided).collect();
        Err(Violation::Stuck {
            virtual_ms: self.now.0,
            decided,
        })
    }

    /// Whether all honest peers have decided the scenario's rounds. Crashed peers restart, so none
    /// of them is left out.
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
        let cores = honest.filter_map(|node| node.core.as_ref());
        if let Some(core) = cores.max_by_key(|core| core.chain().round()) {
            let ledger = core.chain().ledger();
            let banned = ledger.iter().filter(|(_, account)| account.banned);
            outcome.voters = ledger.roster().len();
            outcome.banned = banned.map(|(peer, _)| peer).collect();
            outcome.contributions = ledger
                .iter()
                .map(|(_, account)| account.contributions)
                .sum();
        }
        outcome
    }

    pub(super) fn schedule(&mut self, delay_ms: u64, event: Event) {
        self.schedule_at(self.now.after(delay_ms), event);
    }

    pub(super) fn schedule_at(&mut self, at: Millis, event: Event) {
        let number = self.number();
        self.queue.insert((at, number), event);
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

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Start { peer } => self.start(peer),
            Event::Stop { peer } => {
                self.nodes[peer].stop();
                Ok(())
            }
            Event::Deliver { peer, envelope } => {
                self.outcome.delivered += 1;
                let input = Input::Received(envelope.as_ref().clone());
                self.arrived = Some(envelope);
                self.step(peer, input)
            }
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
        }
    }

    fn handle_local(&mut self, peer: usize, what: Local) -> Result<(), Violation> {
        match what {
            Local::Answer(input) => self.step(peer, input),
            Local::Timer { id, number } => {
                if self.nodes[peer].timers.get(&id) != Some(&number) {
                    return Ok(());
                }
                self.nodes[peer].timers.remove(&id);
                self.step(peer, Input::TimerFired(id))
            }
            Local::TrainingEnds { training, round } => self.training_ends(peer, training, round),
            Local::TryFetch {
                commitment,
                blob,
                tries_left,
            } => self.try_fetch(peer, commitment, blob, tries_left),
            Local::TryApply(apply) => self.try_apply(peer, apply),
        }
    }

    fn is_current(&self, peer: usize, incarnation: u64) -> bool {
        let node = &self.nodes[peer];
        node.core.is_some() && node.incarnation == incarnation
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
        let delay = self.random.within(&(50..=500));
        let ready = Input::WeightsReady { round, root };
        self.schedule_local(peer, delay, Local::Answer(ready));
        self.request(peer, Request::Status);
        self.step(peer, Input::Start)
    }

    /// Gives a peer an input, and carries out its outputs. The peer may crash before each of them.
    pub(super) fn step(&mut self, peer: usize, input: Input) -> Result<(), Violation> {
        let now = self.now;
        let Some(core) = &mut self.nodes[peer].core else {
            return Ok(());
        };
        self.trace.input(now, peer, &input);
        let outputs = core.step(now, input);
        core.check_invariants()
            .map_err(|statement| Violation::Invariant { peer, statement })?;
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
        let is_down = |node: &&Node| node.core.is_none() && node.incarnation > 0;
        if self.nodes.iter().filter(is_down).count() >= self.scenario.most_down {
            return false;
        }
        self.outcome.crashes += 1;
        self.nodes[peer].stop();
        let down = self.scenario.down_ms.clone();
        let delay = self.random.within(&down);
        self.schedule(delay, Event::Start { peer });
        true
    }

    /// Some peer has decided this many rounds: peers that are due join, leave or return.
    pub(super) fn come_and_go(&mut self, decided: u64) -> Result<(), Violation> {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.absences)
            .into_iter()
            .partition(|a| decided >= a.leaves_in.unwrap_or(a.joins_at));
        self.absences = later;
        for absence in due {
            let peer = absence.peer;
            if absence.leaves_in.is_some() {
                self.absences.push(Absence {
                    leaves_in: None,
                    ..absence
                });
                self.step(peer, Input::Leave)?;
                self.schedule(1_000, Event::Stop { peer });
            } else {
                self.schedule(0, Event::Start { peer });
            }
        }
        Ok(())
    }
}
