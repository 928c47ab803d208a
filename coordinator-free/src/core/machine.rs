//! [`Core`]: dispatch, and what all its parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use weal_proto::{Envelope, Evidence, Leave, PeerId, RoundNumber, Signable, SigningKey};

use super::early::Early;
use super::fresh_start::FreshStart;
use super::judge::Judgement;
use super::liveness::{Liveness, NUDGE_MS};
use super::recovered::Recovered;
use super::round::Round;
use super::weight_sync::WeightSync;
use crate::agreement::Engine;
use crate::interface::error::Error;
use crate::interface::event::Event;
use crate::interface::input::Input;
use crate::interface::names::TimerId;
use crate::interface::output::{Output, Record};
use crate::interface::time::Millis;
use crate::interface::view::Phase;
use crate::rules::chain::Chain;
use crate::rules::signatures::{CheckSignature, Ed25519, Signatures};

/// What a core needs from its caller.
#[derive(Clone)]
pub struct Config {
    /// This node's key. No other machine may use it: two machines with one key contradict each
    /// other, and get the key banned.
    pub key: SigningKey,
    /// How the core checks signatures.
    pub checker: Arc<dyn CheckSignature>,
}

impl Config {
    /// A core with this key, which checks signatures with [`Ed25519`].
    pub fn new(key: SigningKey) -> Self {
        Self {
            key,
            checker: Arc::new(Ed25519),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The rules of one run, as one node follows them.
pub struct Core {
    pub(super) key: SigningKey,
    /// This node's peer id.
    pub(super) me: PeerId,
    pub(super) signatures: Signatures,
    pub(super) chain: Chain,
    pub(super) weight_sync: WeightSync,
    /// The furthest round in which a peer claims to be.
    pub(super) furthest_claim: Option<RoundNumber>,
    /// Decided rounds are arriving, and the last answer was long.
    pub(super) more_rounds_follow: bool,
    pub(super) round: Round,
    pub(super) judgement: Judgement,
    /// The agreement on the running round, once it has begun.
    pub(super) engine: Option<Engine>,
    /// The running round's write-ahead log, as an earlier run of the program left it. The engine
    /// takes it when it starts.
    pub(super) recovered_log: Vec<Vec<u8>>,
    pub(super) early: Early,
    /// This node has attested the rounds before this one, or may have, or missed them for good.
    pub(super) attested_until: RoundNumber,
    /// Attestations of the last decided rounds that no decided round holds yet.
    pub(super) late: BTreeMap<(RoundNumber, PeerId), Envelope>,
    /// Members whose attestations arrive after their rounds, and when the last one did.
    pub(super) laggards: BTreeMap<PeerId, RoundNumber>,
    /// Tickets that no decided round holds yet.
    pub(super) tickets: BTreeMap<PeerId, Envelope>,
    /// Members that have announced that they leave, until a round set says so.
    pub(super) leaves: BTreeMap<PeerId, Envelope>,
    /// Proof against peers that have contradicted themselves, until a round set bans them.
    pub(super) evidence: BTreeMap<PeerId, Evidence>,
    pub(super) liveness: Liveness,
    pub(super) fresh_start: FreshStart,
    /// This node has announced that it leaves.
    pub(super) leaving: bool,
    /// The round in which it has announced so.
    pub(super) left_in: Option<RoundNumber>,
    /// Voters that the operator declared gone for ever.
    pub(super) gone: BTreeSet<PeerId>,
    /// When the running round became it, on this node's clock.
    pub(super) round_since: Millis,
    /// Voters decided a round in two ways: this node does nothing any longer.
    pub(super) halted: bool,
    pub(super) now: Millis,
    /// What this step has asked for so far.
    pub(super) outputs: Vec<Output>,
}

impl Core {
    /// A core that continues where an earlier run of the program ended.
    ///
    /// # Errors
    /// [`Error::NoVoters`] when nobody may vote; [`Error::Gap`] when the unapplied rounds are not
    /// the last decided ones.
    pub fn new(config: Config, recovered: Recovered) -> Result<Self, Error> {
        let Recovered {
            chain,
            unapplied,
            genesis,
            records,
        } = recovered;
        if chain.ledger().roster().is_empty() {
            return Err(Error::NoVoters);
        }
        let me = config.key.peer();
        let votes = chain.ledger().roster().weight(&me) > 0;
        let may_sign = genesis || !votes || !records.is_empty();
        let mut core = Self {
            key: config.key,
            me,
            signatures: Signatures::new(chain.run(), config.checker),
            weight_sync: WeightSync::new(&chain, unapplied)?,
            furthest_claim: None,
            more_rounds_follow: false,
            attested_until: chain.round(),
            chain,
            round: Round::default(),
            judgement: Judgement::default(),
            engine: None,
            recovered_log: Vec::new(),
            early: Early::default(),
            late: BTreeMap::new(),
            laggards: BTreeMap::new(),
            tickets: BTreeMap::new(),
            leaves: BTreeMap::new(),
            evidence: BTreeMap::new(),
            liveness: Liveness::default(),
            fresh_start: FreshStart::new(may_sign),
            leaving: false,
            left_in: None,
            gone: BTreeSet::new(),
            round_since: Millis::default(),
            halted: false,
            now: Millis::default(),
            outputs: Vec::new(),
        };
        core.restore(records);
        Ok(core)
    }

    /// Processes what happened at this instant. Returns what to do about it, in this order.
    ///
    /// Nothing that a peer sends makes this panic. Messages that break a rule are dropped and
    /// reported as [`Event::Dropped`].
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        if self.halted {
            return Vec::new();
        }
        match input {
            Input::Start => self.start(),
            Input::WeightsReady { round, root } => self.weights_ready(round, root),
            Input::NoWeights => self.weights_absent(),
            Input::ApplyFailed { round } => self.apply_failed(round),
            Input::Trained {
                round,
                blob,
                blob_bytes,
                samples,
            } => self.trained(round, blob, blob_bytes, samples),
            Input::TrainingFailed { round } => self.training_failed(round),
            Input::Received(envelope) => self.received(envelope),
            Input::Validated {
                commitment,
                verdict,
            } => self.validated(commitment, verdict),
            Input::Compared { round, signals } => self.compared(round, &signals),
            Input::Judged { round, scores } => self.judged(round, scores),
            Input::Synced(decided) => self.synced(decided),
            Input::PeerStatus { peer, status } => self.peer_status(peer, &status),
            Input::TicketFound(ticket) => self.ticket_found(ticket),
            Input::Recover { gone } => self.declare_gone(gone),
            Input::TimerFired(timer) => self.timer_fired(timer),
            Input::Leave => self.leave(),
        }
        self.advance();
        std::mem::take(&mut self.outputs)
    }

    /// Restores the running round's records: this node must not contradict what it signed there.
    fn restore(&mut self, records: Vec<Record>) {
        let current = self.chain.round();
        for record in records {
            match record {
                Record::OwnCommitment(envelope) => self.round.restore_commitment(current, envelope),
                Record::OwnAttestation(envelope) => {
                    self.round.restore_attestation(current, envelope)
                }
                Record::InTime(envelopes) => {
                    for envelope in envelopes {
                        self.round.restore_commitment(current, envelope);
                    }
                }
                Record::OwnClosed(envelope) => self.round.restore_closed(current, envelope),
                Record::OwnRecovery(envelope) => self.round.restore_recovery(current, envelope),
                Record::AgreementLog { round, bytes } if round == current => {
                    self.recovered_log.push(bytes)
                }
                Record::AgreementLog { .. }
                | Record::Decided(_)
                | Record::Snapshot(_)
                | Record::OwnLeave(_) => {}
            }
        }
    }

    fn start(&mut self) {
        self.round_since = self.now;
        self.set_timer(TimerId::Nudge, NUDGE_MS);
        self.request_decided();
        if self.round.recoveries.contains_key(&self.me) {
            self.stop_for_recovery();
        } else if !self.recovered_log.is_empty() {
            self.begin_agreement();
        }
    }

    /// Advances as far as possible. Each iteration enters a later phase or a later round.
    fn advance(&mut self) {
        if !self.fresh_start.may_sign(&self.chain) {
            return;
        }
        while self.advance_phase() || self.may_begin_agreement() {
            if self.may_begin_agreement() {
                self.begin_agreement();
            }
        }
        self.attest_missed_round();
        self.propose_if_due();
    }

    fn advance_phase(&mut self) -> bool {
        match self.round.phase {
            Phase::Waiting => self.begin_round(),
            Phase::Committing => self.close_if_complete(),
            Phase::Closing => self.fetch_if_closed(),
            Phase::Fetching => self.attest_if_examined(),
            Phase::Attesting | Phase::Deciding => false,
        }
    }

    fn timer_fired(&mut self, timer: TimerId) {
        let current = self.chain.round();
        match timer {
            TimerId::Nudge => self.nudge(),
            TimerId::CommitClose(round) if round == current => self.commit_time_is_up(),
            TimerId::FetchClose(round) if round == current => self.fetch_time_is_up(),
            TimerId::AttestClose(round) if round == current => self.attest_time_is_up(),
            TimerId::Propose(round, _)
            | TimerId::Vote(round, _, _)
            | TimerId::Rebroadcast(round, _)
                if round == current =>
            {
                self.agreement_timer(timer);
            }
            _ => {}
        }
    }

    fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.left_in = Some(self.chain.round());
        if !self.fresh_start.may_sign(&self.chain) {
            return;
        }
        let round = self.chain.round();
        let envelope = self.say(&Leave { round }, Record::OwnLeave);
        self.leaves.insert(self.me, envelope);
        self.stop_training();
    }

    /// Whether this node has announced in an earlier round that it leaves.
    pub(super) fn has_left(&self) -> bool {
        self.left_in.is_some_and(|round| round < self.chain.round())
    }

    pub(super) fn sign<M: Signable>(&self, message: &M) -> Envelope {
        Envelope::sign(&self.key, self.chain.run(), message)
    }

    /// Signs a message of this node, which is on disk before anybody hears it.
    pub(super) fn say<M: Signable>(
        &mut self,
        message: &M,
        record: fn(Envelope) -> Record,
    ) -> Envelope {
        let envelope = self.sign(message);
        self.outputs.push(Output::Persist(record(envelope.clone())));
        self.outputs.push(Output::Broadcast(envelope.clone()));
        envelope
    }

    pub(super) fn report(&mut self, event: Event) {
        self.outputs.push(Output::Report(event));
    }

    pub(super) fn set_timer(&mut self, id: TimerId, delay_ms: u64) {
        self.outputs.push(Output::SetTimer {
            id,
            at: self.now.after(delay_ms),
        });
    }

    pub(super) fn cancel_timer(&mut self, id: TimerId) {
        self.outputs.push(Output::CancelTimer { id });
    }

    pub(super) fn enter(&mut self, phase: Phase, ends: Option<Millis>) {
        self.round.phase = phase;
        self.round.phase_ends = ends;
        self.progress();
        self.report(Event::PhaseChanged {
            round: self.chain.round(),
            phase,
        });
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("me", &self.me)
            .field("round", &self.chain.round())
            .field("phase", &self.round.phase)
            .finish_non_exhaustive()
    }
}
