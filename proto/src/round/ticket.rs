//! How a newcomer asks for a place.

use crate::envelope::{Kind, Signable};
use crate::ids::{PeerId, RoundNumber, RunId};
use crate::limits;
use crate::message::Standalone;
use crate::schema::message;

/// BLAKE3 context of a ticket's work.
const CONTEXT: &str = "commonweal ticket v2";

message! {
    /// "I want a place." A place is drawn among tickets of earlier rounds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Ticket("ticket", limits::TICKET_BYTES) {
        /// The round in which it was signed. It may be decided in this round or soon after.
        pub round: RoundNumber = 1,
        /// Makes the ticket's hash begin with zeros.
        pub nonce: u64 = 2,
    }
}

impl Standalone for Ticket {}

impl Signable for Ticket {
    const KIND: Kind = Kind::Ticket;
}

impl Ticket {
    /// The number of zero bits with which the hash of run, signer, round and nonce begins.
    pub fn work_bits(&self, run: RunId, signer: PeerId) -> u32 {
        work_bits(&start(run, signer, self.round), self.nonce)
    }

    /// Looks for a ticket with at least `bits` of work among the nonces from `first` on. Takes 2 to
    /// the power of `bits` hashes on average.
    pub fn find(self, run: RunId, signer: PeerId, bits: u32) -> Option<Self> {
        let start = start(run, signer, self.round);
        (self.nonce..=u64::MAX)
            .find(|nonce| work_bits(&start, *nonce) >= bits)
            .map(|nonce| Self { nonce, ..self })
    }
}

fn start(run: RunId, signer: PeerId, round: RoundNumber) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher
        .update(run.as_bytes())
        .update(signer.as_bytes())
        .update(&round.0.to_le_bytes());
    hasher
}

fn work_bits(start: &blake3::Hasher, nonce: u64) -> u32 {
    let mut hasher = start.clone();
    let hash = hasher.update(&nonce.to_le_bytes()).finalize();
    let mut bits = 0;
    for byte in hash.as_bytes() {
        bits += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_bound_to_run_signer_and_round() {
        let (run, signer) = (RunId::from([1; 32]), PeerId::from([2; 32]));
        let from = Ticket {
            round: RoundNumber(7),
            nonce: 0,
        };
        let found = from.find(run, signer, 10).unwrap();
        assert!(found.work_bits(run, signer) >= 10);
        let again = Ticket {
            round: RoundNumber(8),
            ..found
        };
        let elsewhere = [
            again.work_bits(run, signer),
            found.work_bits([3; 32].into(), signer),
            found.work_bits(run, [4; 32].into()),
        ];
        assert!(elsewhere.iter().any(|bits| *bits < 10), "{elsewhere:?}");
    }
}
