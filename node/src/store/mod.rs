//! What must survive a crash.
//!
//! | file | holds |
//! |---|---|
//! | `database.rs` | [`Store`]: decided rounds, own messages, known peers, the index of blobs |
//! | `records.rs` | how the core's records lie in the database |
//! | `blobs.rs` | contributions, data and tokenisers as files, by hash |
//! | `weights.rs` | weights at the start of the newest rounds |
//! | `learner.rs` | error feedback and optimiser moments |

pub mod blobs;
mod database;
pub(crate) mod learner;
mod records;
pub mod weights;

pub use database::Store;
