//! The daemon: an event loop of I/O around the pure core.
//!
//! One task owns everything that changes ([`Daemon`]) and does one thing at a time: it takes an
//! event, steps the core, and carries out the core's outputs in their order. Whatever takes long
//! runs elsewhere and comes back as an event: training on the learner's thread, jobs on tokio's
//! threads, the network in its own task.
//!
//! ```text
//!   network events ─┐                      ┌─► store (before anything else)
//!   learner events ─┼─► Core::step(input) ─┼─► network: gossip, verdicts
//!   jobs done ──────┤                      ├─► learner: train, stop, measure
//!   timers ─────────┘                      └─► jobs: fetch, apply, ask
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `event_loop.rs` | [`Daemon`], and the loop |
//! | `events.rs` | what happened, turned into inputs for the core |
//! | `outputs.rs` | what the core asks for, carried out |
//! | `open.rs`, `recover.rs` | a data folder turned into a daemon; what is read back from disk |
//! | `batch.rs` | the outputs of several steps, stored in one transaction |
//! | `jobs.rs` | work that takes long: applying, asking peers |
//! | `weights_fetch.rs`, `fetch_progress.rs` | fetching weights; how far that is |
//! | `check_weights.rs`, `unchecked_weights.rs` | finding stored weights that are damaged, and repairing them |
//! | `contributions.rs` | getting the contributions of peers: fetching, checking, keeping |
//! | `places.rs` | how many of them are fetched at the same time, and for whom |
//! | `examinations.rs` | those that are on the way, by round |
//! | `examined.rs`, `signals.rs` | those that were examined, kept decoded; comparing them |
//! | `invitation.rs` | the addresses in the link that invites others |
//! | `milestone.rs` | the state that this link names |
//! | `met_peers.rs`, `finding_peers.rs` | peers that were reached, saved and called again |
//! | `sole_use.rs` | whether another machine uses this node's key |
//! | `service.rs`, `round_messages.rs` | answers to peers' requests |
//! | `current_weights.rs` | the newest weights, in memory and on disk |
//! | `new_weights.rs` | who learns of new weights |
//! | `own_contribution.rs` | whether this node's newest contribution was applied |
//! | `page/` | what the page, the metrics and the log show |
//! | `timers.rs` | the core's clock and timers |

mod batch;
mod check_weights;
mod contributions;
mod current_weights;
mod event_loop;
mod events;
mod examinations;
mod examined;
mod fetch_progress;
mod finding_peers;
mod hedged;
mod invitation;
mod jobs;
mod met_peers;
mod milestone;
mod new_weights;
mod open;
mod outputs;
mod own_contribution;
mod page;
mod places;
mod recover;
mod round_messages;
mod service;
mod signals;
mod sketches;
mod sole_use;
#[cfg(test)]
mod tests;
mod timers;
mod unchecked_weights;
mod weights_fetch;

pub use event_loop::Daemon;
pub use open::{Options, open};
