//! One round's agreement: feeding inputs, and replaying the log after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_malachitebft_core_consensus::{
    Input, LocallyProposedValue, Params, State, ThresholdParams, process,
};
use arc_malachitebft_core_types::{Timeout, ValuePayload, VoteExtensionPolicy};
use weal_proto::manifest::Timing;
use weal_proto::{
    Decided, Envelope, PeerId, Proposal, RoundNumber, RoundSet, RunId, Seed, SigningKey, View,
    ViewCertificate, Vote,
};

use super::codec::{self, ViewProof};
use super::context::{Address, Agreement, Height, Value, Voters};
use super::effects::Hands;
use super::log;
use super::timers::{self, Times};
use crate::interface::output::TimerId;
use crate::rules::evidence::Slot;
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;

/// Something the engine wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Append to the round's log, before anything after it is done.
    Log(Vec<u8>),
    /// Send to all.
    Publish(Envelope),
    /// Set a timer.
    SetTimer { id: TimerId, delay_ms: u64 },
    /// Forget a timer.
    CancelTimer(TimerId),
    /// The round is decided.
    Decided(Box<Decided>),
    /// The engine refused; nothing it was about to say was said.
    Fault(String),
}

/// A message for the engine: its signature checked, of this round, from a voter.
#[derive(Debug)]
pub(crate) enum Message {
    /// A valid proposal of its view's proposer.
    Proposal(Envelope, Proposal),
    /// A vote.
    Vote(Envelope, Vote),
    /// A proof that others moved on.
    ViewCertificate(ViewCertificate),
}

/// What an engine is made of.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub run: RunId,
    pub round: RoundNumber,
    pub key: &'a SigningKey,
    pub roster: Roster,
    pub seed: Seed,
    pub timing: &'a Timing,
}

/// Decides one round.
pub(crate) struct Engine {
    state: State<Agreement>,
    hands: Hands,
    decided: bool,
}

impl Engine {
    /// Starts the agreement on a round, from where the log leaves off.
    ///
    /// # Errors
    /// When there are no voters, or the log cannot be read, or does not lead to what it holds: this
    /// peer must then not vote in this round.
    pub fn start(
        setup: Setup<'_>,
        entries: &[Vec<u8>],
        signatures: &mut Signatures,
    ) -> Result<(Self, Vec<Action>), String> {
        let me = setup.key.peer();
        let votes = setup.roster.contains(&me);
        let inputs = read(me, entries)?;
        let height = Height::of(setup.round);
        let voters = Voters::new(Arc::new(setup.roster), setup.seed).ok_or("nobody may vote")?;
        let params = Params {
            address: Address(me),
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalOnly,
            enabled: true,
        };
        let hands = Hands {
            run: setup.run,
            round: setup.round,
            key: setup.key.clone(),
            times: Times::new(setup.timing),
            votes,
            spoken: spoken(me, setup.run, &inputs),
            timers: BTreeMap::new(),
            replaying: (!inputs.is_empty()).then(|| entries.iter().cloned().collect()),
            wanted: None,
            view: None,
            certificate: None,
            actions: Vec::new(),
        };
        // Other heights' messages never get here, so the engine's queue for them stays empty.
        let state = State::new(Agreement, height, voters.clone(), params, 1, 1);
        let mut engine = Self {
            state,
            hands,
            decided: false,
        };
        let start = Input::StartHeight(height, voters, false, None, VoteExtensionPolicy::Disabled);
        engine.feed(start, signatures)?;
        engine.replay(inputs, signatures)?;
        let actions = engine.actions();
        Ok((engine, actions))
    }

    /// The same inputs in the same order lead to the same votes, which are taken from the log with
    /// their signatures.
    fn replay(
        &mut self,
        inputs: Vec<Input<Agreement>>,
        signatures: &mut Signatures,
    ) -> Result<(), String> {
        if inputs.is_empty() {
            return Ok(());
        }
        self.state.index_wal_entries(inputs.iter());
        for input in inputs {
            if let Input::TimeoutElapsed(timeout) = &input {
                self.hands
                    .timers
                    .remove(&timers::timer(self.hands.round, timeout));
            }
            self.feed(input, signatures)?;
        }
        self.state.reset_entries_index();
        self.hands.replaying = None;
        // Only what is left of all the timers set and cancelled on the way matters. And the crash
        // may have come between the log and the wire: what was said is said again.
        self.hands
            .actions
            .retain(|action| matches!(action, Action::Log(_)));
        let timers = self
            .hands
            .timers
            .iter()
            .map(|(id, delay_ms)| Action::SetTimer {
                id: *id,
                delay_ms: *delay_ms,
            });
        self.hands.actions.extend(timers);
        self.hands
            .actions
            .extend(self.hands.spoken.values().cloned().map(Action::Publish));
        Ok(())
    }

    /// Takes a message in.
    pub fn receive(&mut self, message: Message, signatures: &mut Signatures) -> Vec<Action> {
        let input = match message {
            Message::Proposal(envelope, proposal) => {
                Some(Input::Proposal(codec::signed_proposal(&envelope, proposal)))
            }
            Message::Vote(envelope, vote) => {
                Some(Input::Vote(codec::signed_vote(&envelope, &vote)))
            }
            Message::ViewCertificate(certificate) => {
                codec::view_proof(&certificate).map(|proof| match proof {
                    ViewProof::Polka(polka) => Input::PolkaCertificate(polka),
                    ViewProof::Skip(skip) => Input::RoundCertificate(skip),
                })
            }
        };
        self.go_on(input, signatures)
    }

    /// A timer went off. One that was cancelled meanwhile changes nothing.
    pub fn timer_fired(&mut self, timer: TimerId, signatures: &mut Signatures) -> Vec<Action> {
        let set = self.hands.timers.remove(&timer).is_some();
        let timeout: Option<Timeout> = timers::timeout(self.hands.round, timer).filter(|_| set);
        self.go_on(timeout.map(Input::TimeoutElapsed), signatures)
    }

    /// The view this peer is to propose in, as long as it has not.
    pub fn wants_value(&self) -> Option<View> {
        let view = self.hands.wanted?;
        let said = self
            .hands
            .spoken
            .contains_key(&Slot::Proposal(self.hands.round, view));
        (!said && !self.decided).then_some(view)
    }

    /// Proposes a set in the view asked for.
    pub fn propose(
        &mut self,
        view: View,
        set: RoundSet,
        signatures: &mut Signatures,
    ) -> Vec<Action> {
        let value = LocallyProposedValue::new(
            Height::of(self.hands.round),
            codec::round(view),
            Value::new(set),
        );
        self.hands.wanted = None;
        self.go_on(Some(Input::Propose(value)), signatures)
    }

    /// The current view and its proposer.
    pub const fn view(&self) -> Option<(View, PeerId)> {
        self.hands.view
    }

    /// Forgets all timers: the round was decided elsewhere.
    pub fn stop(&mut self) -> Vec<Action> {
        self.decided = true;
        self.hands.cancel_all();
        std::mem::take(&mut self.hands.actions)
    }

    fn go_on(
        &mut self,
        input: Option<Input<Agreement>>,
        signatures: &mut Signatures,
    ) -> Vec<Action> {
        if let Some(input) = input.filter(|_| !self.decided)
            && let Err(cause) = self.feed(input, signatures)
        {
            self.hands.actions.push(Action::Fault(cause));
        }
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        if let Some(decided) = self.decision() {
            self.decided = true;
            self.hands.cancel_all();
            self.hands.actions.push(Action::Decided(Box::new(decided)));
        }
        std::mem::take(&mut self.hands.actions)
    }

    fn decision(&self) -> Option<Decided> {
        let certificate = self.hands.certificate.as_ref().filter(|_| !self.decided)?;
        let (_, value) = self.state.decided_value()?;
        Some(Decided {
            value: codec::into_set(value),
            certificate: codec::certificate_out(certificate),
        })
    }

    fn feed(&mut self, input: Input<Agreement>, signatures: &mut Signatures) -> Result<(), String> {
        let (state, hands) = (&mut self.state, &mut self.hands);
        let mut refused = None;
        // The macro goes on after an error of ours as if nothing had been; a signature that is
        // missing then makes the engine stop. The error itself would only be logged, so it is kept.
        let result: Result<(), arc_malachitebft_core_consensus::Error<Agreement>> = process!(
            input: input,
            state: state,
            metrics: &(),
            with: effect => hands.carry_out(effect, signatures).inspect_err(|refusal| refused = Some(refusal.to_string()))
        );
        match refused {
            Some(refusal) => Err(refusal),
            None => result.map_err(|error| error.to_string()),
        }
    }
}

fn read(me: PeerId, entries: &[Vec<u8>]) -> Result<Vec<Input<Agreement>>, String> {
    entries
        .iter()
        .enumerate()
        .map(|(place, entry)| {
            log::decode(me, entry).ok_or_else(|| format!("entry {place} of the log cannot be read"))
        })
        .collect()
}

/// What the log holds of this peer's own words.
fn spoken(me: PeerId, run: RunId, inputs: &[Input<Agreement>]) -> BTreeMap<Slot, Envelope> {
    let own = inputs.iter().filter_map(|input| match input {
        Input::Vote(vote) if vote.message.voter.0 == me => {
            let message = codec::vote_out(&vote.message);
            Some((
                Slot::Vote(message.round, message.view, message.step),
                codec::vote_envelope(run, vote),
            ))
        }
        Input::Proposal(proposal) if proposal.message.proposer.0 == me => {
            let slot = Slot::Proposal(
                proposal.message.height.round(),
                codec::view(proposal.message.view),
            );
            Some((slot, codec::proposal_envelope(run, proposal)))
        }
        _ => None,
    });
    own.collect()
}
