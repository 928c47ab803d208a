//! Tendermint: how voters agree on one set for a round.
//!
//! The state machine is the crate `arc-malachitebft-core-consensus`. Only this module knows it: the
//! rest of our crate sees an [`Engine`], which takes [signed messages](Message) and timeouts and
//! returns [`Action`]s. One engine decides one round. What Malachite calls a height is our round
//! plus one; what it calls a round is our [view](weal_proto::View).
//!
//! | file | holds |
//! |---|---|
//! | `action` | what passes between the rules and the engine |
//! | `engine` | feeding inputs, replaying the log after a crash |
//! | `effects` | carrying out what Malachite asks for |
//! | `context` | our round sets, votes and voters as Malachite's types |
//! | `codec` | converting between Malachite's messages and signed envelopes |
//! | `log` | the write-ahead log's entries |
//! | `timeouts` | how long each step may take |
//! | `verify` | checking the votes in certificates |

mod action;
mod codec;
mod context;
mod effects;
mod engine;
mod log;
mod timeouts;
mod verify;

pub(crate) use action::{Action, Message, Proposed};
pub(crate) use engine::{Engine, Setup};
pub(crate) use verify::proves;

/// The core accepts proposals and votes of this many views ahead. Malachite has the same bound.
pub(crate) const VIEWS_AHEAD: u32 = 10;
/// No round reaches this many views: that would take weeks.
pub(crate) const MOST_VIEWS: u32 = 1 << 16;
/// The core keeps messages of this many past views. Certificates prove the outcome of older ones.
pub(crate) const VIEWS_BACK: u32 = 10;
