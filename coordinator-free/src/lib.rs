//! The rules of a run as a pure state machine, and a seeded simulator that drives many of them.
//!
//! [`Core::step`] takes what happened and says what must be done about it. It has no clock, no
//! socket, no disk and no thread: time comes in as [`Millis`], messages as [`Input::Received`], and
//! what must survive a crash goes out as [`Output::Persist`]. So the same core runs under a network
//! and under the simulator, and the same inputs always lead to the same outputs.
//!
//! Every message is taken for an attack until it is shown not to be: it is dropped, with its
//! [`DropCause`], when it is of another run, unsigned, oversized, out of its round, said twice, or
//! not its signer's to say. What is stored of strangers is bounded.
//!
//! # A round
//!
//! 1. The weights at its start are ready: [`Output::Train`].
//! 2. Training is done: the commitment is signed, persisted, and sent.
//! 3. All expected peers have committed, or time is up: own blob is revealed, the others' are
//!    fetched and examined.
//! 4. All are examined, or time is up: the attestation is signed, persisted, and sent.
//! 5. More than two thirds of the weight attested: a proposer builds the round set, and Tendermint
//!    decides.
//! 6. The decision is persisted and applied; ledger, roster and seed of the next round follow from
//!    it alone.
//!
//! | folder | holds |
//! |---|---|
//! | [`interface`] | what goes in and what comes out |
//! | [`core`] | the state machine: dispatch, and one file a concern below it |
//! | [`rules`] | decided history and what follows from it: ledger, roster, beacon, round sets |
//! | `agreement` | Tendermint, through a published engine |
//! | [`sim`] | many cores in virtual time, with loss, crashes and liars |
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod agreement;
pub mod core;
pub mod interface;
pub mod rules;
pub mod sim;
#[cfg(test)]
mod testing;

pub use crate::core::{Config, Core, Recovered};
pub use interface::error::Error;
pub use interface::event::{DropCause, Event};
pub use interface::input::{Input, MessageId};
pub use interface::output::{Acceptance, Apply, Chosen, Fetch, Output, Record, TimerId};
pub use interface::time::Millis;
pub use interface::view::{CoreView, PeerView, Phase};
pub use rules::chain::Chain;
