//! How a voter says that its commit phase is over.

use crate::envelope::{Kind, Signable};
use crate::ids::RoundNumber;
use crate::limits;
use crate::message::Standalone;
use crate::schema::message;

message! {
    /// "My commit phase is over: whatever is committed to from now on is late."
    ///
    /// Contributions are revealed once voters with more than two thirds of the weight have said so.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Closed("closed", limits::CLOSED_BYTES) {
        /// The running round.
        pub round: RoundNumber = 1,
    }
}

impl Standalone for Closed {}

impl Signable for Closed {
    const KIND: Kind = Kind::Closed;
}
