//! The write-ahead log's entries. Each is a tag, followed by a message of the schema.
//!
//! | tag | then |
//! |---|---|
//! | 1 | a vote's envelope |
//! | 2 | a proposal's envelope |
//! | 3 | a polka's view certificate |
//! | 4 | a timeout: its kind (0 propose, 1 prevote, 2 precommit), its view as little-endian u32 |
//! | 5 | the length of a proposal as one byte, the proposal, unsigned, and its round set: a value that this node built and was about to propose |

use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types::{Timeout, TimeoutKind, Validity, ValueOrigin};
use weal_proto::{
    Envelope, Message as _, PeerId, Proposal, RoundSet, RunId, View, ViewCertificate, Vote,
};

use super::action::{Message, Proposed};
use super::codec::{self, ViewProof};
use super::context::Agreement;

const VOTE: u8 = 1;
const PROPOSAL: u8 = 2;
const POLKA: u8 = 3;
const TIMEOUT: u8 = 4;
const OWN_VALUE: u8 = 5;

/// The entry for an input; `None` for inputs that Malachite never logs.
pub(super) fn encode(run: RunId, input: &Input<Agreement>) -> Option<Vec<u8>> {
    let tagged = |tag: u8, bytes: Vec<u8>| Some([vec![tag], bytes].concat());
    match input {
        Input::Vote(vote) => tagged(VOTE, codec::vote_envelope(run, vote).encode()),
        Input::Proposal(proposal) => {
            tagged(PROPOSAL, codec::proposal_envelope(run, proposal).encode())
        }
        Input::PolkaCertificate(polka) => tagged(POLKA, codec::polka_out(polka).encode()),
        Input::TimeoutElapsed(timeout) => {
            let kind = match timeout.kind {
                TimeoutKind::Propose => 0,
                TimeoutKind::Prevote => 1,
                TimeoutKind::Precommit => 2,
                TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
            };
            tagged(
                TIMEOUT,
                [
                    vec![kind],
                    codec::view(timeout.round).0.to_le_bytes().to_vec(),
                ]
                .concat(),
            )
        }
        Input::ProposedValue(value, _) => tagged(OWN_VALUE, own_value_out(value)),
        Input::StartHeight(..)
        | Input::Propose(_)
        | Input::RoundCertificate(_)
        | Input::SyncValueResponse(_) => None,
    }
}

/// The input that an entry holds; `None` if the entry is damaged.
pub(super) fn decode(me: PeerId, entry: &[u8]) -> Option<Input<Agreement>> {
    let (tag, bytes) = entry.split_first()?;
    match *tag {
        VOTE => {
            let envelope = Envelope::decode(bytes).ok()?;
            let vote: Vote = envelope.open().ok()?;
            Some(Input::Vote(codec::signed_vote(&envelope, &vote)))
        }
        PROPOSAL => {
            let envelope = Envelope::decode(bytes).ok()?;
            let Message::Proposal(envelope, proposed) = Message::decode(&envelope)? else {
                return None;
            };
            Some(Input::Proposal(codec::signed_proposal(
                &envelope, *proposed,
            )))
        }
        POLKA => match codec::view_proof(&ViewCertificate::decode(bytes).ok()?)? {
            ViewProof::Polka(polka) => Some(Input::PolkaCertificate(polka)),
            ViewProof::Skip(_) => None,
        },
        TIMEOUT => timeout(bytes).map(Input::TimeoutElapsed),
        OWN_VALUE => own_value_in(me, bytes),
        _ => None,
    }
}

fn timeout(bytes: &[u8]) -> Option<Timeout> {
    let (kind, view) = bytes.split_first()?;
    let view = codec::round(View(u32::from_le_bytes(view.try_into().ok()?)));
    match *kind {
        0 => Some(Timeout::propose(view)),
        1 => Some(Timeout::prevote(view)),
        2 => Some(Timeout::precommit(view)),
        _ => None,
    }
}

fn own_value_out(value: &ProposedValue<Agreement>) -> Vec<u8> {
    let proposal = Proposal {
        round: value.height.round(),
        view: codec::view(value.round),
        proof_of_lock: value.valid_round.as_u32().map(View),
        value: value.value.hash,
    };
    let proposal = proposal.encode();
    // A proposal has at most 64 bytes.
    let length = u8::try_from(proposal.len()).unwrap_or(u8::MAX);
    [vec![length], proposal, value.value.set.encode()].concat()
}

fn own_value_in(me: PeerId, bytes: &[u8]) -> Option<Input<Agreement>> {
    let (length, bytes) = bytes.split_first()?;
    let (proposal, set) = bytes.split_at_checked(usize::from(*length))?;
    let proposed = Proposed {
        proposal: Proposal::decode(proposal).ok()?,
        set: RoundSet::decode(set).ok()?,
    };
    let proposal = codec::proposal_in(me, proposed);
    let value = ProposedValue {
        height: proposal.height,
        round: proposal.view,
        valid_round: proposal.proof_of_lock,
        proposer: proposal.proposer,
        value: proposal.value,
        validity: Validity::Valid,
    };
    Some(Input::ProposedValue(value, ValueOrigin::Consensus))
}
