//! How a peer leaves a run.

use crate::envelope::{Kind, Signable};
use crate::ids::RoundNumber;
use crate::limits;
use crate::message::Standalone;
use crate::schema::message;

message! {
    /// "Do not wait for me from this round on."
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Leave("leave", limits::LEAVE_BYTES) {
        /// The first round without this peer.
        pub round: RoundNumber = 1,
    }
}

impl Standalone for Leave {}

impl Signable for Leave {
    const KIND: Kind = Kind::Leave;
}
