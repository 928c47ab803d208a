//! The agreement on one round: feeding inputs, and replaying the log after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_malachitebft_core_consensus::{
    Input, LocallyProposedValue, Params, State, ThresholdParams, process,
};
use arc_malachitebft_core_types::{Timeout, ValuePayload, VoteExtensionPolicy};
use weal_proto::manifest::Timing;
use weal_proto::{Decided, Envelope, PeerId, RoundNumber, RoundSet, RunId, SigningKey, View};

use super::action::{Action, Message};
use super::codec::{self, ViewProof};
use super::context::{Address, Agreement, Height, Value, Voters};
use super::effects::EffectHandler;
use super::log;
use super::timeouts::{self, Timeouts};
use crate::interface::names::TimerId;
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;
use crate::rules::slot::Slot;

/// What an engine needs to start.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub run: RunId,
    pub round: RoundNumber,
    pub key: &'a SigningKey,
    pub roster: Roster,
    pub timing: &'a Timing,
}

/// Decides one round, together with the other voters' engines.
pub(crate) struct Engine {
    state: State<Agreement>,
    effects: EffectHandler,
    decided: bool,
}

impl Engine {
    /// Starts the agreement on a round. If the log has entries, it continues where they end.
    ///
    /// # Errors
    /// When nobody may vote, the log is damaged, or replaying it does not reproduce what it holds.
    /// This node must then not vote in the round.
    pub(crate) fn start(
        setup: Setup<'_>,
        entries: &[Vec<u8>],
        signatures: &mut Signatures,
    ) -> Result<(Self, Vec<Action>), String> {
        let me = setup.key.peer();
        let votes = setup.roster.contains(&me);
        let inputs = decode_log(me, entries)?;
        let height = Height::of(setup.round);
        let roster = Arc::new(setup.roster);
        let voters = Voters::new(Arc::clone(&roster)).ok_or("nobody may vote")?;
        let params = Params {
            address: Address(me),
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalOnly,
            enabled: true,
        };
        let effects = EffectHandler {
            run: setup.run,
            round: setup.round,
            key: setup.key.clone(),
            timeouts: Timeouts::new(setup.timing),
            votes,
            signed: already_signed(me, setup.run, &inputs),
            timers: BTreeMap::new(),
            replaying: (!inputs.is_empty()).then(|| entries.iter().cloned().collect()),
            roster,
            must_propose_in: None,
            view: None,
            repeats: 0,
            certificate: None,
            actions: Vec::new(),
        };
        // Messages of other heights never get here, so Malachite's queue for them stays empty.
        let state = State::new(Agreement, height, voters.clone(), params, 1, 1);
        let mut engine = Self {
            state,
            effects,
            decided: false,
        };
        let start = Input::StartHeight(height, voters, false, None, VoteExtensionPolicy::Disabled);
        engine.feed(start, signatures)?;
        engine.replay(inputs, signatures)?;
        let actions = engine.actions();
        Ok((engine, actions))
    }

    /// Feeds the log's inputs. The same inputs in the same order lead to the same votes; the log
    /// holds their signatures.
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
                self.effects
                    .timers
                    .remove(&timeouts::timer(self.effects.round, timeout));
            }
            self.feed(input, signatures)?;
        }
        self.state.reset_entries_index();
        self.effects.replaying = None;
        // Of all timers set and cancelled during the replay, only those still set matter. And the
        // crash may have come between logging a message and sending it, so send all of them again.
        self.effects
            .actions
            .retain(|action| matches!(action, Action::Log(_)));
        let timers = self
            .effects
            .timers
            .iter()
            .map(|(id, delay_ms)| Action::SetTimer {
                id: *id,
                delay_ms: *delay_ms,
            });
        self.effects.actions.extend(timers);
        self.effects
            .actions
            .extend(self.effects.signed.values().cloned().map(Action::Publish));
        Ok(())
    }

    /// Processes a message.
    pub(crate) fn receive(&mut self, message: Message, signatures: &mut Signatures) -> Vec<Action> {
        let input = match message {
            Message::Proposal(envelope, proposed) => Some(Input::Proposal(codec::signed_proposal(
                &envelope, *proposed,
            ))),
            Message::Vote(envelope, vote) => {
                Some(Input::Vote(codec::signed_vote(&envelope, &vote)))
            }
            Message::ViewCertificate(_, certificate) => {
                codec::view_proof(&certificate).map(|proof| match proof {
                    ViewProof::Polka(polka) => Input::PolkaCertificate(polka),
                    ViewProof::Skip(skip) => Input::RoundCertificate(skip),
                })
            }
        };
        self.process(input, signatures)
    }

    /// Processes a timer. One that was cancelled in the meantime has no effect.
    pub(crate) fn timer_fired(
        &mut self,
        timer: TimerId,
        signatures: &mut Signatures,
    ) -> Vec<Action> {
        let set = self.effects.timers.remove(&timer).is_some();
        let timeout: Option<Timeout> = timeouts::timeout(self.effects.round, timer).filter(|_| set);
        self.process(timeout.map(Input::TimeoutElapsed), signatures)
    }

    /// The view that waits for a proposal of this node, if there is one.
    pub(crate) fn must_propose_in(&self) -> Option<View> {
        let view = self.effects.must_propose_in?;
        let has_proposed = self
            .effects
            .signed
            .contains_key(&Slot::Proposal(self.effects.round, view));
        (!has_proposed && !self.decided).then_some(view)
    }

    /// Proposes a set in the view that [`must_propose_in`](Self::must_propose_in) named.
    pub(crate) fn propose(
        &mut self,
        view: View,
        set: RoundSet,
        signatures: &mut Signatures,
    ) -> Vec<Action> {
        let value = LocallyProposedValue::new(
            Height::of(self.effects.round),
            codec::round(view),
            Value::new(set),
        );
        self.effects.must_propose_in = None;
        self.process(Some(Input::Propose(value)), signatures)
    }

    /// The current view and its proposer.
    pub(crate) const fn view(&self) -> Option<(View, PeerId)> {
        self.effects.view
    }

    /// Cancels all timers and ignores everything from now on: this node learnt the decision from
    /// peers, or must not vote.
    pub(crate) fn stop(&mut self) -> Vec<Action> {
        self.decided = true;
        self.effects.cancel_all();
        std::mem::take(&mut self.effects.actions)
    }

    fn process(
        &mut self,
        input: Option<Input<Agreement>>,
        signatures: &mut Signatures,
    ) -> Vec<Action> {
        if let Some(input) = input.filter(|_| !self.decided)
            && let Err(cause) = self.feed(input, signatures)
        {
            self.effects.actions.push(Action::Fault(cause));
        }
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        if let Some(decided) = self.decision() {
            self.decided = true;
            self.effects.cancel_all();
            self.effects
                .actions
                .push(Action::Decided(Box::new(decided)));
        }
        std::mem::take(&mut self.effects.actions)
    }

    fn decision(&self) -> Option<Decided> {
        let certificate = self
            .effects
            .certificate
            .as_ref()
            .filter(|_| !self.decided)?;
        let (_, value) = self.state.decided_value()?;
        Some(Decided {
            value: codec::into_set(value),
            certificate: codec::certificate_out(certificate),
        })
    }

    fn feed(&mut self, input: Input<Agreement>, signatures: &mut Signatures) -> Result<(), String> {
        let (state, effects) = (&mut self.state, &mut self.effects);
        let mut refused = None;
        // After an error of ours, the macro continues without the effect's result, and Malachite
        // stops at the missing signature. The macro only logs our error, so keep it here.
        let result: Result<(), arc_malachitebft_core_consensus::Error<Agreement>> = process!(
            input: input,
            state: state,
            metrics: &(),
            with: effect => effects
                .carry_out(effect, signatures)
                .inspect_err(|refusal| refused = Some(refusal.to_string()))
        );
        match refused {
            Some(refusal) => Err(refusal),
            None => result.map_err(|error| error.to_string()),
        }
    }
}

fn decode_log(me: PeerId, entries: &[Vec<u8>]) -> Result<Vec<Input<Agreement>>, String> {
    entries
        .iter()
        .enumerate()
        .map(|(place, entry)| {
            log::decode(me, entry)
                .ok_or_else(|| format!("entry {place} of the write-ahead log is damaged"))
        })
        .collect()
}

/// What this node has signed, as the log holds it.
fn already_signed(me: PeerId, run: RunId, inputs: &[Input<Agreement>]) -> BTreeMap<Slot, Envelope> {
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
