//! Our round sets, votes and voters as Malachite's types.

use std::fmt;
use std::sync::Arc;

use arc_malachitebft_core_types as malachite;
use malachite::{NilOrVal, Round, SignedExtension, VoteType};
use weal_proto::{PeerId, RoundNumber, RoundSet, RoundSetHash, Signature, View};

use crate::rules::roster::Roster;

/// Names our types to Malachite.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Agreement;

/// A round's number plus one: Malachite's heights start at 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Height(pub u64);

impl Height {
    pub(super) const fn of(round: RoundNumber) -> Self {
        Self(round.0.saturating_add(1))
    }

    pub(super) const fn round(self) -> RoundNumber {
        RoundNumber(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A voter's address: its peer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address(pub PeerId);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl malachite::Address for Address {}

/// What votes refer to: a round set's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ValueId(pub RoundSetHash);

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

/// A round set and its hash.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub hash: RoundSetHash,
    pub set: Arc<RoundSet>,
}

impl Value {
    pub(super) fn new(set: RoundSet) -> Self {
        Self {
            hash: set.hash(),
            set: Arc::new(set),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.hash.cmp(&other.hash)
    }
}

impl malachite::Value for Value {
    type Id = ValueId;

    fn id(&self) -> ValueId {
        ValueId(self.hash)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposal {
    pub height: Height,
    pub view: Round,
    pub value: Value,
    pub proof_of_lock: Round,
    pub proposer: Address,
}

impl malachite::Proposal<Agreement> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.view
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.proof_of_lock
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// Our proposals have no parts: each travels in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoPart;

impl malachite::ProposalPart<Agreement> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vote {
    pub height: Height,
    pub view: Round,
    pub step: VoteType,
    pub value: NilOrVal<ValueId>,
    pub voter: Address,
}

impl malachite::Vote<Agreement> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.view
    }

    fn value(&self) -> &NilOrVal<ValueId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<ValueId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.step
    }

    fn validator_address(&self) -> &Address {
        &self.voter
    }

    fn extension(&self) -> Option<&SignedExtension<Agreement>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Agreement>> {
        None
    }

    fn extend(self, _: SignedExtension<Agreement>) -> Self {
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voter {
    pub address: Address,
    pub weight: u64,
}

impl malachite::Validator<Agreement> for Voter {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PeerId {
        &self.address.0
    }

    fn voting_power(&self) -> u64 {
        self.weight
    }
}

/// The voters of a round: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voters {
    first: Voter,
    others: Vec<Voter>,
    roster: Arc<Roster>,
}

impl Voters {
    /// `None` if nobody may vote: Malachite would accept an empty set, and never decide anything.
    pub(super) fn new(roster: Arc<Roster>) -> Option<Self> {
        let mut voters = roster.iter().map(|(peer, weight)| Voter {
            address: Address(peer),
            weight,
        });
        let first = voters.next()?;
        let others = voters.collect();
        Some(Self {
            first,
            others,
            roster,
        })
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    fn proposer(&self, view: Round) -> &Voter {
        view.as_u32()
            .and_then(|view| self.roster.proposer(View(view)))
            .and_then(|peer| malachite::ValidatorSet::get_by_address(self, &Address(peer)))
            .unwrap_or(&self.first)
    }
}

impl malachite::ValidatorSet<Agreement> for Voters {
    fn count(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    fn total_voting_power(&self) -> u64 {
        self.roster.total().0
    }

    fn get_by_address(&self, address: &Address) -> Option<&Voter> {
        if self.first.address == *address {
            return Some(&self.first);
        }
        let place = self
            .others
            .binary_search_by_key(address, |voter| voter.address)
            .ok()?;
        self.others.get(place)
    }

    fn get_by_index(&self, index: usize) -> Option<&Voter> {
        match index.checked_sub(1) {
            None => Some(&self.first),
            Some(index) => self.others.get(index),
        }
    }
}

/// Malachite passes signatures along. Our code makes and checks them, on envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvelopeSignatures;

/// Malachite never decodes keys or signatures here.
#[derive(Debug)]
pub(super) struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong length")
    }
}

impl malachite::SigningScheme for EnvelopeSignatures {
    type DecodingError = WrongLength;
    type Signature = Signature;
    type PublicKey = PeerId;
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, WrongLength> {
        bytes.try_into().map(Signature).map_err(|_| WrongLength)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PeerId, WrongLength> {
        <[u8; 32]>::try_from(bytes)
            .map(PeerId::from)
            .map_err(|_| WrongLength)
    }

    fn encode_public_key(peer: &PeerId) -> Vec<u8> {
        peer.as_bytes().to_vec()
    }
}

impl malachite::Context for Agreement {
    type Address = Address;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Voter;
    type ValidatorSet = Voters;
    type Timeouts = malachite::LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = EnvelopeSignatures;

    fn select_proposer<'a>(&self, voters: &'a Voters, _: Height, view: Round) -> &'a Voter {
        voters.proposer(view)
    }

    fn new_proposal(
        &self,
        height: Height,
        view: Round,
        value: Value,
        proof_of_lock: Round,
        proposer: Address,
    ) -> Proposal {
        Proposal {
            height,
            view,
            value,
            proof_of_lock,
            proposer,
        }
    }

    fn new_prevote(
        &self,
        height: Height,
        view: Round,
        value: NilOrVal<ValueId>,
        voter: Address,
    ) -> Vote {
        Vote {
            height,
            view,
            step: VoteType::Prevote,
            value,
            voter,
        }
    }

    fn new_precommit(
        &self,
        height: Height,
        view: Round,
        value: NilOrVal<ValueId>,
        voter: Address,
    ) -> Vote {
        Vote {
            height,
            view,
            step: VoteType::Precommit,
            value,
            voter,
        }
    }
}
