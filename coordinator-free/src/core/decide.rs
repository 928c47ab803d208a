//! Voters agree on the set to apply.

use weal_proto::{Envelope, Kind, Proposal, View, ViewCertificate, Vote};

use super::Core;
use crate::agreement::{Action, Engine, Message, Setup, VIEWS_BACK};
use crate::interface::event::Event;
use crate::interface::output::{Output, Record, TimerId};
use crate::interface::view::Phase;
use crate::rules::round_set::{Material, Tally, build};

impl Core {
    /// Whether the agreement can begin: more than two thirds of the weight attest one base root,
    /// and either all who are expected have attested, or time is up, or others have begun already
    /// (more than a third of the weight has, so somebody honest is among them).
    pub(super) fn may_begin_agreement(&self) -> bool {
        if self.engine.is_some() || self.round.phase == Phase::Deciding || !self.has_attested_root()
        {
            return false;
        }
        let all_here = || {
            self.expected_attesters()
                .iter()
                .all(|peer| self.round.attestations.contains_key(peer))
        };
        let over =
            self.round.phase == Phase::Attesting && (self.round.attest_time_is_up || all_here());
        over || self.others_decide()
    }

    fn has_attested_root(&self) -> bool {
        let roster = self.chain.ledger().roster();
        let mut tally = Tally::default();
        for (peer, (_, attestation)) in &self.round.attestations {
            tally.add_root(roster.weight(peer), attestation);
        }
        tally.agreed_root(roster).is_some()
    }

    fn others_decide(&self) -> bool {
        let roster = self.chain.ledger().roster();
        roster.has_honest(roster.weigh(&self.round.speakers()))
    }

    /// Starts the engine, from the log of an earlier life if there is one, and tells it what was
    /// heard so far.
    pub(super) fn begin_agreement(&mut self) {
        self.catch_up_with_deciders();
        self.cancel_timer(TimerId::AttestClose(self.chain.round()));
        self.enter(Phase::Deciding, None);
        let entries = std::mem::take(&mut self.log);
        let setup = Setup {
            run: self.chain.run(),
            round: self.chain.round(),
            key: &self.key,
            roster: self.chain.ledger().roster().clone(),
            seed: self.chain.seed(),
            timing: &self.chain.manifest().timing,
        };
        match Engine::start(setup, &entries, &mut self.signatures) {
            Ok((engine, actions)) => {
                self.engine = Some(engine);
                self.act(actions);
                self.tell_what_was_heard();
            }
            Err(cause) => self.bar(cause),
        }
    }

    /// This peer does not vote in this round any more; the decision will come from others.
    pub(super) fn bar(&mut self, cause: String) {
        let actions = self
            .engine
            .take()
            .map(|mut engine| engine.stop())
            .unwrap_or_default();
        self.act(actions);
        self.round.barred = true;
        self.report(Event::EngineFault {
            round: self.chain.round(),
            cause,
        });
    }

    fn tell_what_was_heard(&mut self) {
        let proposals = self
            .round
            .proposals
            .iter()
            .map(|((view, _), envelope)| (*view, 0, envelope));
        let votes = self
            .round
            .votes
            .iter()
            .map(|((view, _, _), envelope)| (*view, 1, envelope));
        let proofs = self
            .round
            .view_certificates
            .values()
            .map(|(view, envelope)| (*view, 2, envelope));
        let mut heard: Vec<_> = proposals.chain(votes).chain(proofs).collect();
        heard.sort_by_key(|(view, order, _)| (*view, *order));
        let messages: Vec<_> = heard
            .into_iter()
            .filter_map(|(_, _, envelope)| message(envelope))
            .collect();
        for message in messages {
            self.tell(message);
        }
    }

    /// Passes a message on to the engine, if it runs.
    pub(super) fn tell(&mut self, message: Message) {
        if let Some(engine) = &mut self.engine {
            let actions = engine.receive(message, &mut self.signatures);
            self.act(actions);
        }
    }

    pub(super) fn agreement_timer(&mut self, timer: TimerId) {
        if let Some(engine) = &mut self.engine {
            let actions = engine.timer_fired(timer, &mut self.signatures);
            let oldest = engine
                .view()
                .map_or(0, |(view, _)| view.0.saturating_sub(VIEWS_BACK));
            self.round.forget_views_before(View(oldest));
            self.act(actions);
        }
    }

    /// Builds a set when it is this peer's turn, as soon as enough attestations are here.
    pub(super) fn propose_if_wanted(&mut self) {
        let Some(view) = self.engine.as_ref().and_then(Engine::wants_value) else {
            return;
        };
        let material = Material {
            attestations: &self.round.attestations,
            commitments: &self.round.commitments,
            leaves: &self.leaves,
            evidence: &self.evidence,
        };
        let Some(set) = build(&self.chain, &material, &mut self.signatures) else {
            return;
        };
        if let Err(cause) = self.chain.check(&set, &mut self.signatures) {
            self.report(Event::ProposalRefused {
                round: set.round,
                view,
                cause: cause.to_string(),
            });
        } else if let Some(engine) = &mut self.engine {
            let actions = engine.propose(view, set, &mut self.signatures);
            self.act(actions);
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
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
                Action::SetTimer { id, delay_ms } => self.set_timer(id, delay_ms),
                Action::CancelTimer(id) => self.cancel_timer(id),
                Action::Decided(decided) => self.adopt_own(*decided),
                Action::Fault(cause) => self.report(Event::EngineFault { round, cause }),
            }
        }
    }

    /// Own words are kept like everybody's, for those who missed them.
    fn keep_own(&mut self, envelope: &Envelope) {
        match message(envelope) {
            Some(Message::Vote(_, vote)) => {
                self.round
                    .votes
                    .insert((vote.view, vote.step, envelope.signer), envelope.clone());
            }
            Some(Message::Proposal(_, proposal)) => {
                self.round
                    .proposals
                    .insert((proposal.view, envelope.hash()), envelope.clone());
            }
            Some(Message::ViewCertificate(proof)) => {
                self.round.view_certificates.insert(
                    (envelope.signer, proof.polka),
                    (proof.view, envelope.clone()),
                );
            }
            None => {}
        }
    }
}

/// An envelope as a message for the engine; its signature must have been checked.
pub(super) fn message(envelope: &Envelope) -> Option<Message> {
    match envelope.kind {
        Kind::Proposal => envelope
            .open::<Proposal>()
            .ok()
            .map(|proposal| Message::Proposal(envelope.clone(), proposal)),
        Kind::Vote => envelope
            .open::<Vote>()
            .ok()
            .map(|vote| Message::Vote(envelope.clone(), vote)),
        Kind::ViewCertificate => envelope
            .open::<ViewCertificate>()
            .ok()
            .map(Message::ViewCertificate),
        Kind::Commitment | Kind::Attestation | Kind::Leave => None,
    }
}
