//! The rules of a run as a pure state machine, and a seeded simulator that drives many of them.
//!
//! [`Core::step`] takes what happened and returns what to do about it. It has no clock, no socket,
//! no disk and no thread: time comes in as [`Millis`], messages come in as [`Input::Received`], and
//! what must survive a crash goes out as [`Output::Persist`]. So the same core runs under a network
//! and under the simulator, and the same inputs always lead to the same outputs.
//!
//! The core treats every message as an attack until it has checked it. It drops messages that are
//! of another run, forged, oversized, malformed, out of their round, repeated, or not their
//! signer's to send, and reports the [`DropCause`]. What it keeps of strangers is bounded.
//!
//! # A round
//!
//! 1. The weights at the round's start are in memory. The core asks for training:
//!    [`Output::Train`].
//! 2. Training ends. The core signs, persists and sends a commitment to the contribution.
//! 3. All expected peers have committed, or time is up. The core reveals its own contribution, and
//!    asks to fetch and examine the others'.
//! 4. All contributions are examined, or time is up. The core signs, persists and sends its
//!    attestation.
//! 5. Members with more than two thirds of the weight have attested. A proposer builds a round set,
//!    and the voters decide by Tendermint.
//! 6. The core persists the decision and asks to apply it. The next round's ledger, roster and seed
//!    follow from the decision alone.
//!
//! | folder | holds |
//! |---|---|
//! | `interface` | what goes in and what comes out |
//! | `core` | the state machine |
//! | `rules` | decided history and what follows from it: ledger, roster, seed, round sets |
//! | `agreement` | Tendermint, through a published engine |
//! | `host` | what every host of a core needs beside it: the daemon and the simulator share it |
//! | `sim` | many cores in virtual time, with loss, crashes and liars (feature `sim`) |
#![forbid(unsafe_code)]
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
mod core;
pub mod host;
mod interface;
mod rules;
#[cfg(feature = "sim")]
pub mod sim;

pub use crate::core::{Config, Core, Recovered};
pub use interface::error::Error;
pub use interface::event::{DropCause, Event};
pub use interface::input::{Input, Signal};
pub use interface::names::TimerId;
pub use interface::output::{
    Acceptance, Apply, Candidate, Chosen, Conflict, Fetch, Judge, Judged, Output, Record,
};
pub use interface::share::Share;
pub use interface::time::Millis;
pub use interface::view::{CoreView, PeerView, Phase};
pub use rules::chain::Chain;
pub use rules::history::History;
pub use rules::invalid::Invalid;
pub use rules::ledger::{Account, Ledger};
pub use rules::places::Places;
pub use rules::roster::Roster;
pub use rules::signatures::{CheckSignature, Ed25519};
pub use rules::slot::Slot;
pub use rules::verified::Verified;
