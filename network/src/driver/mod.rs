//! The driver: the task that owns the swarm.
//!
//! It takes commands from the handle, tells the node what happens, and acts on timers. The state is
//! [`Driver`] in `task.rs`; the other files hold its methods by topic.

mod admission;
mod command;
mod dialling;
mod event_queue;
mod exchanges;
mod gossiping;
mod listening;
mod offences;
mod swarm_events;
mod task;

pub(crate) use command::{Command, Queues, Setup};
pub(crate) use task::Driver;
