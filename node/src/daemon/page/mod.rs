//! What the page, the metrics and the log show: kept up to date as things happen, and turned into
//! a [`Snapshot`](weal_dashboard::Snapshot) on demand.
//!
//! | file | holds |
//! |---|---|
//! | `feed.rs` | [`PageFeed`]: what has happened |
//! | `line_budget.rs` | how many lines of the log strangers may cause |
//! | `reports.rs` | what the core reports, in words |
//! | `observed.rs`, `snapshot.rs` | the other parts of the node; everything as it is now |
//! | `state.rs` | what the node is doing, in a word and a sentence |
//! | `phase_clock.rs` | seconds in each phase of a round |
//! | `reach.rs` | whether peers reach this node, in words |
//! | `run.rs` | what the page shows of the run itself |

mod feed;
mod line_budget;
mod observed;
mod phase_clock;
mod reach;
mod reports;
mod run;
mod snapshot;
mod state;

pub(super) use feed::PageFeed;
pub(super) use observed::Observed;
pub(super) use run::floors;
