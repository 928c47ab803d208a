//! How operators go on when voters with a third of the weight or more are gone for ever.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{PeerId, RoundNumber, RoundSetHash, StateRoot};
use crate::limits;
use crate::message::Standalone;
use crate::schema::{message, rising};

message! {
    /// "These voters are gone for ever; go on without them." Signed at an operator's command.
    ///
    /// Voters with more than half of the weight, none of them gone, decide a round with it that
    /// changes nothing but the roster.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Recovery("recovery", limits::RECOVERY_BYTES, sorted) {
        /// The round that cannot be decided.
        pub round: RoundNumber = 1,
        /// Hash of the last decided round set.
        pub parent: RoundSetHash = 2,
        /// State root of the weights at the start of the round.
        pub base_root: StateRoot = 3,
        /// The voters that are gone, strictly rising.
        pub gone: Vec<PeerId> = 4[limits::VOTERS],
    }
}

fn sorted(recovery: &Recovery) -> Result<(), DecodeError> {
    rising("Recovery.gone", &recovery.gone, |peer| *peer)
}

impl Standalone for Recovery {}

impl Signable for Recovery {
    const KIND: Kind = Kind::Recovery;
}
