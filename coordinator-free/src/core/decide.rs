//! Deciding: voters agree on the round set to apply.

use weal_proto::{Envelope, RoundSet, View};

use super::Core;
use crate::agreement::{Action, Engine, Message, Setup, VIEWS_BACK};
use crate::interface::event::Event;
use crate::interface::names::TimerId;
use crate::interface::output::{Output, Record};
use crate::interface::view::Phase;
use crate::rules::round_set::{self, Collected, build};

impl Core {
    /// Whether the agreement can begin. More than two thirds of the weight must attest one base
    /// root. In addition, all expected voters must have attested, or time must be up, or others
    /// must have begun: voters with more than a third of the weight, so an honest one is among
    /// them.
    pub(super) fn may_begin_agreement(&self) -> bool {
        if self.engine.is_some() || self.round.phase == Phase::Deciding || !self.agreed_attempt() {
            return false;
        }
        let all_attested = || {
            self.expected_attesters()
                .iter()
                .all(|peer| self.round.has_attested(peer))
        };
        let over = self.round.phase == Phase::Attesting
            && (self.round.attest_time_is_up || all_attested());
        over || self.others_are_deciding()
    }

    fn others_are_deciding(&self) -> bool {
        let roster = self.chain.ledger().roster();
        roster.has_honest(roster.weigh(&self.round.deciders()))
    }

    /// Starts the engine, continuing the write-ahead log if there is one, and feeds it the messages
    /// that have arrived so far.
    pub(super) fn begin_agreement(&mut self) {
        self.skip_to_attesting();
        self.enter(Phase::Deciding, None);
        // If nobody can propose, everyone attests again.
        self.wait_for_attestations();
        let entries = std::mem::take(&mut self.recovered_log);
        let setup = Setup {
            run: self.chain.run(),
            round: self.chain.round(),
            key: &self.key,
            roster: self.chain.ledger().roster().clone(),
            timing: &self.chain.manifest().timing,
        };
        match Engine::start(setup, &entries, &mut self.signatures) {
            Ok((engine, actions)) => {
                self.engine = Some(engine);
                self.carry_out(actions);
                for message in self.round.agreement_messages() {
                    self.feed_engine(message);
                }
            }
            Err(cause) => self.stop_voting(cause),
        }
    }

    /// Stops voting in this round. The decision will come from others.
    pub(super) fn stop_voting(&mut self, cause: String) {
        let actions = self
            .engine
            .take()
            .map(|mut engine| engine.stop())
            .unwrap_or_default();
        self.carry_out(actions);
        self.round.voting_stopped = true;
        self.report(Event::EngineFault {
            round: self.chain.round(),
            cause,
        });
    }

    /// Passes a message to the engine, if it runs.
    pub(super) fn feed_engine(&mut self, message: Message) {
        if let Some(engine) = &mut self.engine {
            let actions = engine.receive(message, &mut self.signatures);
            self.carry_out(actions);
        }
    }

    pub(super) fn agreement_timer(&mut self, timer: TimerId) {
        if let Some(engine) = &mut self.engine {
            let actions = engine.timer_fired(timer, &mut self.signatures);
            let oldest = engine
                .view()
                .map_or(0, |(view, _)| view.0.saturating_sub(VIEWS_BACK));
            self.round.forget_views_before(View(oldest));
            self.carry_out(actions);
        }
    }

    /// Proposes a set when it is this node's turn, as soon as enough attestations have arrived.
    pub(super) fn propose_if_due(&mut self) {
        let Some(view) = self.engine.as_ref().and_then(Engine::must_propose_in) else {
            return;
        };
        let Some(set) = self.build_set() else {
            return;
        };
        if let Err(cause) = round_set::check(&self.chain, &set, &mut self.signatures) {
            self.report(Event::ProposalRefused {
                round: set.round,
                view,
                cause: cause.to_string(),
            });
        } else if let Some(engine) = &mut self.engine {
            let actions = engine.propose(view, set, &mut self.signatures);
            self.carry_out(actions);
        }
    }

    /// The set that this node would propose, if enough has arrived.
    pub(super) fn build_set(&mut self) -> Option<RoundSet> {
        let collected = Collected {
            attestations: &self.round.attestations,
            commitments: &self.round.commitments,
            late: &self.late,
            tickets: &self.tickets,
            leaves: &self.leaves,
            evidence: &self.evidence,
        };
        build(&self.chain, &collected, &mut self.signatures)
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let round = self.chain.round();
        for action in actions {
            match action {
                Action::Log(bytes) => self
                    .outputs
                    .push(Output::Persist(Record::AgreementLog { round, bytes })),
                Action::Publish(envelope) => {
                    self.keep_own(&envelope);
                    self.outputs.push(Output::Broadcast(envelope));
                }
                Action::Keep(envelope) => self.keep_own(&envelope),
                Action::SetTimer { id, delay_ms } => self.set_timer(id, delay_ms),
                Action::CancelTimer(id) => self.cancel_timer(id),
                Action::Decided(decided) => self.adopt_own(*decided),
                Action::Fault(cause) => self.report(Event::EngineFault { round, cause }),
            }
        }
    }

    /// Keeps this node's message like other voters', for peers that ask what they missed.
    fn keep_own(&mut self, envelope: &Envelope) {
        if let Some(message) = Message::decode(envelope) {
            self.round.keep(&message);
        }
    }
}
