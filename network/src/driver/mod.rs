//! The driver: the task that owns the swarm.
//!
//! It takes commands from the handle, tells the node what happens, and acts on timers. The state is
//! [`Driver`] in `task.rs`; the other files hold its methods by topic.

mod admission;
mod dialling;
mod event_queue;
mod exchanges;
mod gossiping;
mod key_use;
mod listening;
mod offences;
mod reachability;
mod reconnected;
mod setup;
mod swarm_events;
mod task;
mod unsubscribed;

pub(crate) use setup::{Queues, Setup};
pub(crate) use task::Driver;
