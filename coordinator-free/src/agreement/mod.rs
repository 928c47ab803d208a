//! Tendermint: how voters agree on one set for a round.
//!
//! The state machine is `arc-malachitebft-core-consensus`. Only this module knows of it: the rest
//! of the crate sees an [`Engine`] that takes [signed messages](Message) and timeouts, and gives
//! back [`Action`]s. One engine decides one round: its height is the round plus one, its rounds are
//! our [views](weal_proto::View).
//!
//! | file | holds |
//! |---|---|
//! | `context` | our round sets, votes and voters as the engine's types |
//! | `codec` | between the engine's messages and signed envelopes |
//! | `engine` | feeding inputs, replaying the log after a crash |
//! | `effects` | carrying out what the engine asks for |
//! | `log` | the write-ahead log's entries |
//! | `timers` | how long it waits for what |
//! | `verify` | votes in certificates |

mod codec;
mod context;
mod effects;
mod engine;
mod log;
mod timers;
mod verify;

pub(crate) use engine::{Action, Engine, Message, Setup};

/// Views ahead of the current one whose messages are taken. The engine has the same bound.
pub(crate) const VIEWS_AHEAD: u32 = 10;
/// Views back whose messages are kept. What came of older ones, their certificates prove.
pub(crate) const VIEWS_BACK: u32 = 10;
