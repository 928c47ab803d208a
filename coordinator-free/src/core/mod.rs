//! The state machine: takes what happened, says what must be done about it.
//!
//! | file | holds |
//! |---|---|
//! | `receive` | messages from strangers: what is dropped, and why |
//! | `round` | what is known of the running round |
//! | `early` | messages of the round after it |
//! | `expected` | who is waited for |
//! | `commit`, `fetch`, `attest`, `decide` | the phases of a round |
//! | `root_mismatch` | our weights differ from our peers' |
//! | `history` | adopting decisions, bringing the weights up to them |
//! | `liveness` | noticing that nothing moves, and asking around |
//! | `query` | what others may look at |

mod attest;
mod commit;
mod decide;
mod early;
mod expected;
mod fetch;
mod history;
mod liveness;
mod query;
mod receive;
mod root_mismatch;
mod round;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{
    Decided, Envelope, Evidence, Leave, PeerId, RoundNumber, Signable, SigningKey, StateRoot,
};

use crate::agreement::Engine;
use crate::interface::error::Error;
use crate::interface::event::Event;
use crate::interface::input::Input;
use crate::interface::output::{Apply, Output, Record, TimerId};
use crate::interface::time::Millis;
use crate::interface::view::Phase;
use crate::rules::chain::Chain;
use crate::rules::signatures::{CheckSignature, Ed25519, Signatures};

use early::Early;
use expected::Knocks;
use history::Weights;
use liveness::Liveness;
use round::Round;

/// What a core is made of.
#[derive(Clone)]
pub struct Config {
    /// This peer's key. No other machine may use it: two that do will contradict each other, and be
    /// banned.
    pub key: SigningKey,
    /// How signatures are checked.
    pub checker: Arc<dyn CheckSignature>,
}

impl Config {
    /// A core with this key, that checks signatures itself.
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

/// What an earlier life of this peer left on disk.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The decided history.
    pub chain: Chain,
    /// Decided rounds from the one whose starting weights are on disk, to be applied again.
    pub unapplied: Vec<Decided>,
    /// Records in the order they were persisted. Those of decided rounds may be left out.
    pub records: Vec<Record>,
}

impl Recovered {
    /// A first life.
    pub fn nothing(manifest: Arc<Manifest>) -> Self {
        Self {
            chain: Chain::genesis(manifest),
            unapplied: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Goes through the decided rounds on disk, which are trusted: they were verified before they
    /// were stored.
    ///
    /// # Arguments
    /// * `decided` – every decided round from round 0, in order
    /// * `weights` – the round at whose start the weights on disk are
    /// * `records` – all other records, in the order they were persisted
    ///
    /// # Errors
    /// [`Error::Gap`] when a round is missing.
    pub fn from_decided(
        manifest: Arc<Manifest>,
        decided: impl IntoIterator<Item = Decided>,
        weights: RoundNumber,
        records: Vec<Record>,
    ) -> Result<Self, Error> {
        let mut recovered = Self {
            records,
            ..Self::nothing(manifest)
        };
        for decided in decided {
            let found = decided.value.round;
            let expected = recovered.chain.round();
            recovered
                .chain
                .extend_trusting(&decided.value)
                .map_err(|_| Error::Gap { found, expected })?;
            if found >= weights {
                recovered.unapplied.push(decided);
            }
        }
        Ok(recovered)
    }
}

/// The rules of one run, as one peer follows them.
pub struct Core {
    key: SigningKey,
    me: PeerId,
    signatures: Signatures,
    chain: Chain,
    /// The newest weights in memory.
    weights: Option<Weights>,
    /// Decided rounds not yet applied.
    plans: BTreeMap<RoundNumber, Apply>,
    /// The caller is busy bringing the weights forward.
    applying: bool,
    /// The weights that are being fetched, or are to be.
    wanted: Option<(RoundNumber, StateRoot)>,
    round: Round,
    /// The agreement on the round, once it has begun.
    engine: Option<Engine>,
    /// What the agreement's log held when this life began; only of the running round.
    log: Vec<Vec<u8>>,
    early: Early,
    knocks: Knocks,
    leaves: BTreeMap<PeerId, Envelope>,
    evidence: BTreeMap<PeerId, Evidence>,
    liveness: Liveness,
    leaving: bool,
    now: Millis,
    outputs: Vec<Output>,
}

impl Core {
    /// A core that goes on from where an earlier life left off.
    ///
    /// # Errors
    /// When nobody may vote, or the unapplied rounds are not the last decided ones.
    pub fn new(config: Config, recovered: Recovered) -> Result<Self, Error> {
        let Recovered {
            chain,
            unapplied,
            records,
        } = recovered;
        if chain.ledger().roster().is_empty() {
            return Err(Error::NoVoters);
        }
        let me = config.key.peer();
        let mut core = Self {
            key: config.key,
            me,
            signatures: Signatures::new(chain.run(), config.checker),
            plans: history::plans(&chain, &unapplied)?,
            chain,
            weights: None,
            applying: false,
            wanted: None,
            round: Round::default(),
            engine: None,
            log: Vec::new(),
            early: Early::default(),
            knocks: Knocks::default(),
            leaves: BTreeMap::new(),
            evidence: BTreeMap::new(),
            liveness: Liveness::default(),
            leaving: false,
            now: Millis::default(),
            outputs: Vec::new(),
        };
        core.recover(records);
        Ok(core)
    }

    /// Takes in what happened at this instant, and says what must be done about it, in this order.
    ///
    /// Nothing that a peer can send makes this panic; what is wrong with its messages is reported
    /// as [`Event::Dropped`].
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Start => self.start(),
            Input::WeightsReady { round, root } => self.weights_ready(round, root),
            Input::ApplyFailed { round } => self.apply_failed(round),
            Input::Trained {
                round,
                blob,
                blob_bytes,
                samples,
            } => self.trained(round, blob, blob_bytes, samples),
            Input::TrainingFailed { round } => self.training_failed(round),
            Input::Received { id, envelope } => self.received(id, envelope),
            Input::Validated {
                commitment,
                verdict,
            } => self.validated(commitment, verdict),
            Input::Synced(decided) => self.synced(decided),
            Input::PeerStatus { peer: _, status } => self.peer_status(&status),
            Input::TimerFired(timer) => self.timer_fired(timer),
            Input::Leave => self.leave(),
        }
        self.advance();
        std::mem::take(&mut self.outputs)
    }

    /// Takes up the records of the running round: what was said there must not be said otherwise.
    fn recover(&mut self, records: Vec<Record>) {
        let current = self.chain.round();
        for record in records {
            match record {
                Record::OwnCommitment(envelope) => self.round.restore_commitment(current, envelope),
                Record::OwnAttestation(envelope) => {
                    self.round.restore_attestation(current, envelope)
                }
                Record::AgreementLog { round, bytes } if round == current => self.log.push(bytes),
                Record::AgreementLog { .. } | Record::Decided(_) | Record::OwnLeave(_) => {}
            }
        }
    }

    fn start(&mut self) {
        self.set_timer(TimerId::Nudge, liveness::NUDGE_MS);
        self.request_decided();
        if !self.log.is_empty() {
            self.begin_agreement();
        }
    }

    /// Goes as far as what is known allows. Each step of this loop enters a later phase or a later
    /// round.
    fn advance(&mut self) {
        while self.advance_phase() || self.may_begin_agreement() {
            if self.may_begin_agreement() {
                self.begin_agreement();
            }
        }
        self.propose_if_wanted();
    }

    fn advance_phase(&mut self) -> bool {
        match self.round.phase {
            Phase::Waiting => self.begin_round(),
            Phase::Committing => self.close_commits_if_complete(),
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
            TimerId::AttestClose(round) if round == current => self.round.attest_time_is_up = true,
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
        let envelope = self.sign(&Leave {
            round: self.chain.round(),
        });
        self.leaves.insert(self.me, envelope.clone());
        self.outputs
            .push(Output::Persist(Record::OwnLeave(envelope.clone())));
        self.outputs.push(Output::Broadcast(envelope));
        self.stop_training();
    }

    fn own_root(&self) -> Option<StateRoot> {
        self.weights
            .filter(|weights| weights.round == self.chain.round())
            .map(|weights| weights.root)
    }

    fn sign<M: Signable>(&self, message: &M) -> Envelope {
        Envelope::sign(&self.key, self.chain.run(), message)
    }

    fn report(&mut self, event: Event) {
        self.outputs.push(Output::Report(event));
    }

    fn set_timer(&mut self, id: TimerId, delay_ms: u64) {
        self.outputs.push(Output::SetTimer {
            id,
            at: self.now.after(delay_ms),
        });
    }

    fn cancel_timer(&mut self, id: TimerId) {
        self.outputs.push(Output::CancelTimer { id });
    }

    fn enter(&mut self, phase: Phase, ends: Option<Millis>) {
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
