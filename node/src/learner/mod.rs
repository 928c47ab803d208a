//! The thread that trains. It owns the model, error feedback and moments. The rest of the node
//! talks to it through a bounded queue, so that neither the network nor the rules wait for a GPU.
//!
//! | file | holds |
//! |---|---|
//! | `handle.rs`, `job.rs` | [`LearnerHandle`]: jobs go in |
//! | `event.rs` | [`LearnerEvent`]: results come out |
//! | `setup.rs` | what the thread needs |
//! | `thread.rs` | the thread, and what it does when the device fails |
//! | `judging.rs` | what is measured of a round, and in how much time |
//! | `judge.rs` | what others' contributions do to the loss |
//! | `contribute.rs` | a round's training, up to a stored contribution |
//! | `pace.rs` | when to stop, so that the contribution is in time |
//! | `restore.rs` | a learner made from what was saved last |
//! | `device.rs` | which device is used after a failure, and when |
//! | `health.rs` | what the page shows of the learner |

mod contribute;
mod device;
mod event;
mod handle;
mod health;
mod job;
mod judge;
mod judging;
mod pace;
mod restore;
mod setup;
#[cfg(test)]
mod tests;
mod thread;

pub(crate) use event::{Contributed, LearnerEvent};
pub(crate) use handle::LearnerHandle;
pub(crate) use health::{LearnerHealth, LearnerProgress};
pub(crate) use job::{JudgeJob, JudgedContribution, TrainJob};
pub(crate) use setup::LearnerSetup;
