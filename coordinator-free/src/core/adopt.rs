//! Taking a decision as history, and moving to the next round.

use weal_proto::{Decided, Envelope, Leave, PeerId, RoundNumber, Ticket, Weight, limits};

use super::Core;
use super::round::Round;
use crate::agreement::Action;
use crate::host::retention;
use crate::interface::event::Event;
use crate::interface::names::TimerId;
use crate::interface::output::{Conflict, Output, Record};
use crate::interface::view::Phase;
use crate::rules::invalid::Invalid;
use crate::rules::ledger::Ledger;
use crate::rules::round_set;

impl Core {
    /// Adopts a decision of this node's own engine.
    pub(super) fn adopt_own(&mut self, decided: Decided) {
        let round = self.chain.round();
        match self.adopt(decided, false) {
            Ok(()) => self.liveness.caught_up(),
            Err(cause) => self.stop_voting(format!(
                "the engine decided an invalid round set in round {round}: {cause}"
            )),
        }
    }

    /// Adopts decided rounds that a peer sent.
    pub(super) fn synced(&mut self, decided: Vec<Decided>) {
        let before = self.chain.round();
        let is_long = decided.len() >= limits::DECIDED_BATCH / 2;
        let followed = std::mem::replace(&mut self.more_rounds_follow, true);
        for decided in decided {
            let round = decided.value.round;
            if round < self.chain.round() {
                self.compare_decisions(decided);
                continue;
            }
            if let Err(cause) = self.adopt(decided, true) {
                if cause == Invalid::Parent {
                    self.ask_for_the_fork();
                }
                self.report(Event::SyncRefused {
                    round,
                    cause: cause.to_string(),
                });
                break;
            }
        }
        // There may be more. A peer that has no more rounds sends an empty answer.
        let is_news = self.chain.round() > before;
        // An answer that comes twice says nothing.
        self.more_rounds_follow = if is_news { is_long } else { followed };
        if is_news {
            self.begin_if_caught_up();
            self.request_decided();
        }
        self.bring_weights_forward();
    }

    /// Voters must have decided each round in one way. If they have signed two decisions, this node
    /// stops: nobody but people can say which history is theirs.
    fn compare_decisions(&mut self, theirs: Decided) {
        let conflict = self.chain.past().conflict(&theirs, &mut self.signatures);
        if let Some(ours) = conflict {
            let round = theirs.value.round;
            self.outputs.push(Output::Halt(Box::new(Conflict {
                round,
                ours,
                theirs,
            })));
            self.halted = true;
        }
    }

    /// A peer's history is another one. Asks for the rounds in which the two may part.
    fn ask_for_the_fork(&mut self) {
        if let Some(from_round) = self.chain.past().oldest() {
            self.outputs.push(Output::RequestDecided { from_round });
        }
    }

    /// Verifies a decision of the running round, persists it, and begins the next round.
    pub(super) fn adopt(&mut self, decided: Decided, synced: bool) -> Result<(), Invalid> {
        let before = self.chain.ledger().clone();
        let verified = round_set::verify(&self.chain, decided, &mut self.signatures)?;
        let judge = self.chain.judge_output(&verified.decided().value);
        let apply = self.chain.extend(&verified)?;
        self.round_since = self.now;
        let decided = verified.into_decided();

        self.stop_training();
        self.keep_late_attestations();
        self.end_round(decided.value.round);
        self.report_decision(&decided, &before, synced);
        self.weight_sync.decided(apply);
        if !synced {
            self.judge(judge);
        }
        self.outputs
            .push(Output::Persist(Record::Decided(Box::new(decided))));
        if retention::has_snapshot(self.chain.round()) {
            let snapshot = Box::new(self.chain.snapshot());
            self.outputs
                .push(Output::Persist(Record::Snapshot(snapshot)));
        }
        self.forget_what_is_decided();
        self.bring_weights_forward();
        self.progress();
        for envelope in self.early.take() {
            // A drop is reported; there is no verdict to give any longer.
            let _result = self.receive(envelope);
        }
        Ok(())
    }

    fn end_round(&mut self, round: RoundNumber) {
        match self.round.phase {
            Phase::Committing => self.cancel_timer(TimerId::CommitClose(round)),
            Phase::Fetching => self.cancel_timer(TimerId::FetchClose(round)),
            Phase::Attesting | Phase::Deciding => self.cancel_timer(TimerId::AttestClose(round)),
            Phase::Waiting | Phase::Closing => {}
        }
        if let Some(mut engine) = self.engine.take() {
            for action in engine.stop() {
                if let Action::CancelTimer(id) = action {
                    self.cancel_timer(id);
                }
            }
        }
        self.round = Round::default();
        self.recovered_log.clear();
    }

    fn report_decision(&mut self, decided: &Decided, before: &Ledger, synced: bool) {
        let signers = decided
            .certificate
            .signatures
            .iter()
            .map(|commit| &commit.peer);
        let weight = u64::try_from(before.roster().weigh(signers)).unwrap_or(u64::MAX);
        self.report(Event::Decided {
            round: decided.value.round,
            view: decided.certificate.view,
            contributions: decided.value.contributions.len(),
            voters: decided.certificate.signatures.len(),
            weight: Weight(weight),
            total: before.roster().total(),
            synced,
        });
        let after = self.chain.ledger();
        let joined = after
            .iter()
            .filter(|(peer, account)| account.member && !before.is_member(peer));
        let banned = after
            .iter()
            .filter(|(peer, account)| account.banned && !before.is_banned(peer));
        let left = before.iter().filter(|(peer, account)| {
            account.member && !after.is_member(peer) && !after.is_banned(peer)
        });
        let events: Vec<_> = joined
            .map(|(peer, _)| Event::Joined { peer })
            .chain(banned.map(|(peer, _)| Event::Banned { peer }))
            .chain(left.map(|(peer, _)| Event::Left { peer }))
            .collect();
        self.outputs.extend(events.into_iter().map(Output::Report));
    }

    /// Keeps the attestations that the decided round lacks: the next rounds may include them.
    fn keep_late_attestations(&mut self) {
        if self.round.has_attested(&self.me) {
            self.attested_until = self.chain.round();
        }
        for ((_, peer), (envelope, attestation)) in std::mem::take(&mut self.round.attestations) {
            self.late.insert((attestation.round, peer), envelope);
        }
    }

    /// Drops evidence against banned peers, leaves of peers that are no longer members or were
    /// heard since, what cannot be decided any longer, and laggards that are silent.
    fn forget_what_is_decided(&mut self) {
        let chain = &self.chain;
        let ledger = chain.ledger();
        self.evidence
            .retain(|peer, _| ledger.account(peer).is_some_and(|account| !account.banned));
        self.leaves
            .retain(|peer, envelope| is_leaving(ledger, peer, envelope));
        self.late
            .retain(|(round, peer), _| chain.allows_late(peer, *round));
        let round = chain.round();
        self.laggards.retain(|_, heard| heard.next() >= round);
        self.tickets.retain(|peer, envelope| {
            let ticket = envelope.open::<Ticket>();
            ticket.is_ok_and(|ticket| chain.allows_ticket(peer, &ticket))
        });
    }
}

fn is_leaving(ledger: &Ledger, peer: &PeerId, envelope: &Envelope) -> bool {
    let account = ledger.account(peer).filter(|account| account.member);
    let leave = envelope.open::<Leave>();
    leave.is_ok_and(|leave| account.is_some_and(|it| !it.outlived_leave(leave.round)))
}
