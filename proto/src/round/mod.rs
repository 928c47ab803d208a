//! The messages of a round.
//!
//! | file | holds |
//! |---|---|
//! | `ticket` | how a newcomer asks for a place |
//! | `commitment` | what a peer commits to before it reveals its contribution |
//! | `closed` | how a voter says that its commit phase is over |
//! | `attestation`, `places` | what a member found when it examined the contributions |
//! | `leave` | how a peer leaves a run |
//! | `round_set` | what a round decides |
//! | `vote` | proposals and votes |
//! | `certificate` | proofs made of many votes, and decided rounds |
//! | `recovery` | how operators go on without voters that are gone for ever |

mod attestation;
mod certificate;
mod closed;
mod commitment;
mod leave;
mod places;
mod recovery;
mod round_set;
mod ticket;
mod vote;

pub use attestation::{Attestation, Refusal, Score, Verdict};
pub use certificate::{Certificate, CommitSignature, Decided, ViewCertificate, ViewSignature};
pub use closed::Closed;
pub use commitment::{Commitment, SampleSpan};
pub use leave::Leave;
pub use places::{ListHash, PlaceSet};
pub use recovery::Recovery;
pub use round_set::{Difference, Evidence, Named, RoundSet};
pub use ticket::Ticket;
pub use vote::{Proposal, Vote, VoteStep};
