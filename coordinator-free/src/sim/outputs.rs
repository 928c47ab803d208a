//! Carrying out a core's outputs.

use std::sync::Arc;

use weal_proto::{BlobHash, Envelope, EnvelopeHash, RoundNumber, Samples, StateRoot, Verdict};

use super::audit::Violation;
use super::node::applied;
use super::world::{Event, Question, World};
use crate::interface::event::Event as Report;
use crate::interface::input::Input;
use crate::interface::output::{Acceptance, Apply, Output, Record, TimerId};
use crate::interface::time::Millis;

/// How often a peer tries to get a contribution before it gives up.
const TRIES: u32 = 30;
/// How long it waits between two tries, in milliseconds.
const RETRY_MS: u64 = 300;

impl World {
    pub fn carry_out(&mut self, peer: usize, output: Output) -> Result<(), Violation> {
        match output {
            Output::Persist(record) => self.persist(peer, record),
            Output::Broadcast(envelope) => self.broadcast(peer, envelope),
            Output::Train {
                round, deadline, ..
            } => {
                self.train(peer, round, deadline);
                Ok(())
            }
            Output::StopTraining => {
                self.nodes[peer].trainings += 1;
                Ok(())
            }
            Output::Reveal { blob, .. } => {
                self.nodes[peer].revealed.insert(blob);
                Ok(())
            }
            Output::Fetch(fetch) => {
                if !self.random.chance(self.scenario.missing_blob_ppm) {
                    let delay = self.random.within(&(20..=400));
                    let life = self.nodes[peer].life;
                    let (commitment, blob) = (fetch.commitment, fetch.blob);
                    self.schedule(
                        delay,
                        Event::TryFetch {
                            peer,
                            life,
                            commitment,
                            blob,
                            tries: TRIES,
                        },
                    );
                }
                Ok(())
            }
            Output::Apply(apply) => {
                let delay = self.random.within(&(20..=300));
                let life = self.nodes[peer].life;
                self.schedule(delay, Event::TryApply { peer, life, apply });
                Ok(())
            }
            Output::FetchWeights { round, root } => {
                self.fetch_weights(peer, round, root);
                Ok(())
            }
            Output::SetTimer { id, at } => {
                self.set_timer(peer, id, at);
                Ok(())
            }
            Output::CancelTimer { id } => {
                self.nodes[peer].timers.remove(&id);
                Ok(())
            }
            Output::RequestDecided { from_round } => {
                self.ask(peer, Question::Decided(from_round));
                Ok(())
            }
            Output::RequestRoundMessages { round } => {
                self.ask(peer, Question::RoundMessages(round));
                Ok(())
            }
            Output::Verdict { acceptance, .. } => {
                if let Some(envelope) = self
                    .arrived
                    .take()
                    .filter(|_| acceptance == Acceptance::Accept)
                {
                    self.pass_on(peer, &envelope);
                }
                Ok(())
            }
            Output::Report(report) => self.report(peer, report),
        }
    }

    fn persist(&mut self, peer: usize, record: Record) -> Result<(), Violation> {
        let decided = match &record {
            Record::Decided(decided) => Some((decided.value.round, decided.value.hash())),
            _ => None,
        };
        self.nodes[peer].persist(record);
        if let Some((round, hash)) = decided.filter(|_| self.nodes[peer].liar.is_none()) {
            self.audit.decided(round, hash)?;
            self.come_and_go(round.0 + 1)?;
        }
        Ok(())
    }

    fn broadcast(&mut self, peer: usize, envelope: Envelope) -> Result<(), Violation> {
        self.audit.sent(&envelope)?;
        let run = self.manifest.run();
        let node = &mut self.nodes[peer];
        let key = node.key.clone();
        let other = node
            .liar
            .as_mut()
            .and_then(|liar| liar.instead(&key, run, &envelope))
            .map(Arc::new);
        let envelope = Arc::new(envelope);
        for to in (0..self.nodes.len()).filter(|to| *to != peer) {
            match &other {
                Some(other) if to % 2 == 1 => self.send(peer, to, other),
                _ => self.send(peer, to, &envelope),
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, peer: usize, envelope: &Arc<Envelope>) {
        let others = self.nodes.len() as u64 - 1;
        for _ in 0..self.scenario.network.passed_on_to {
            let step = 1 + self.random.next() % others;
            let to = (peer as u64 + step) % (others + 1);
            self.send(peer, to as usize, envelope);
        }
    }

    pub fn send(&mut self, from: usize, to: usize, envelope: &Arc<Envelope>) {
        for at in self
            .scenario
            .network
            .arrivals(self.now, from, to, &mut self.random)
        {
            self.schedule_at(
                at,
                Event::Deliver {
                    peer: to,
                    envelope: Arc::clone(envelope),
                },
            );
        }
    }

    pub fn arrival(&mut self, from: usize, to: usize) -> Option<Millis> {
        self.scenario
            .network
            .arrivals(self.now, from, to, &mut self.random)
            .first()
            .copied()
    }

    /// Asks one of the others that are up.
    pub fn ask(&mut self, by: usize, what: Question) {
        let up: Vec<_> = (0..self.nodes.len())
            .filter(|peer| *peer != by && self.nodes[*peer].core.is_some())
            .collect();
        if up.is_empty() {
            return;
        }
        let peer = up[(self.random.next() % up.len() as u64) as usize];
        if let Some(at) = self.arrival(by, peer) {
            self.schedule_at(at, Event::Ask { peer, by, what });
        }
    }

    fn set_timer(&mut self, peer: usize, id: TimerId, at: Millis) {
        let number = self.number();
        self.nodes[peer].timers.insert(id, number);
        let life = self.nodes[peer].life;
        self.schedule_at(
            at,
            Event::Timer {
                peer,
                life,
                id,
                number,
            },
        );
    }

    fn train(&mut self, peer: usize, round: RoundNumber, deadline: Millis) {
        self.nodes[peer].trainings += 1;
        let span = self.scenario.train_ms.clone();
        let done = self.now.after(self.random.within(&span)).min(deadline);
        let (life, training) = (self.nodes[peer].life, self.nodes[peer].trainings);
        self.schedule_at(
            done,
            Event::TrainingEnds {
                peer,
                life,
                training,
                round,
            },
        );
    }

    pub fn training_ends(
        &mut self,
        peer: usize,
        training: u64,
        round: RoundNumber,
    ) -> Result<(), Violation> {
        if self.nodes[peer].trainings != training {
            return Ok(());
        }
        let blob = BlobHash::from(self.random.bytes());
        self.nodes[peer].disk.blobs.insert(blob);
        let blob_bytes = self.random.within(&(1_000..=100_000));
        self.step(
            peer,
            Input::Trained {
                round,
                blob,
                blob_bytes,
                samples: Samples(10),
            },
        )
    }

    /// Whether some other peer that is up serves the blob: its maker once revealed, or whoever has
    /// fetched it.
    fn is_served(&self, peer: usize, blob: &BlobHash) -> bool {
        let serves = |node: &super::node::Node| node.core.is_some() && node.revealed.contains(blob);
        self.nodes
            .iter()
            .enumerate()
            .any(|(other, node)| other != peer && serves(node))
    }

    fn holds_or_gets(&mut self, peer: usize, blob: &BlobHash) -> bool {
        let held = self.nodes[peer].disk.blobs.contains(blob);
        if held || self.is_served(peer, blob) {
            self.nodes[peer].disk.blobs.insert(*blob);
            self.nodes[peer].revealed.insert(*blob);
            return true;
        }
        false
    }

    pub fn try_fetch(
        &mut self,
        peer: usize,
        commitment: EnvelopeHash,
        blob: BlobHash,
        tries: u32,
    ) -> Result<(), Violation> {
        if self.holds_or_gets(peer, &blob) {
            return self.step(
                peer,
                Input::Validated {
                    commitment,
                    verdict: Verdict::Valid,
                },
            );
        }
        let life = self.nodes[peer].life;
        match tries.checked_sub(1) {
            Some(tries) => self.schedule(
                RETRY_MS,
                Event::TryFetch {
                    peer,
                    life,
                    commitment,
                    blob,
                    tries,
                },
            ),
            None => {
                return self.step(
                    peer,
                    Input::Validated {
                        commitment,
                        verdict: Verdict::Unavailable,
                    },
                );
            }
        }
        Ok(())
    }

    pub fn try_apply(&mut self, peer: usize, apply: Apply) -> Result<(), Violation> {
        let mut all = true;
        for chosen in &apply.contributions {
            all &= self.holds_or_gets(peer, &chosen.blob);
        }
        let (round, root) = self.nodes[peer].weights;
        if round != apply.round {
            return Ok(());
        }
        if !all {
            let life = self.nodes[peer].life;
            self.schedule(RETRY_MS, Event::TryApply { peer, life, apply });
            return Ok(());
        }
        let mut after = applied(root, &apply);
        if self.random.chance(self.scenario.damage_ppm) {
            after = self.random.bytes().into();
        } else if self.nodes[peer].liar.is_none() && root == apply.base_root {
            self.audit.holds(round.next(), after)?;
        }
        self.weights_ready(peer, round.next(), after, 0);
        Ok(())
    }

    /// Every other time nobody has them at hand.
    fn fetch_weights(&mut self, peer: usize, round: RoundNumber, root: StateRoot) {
        let delay = self.random.within(&(300..=1_500));
        if self.random.chance(500_000) {
            let life = self.nodes[peer].life;
            self.schedule(
                delay,
                Event::Local {
                    peer,
                    life,
                    input: Input::ApplyFailed { round },
                },
            );
            return;
        }
        self.outcome.repaired += 1;
        self.weights_ready(peer, round, root, delay);
    }

    fn weights_ready(&mut self, peer: usize, round: RoundNumber, root: StateRoot, delay: u64) {
        let keep = self.random.chance(500_000);
        let node = &mut self.nodes[peer];
        node.weights = (round, root);
        if keep {
            node.disk.checkpoint = Some((round, root));
        }
        let life = node.life;
        self.schedule(
            delay,
            Event::Local {
                peer,
                life,
                input: Input::WeightsReady { round, root },
            },
        );
    }

    fn report(&mut self, peer: usize, report: Report) -> Result<(), Violation> {
        let honest = self.nodes[peer].liar.is_none();
        match report {
            Report::Dropped { cause, .. } => *self.outcome.dropped.entry(cause).or_default() += 1,
            Report::Decided { view, synced, .. } => {
                self.outcome.later_views += u64::from(view.0 > 0);
                self.outcome.synced += u64::from(synced);
            }
            Report::Banned { peer } if self.audit.honest.contains(&peer) => {
                return Err(Violation::Banned(peer));
            }
            Report::EngineFault { cause, .. } if honest => {
                return Err(Violation::Engine { peer, cause });
            }
            _ => {}
        }
        Ok(())
    }
}
