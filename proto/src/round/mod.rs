//! The messages of a round.
//!
//! | file | holds |
//! |---|---|
//! | `commitment` | what a peer commits to before it reveals its contribution |
//! | `attestation` | what a voter found when it examined the contributions |
//! | `leave` | how a peer leaves a run |
//! | `round_set` | what a round decides |
//! | `vote` | proposals and votes |
//! | `certificate` | proofs made of many votes, and decided rounds |

mod attestation;
mod certificate;
mod commitment;
mod leave;
mod round_set;
mod vote;

pub use attestation::{Attestation, Finding, Verdict};
pub use certificate::{Certificate, CommitSignature, Decided, ViewCertificate, ViewSignature};
pub use commitment::Commitment;
pub use leave::Leave;
pub use round_set::{Evidence, RoundSet};
pub use vote::{Proposal, Vote, VoteStep};
