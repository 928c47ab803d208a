//! Carries out a core's outputs.

use super::audit::Violation;
use super::event::{Local, Request};
use super::learning::Task;
use super::world::World;
use crate::interface::event::Event as Report;
use crate::interface::input::Input;
use crate::interface::output::{Output, Record};

impl World {
    pub(super) fn carry_out(&mut self, peer: usize, output: Output) -> Result<(), Violation> {
        match output {
            Output::Persist(record) => return self.persist(peer, record),
            Output::Broadcast(envelope) => return self.broadcast(peer, envelope),
            Output::Report(report) => return self.report(peer, report),
            Output::Verdict(acceptance) => self.forward(peer, acceptance),
            Output::Train {
                round,
                seed,
                share,
                base_root,
                deadline,
            } => {
                let task = Task {
                    index: peer,
                    peer: self.nodes[peer].key.peer(),
                    run: self.manifest.run(),
                    round,
                    seed,
                    share,
                    base_root,
                };
                self.train(task, deadline);
            }
            Output::StopTraining => self.nodes[peer].trainings += 1,
            Output::Reveal { round, blob } => {
                self.audit_reveal(peer, round);
                self.reveal(peer, blob);
            }
            Output::Fetch(fetch) => self.fetch(peer, fetch),
            Output::Compare {
                round,
                contributions,
                earlier,
            } => self.compare(peer, round, &contributions, &earlier),
            Output::Judge(judge) => self.judge(peer, &judge),
            Output::FindTicket { round, bits } => self.find_ticket(peer, round, bits),
            Output::Halt(conflict) => return Err(Violation::Fork(conflict.round)),
            Output::Apply(apply) => {
                self.audit_chosen(peer, &apply);
                self.apply(peer, apply);
            }
            Output::ComputeInitialWeights => {
                let (round, root) = self.nodes[peer].weights;
                let delay = self.random.within(&(50..=500));
                let ready = Local::Answer(Input::WeightsReady { round, root });
                self.schedule_local(peer, delay, ready);
            }
            Output::FetchWeights { round, root } => self.fetch_weights(peer, round, root),
            Output::SetTimer { id, at } => {
                self.nodes[peer].timers.set(id, at);
                self.schedule_wake(peer);
            }
            Output::CancelTimer { id } => self.nodes[peer].timers.cancel(id),
            Output::RequestDecided { from_round } => {
                self.request(peer, Request::Decided(from_round));
            }
            Output::RequestRoundMessages { round } => {
                self.request(peer, Request::RoundMessages(round));
            }
        }
        Ok(())
    }

    /// Sees to it that the peer looks at its timers when the next one is due.
    pub(super) fn schedule_wake(&mut self, peer: usize) {
        let node = &mut self.nodes[peer];
        let Some(due) = node.timers.next() else {
            return;
        };
        let at = node.clock.when_it_reads(due).max(self.now);
        if node.wakes_at.is_none_or(|wakes| at < wakes) {
            node.wakes_at = Some(at);
            self.schedule_local_at(peer, at, Local::Wake);
        }
    }

    fn persist(&mut self, peer: usize, record: Record) -> Result<(), Violation> {
        self.note_stored(peer, &record);
        let decided = match &record {
            Record::Decided(decided) => Some(decided.clone()),
            _ => None,
        };
        let node = &mut self.nodes[peer];
        node.persist(record, &self.scenario.disks);
        if let Some(decided) = decided.filter(|_| node.is_honest()) {
            if self.audit_decided(peer, &decided)? {
                self.learn_of(peer, &decided);
            }
            self.come_and_go(decided.value.round.0 + 1);
        }
        Ok(())
    }

    fn report(&mut self, peer: usize, report: Report) -> Result<(), Violation> {
        let honest = self.nodes[peer].is_honest();
        match report {
            Report::Dropped { cause, .. } => *self.outcome.dropped.entry(cause).or_default() += 1,
            Report::PhaseChanged { round, phase } => self.nodes[peer].phase = (round, phase),
            Report::Decided {
                round,
                view,
                synced,
                ..
            } => {
                if honest && !synced {
                    self.audit_own_decision(round);
                }
                self.outcome.later_views += u64::from(view.0 > 0);
                self.outcome.synced += u64::from(synced);
            }
            Report::Banned { peer } => return self.audit.banned(peer),
            Report::EngineFault { cause, .. } if honest && !self.audit.is_forgetful(peer) => {
                return Err(Violation::Engine { peer, cause });
            }
            _ => {}
        }
        Ok(())
    }
}
