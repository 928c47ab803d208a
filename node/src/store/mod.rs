//! What must survive a crash.
//!
//! | file | holds |
//! |---|---|
//! | `database.rs` | [`Store`]: decided rounds, own messages, the index of blobs |
//! | `peers.rs` | where peers were reached |
//! | `sessions.rs` | the processes of this node that took part |
//! | `records.rs` | how the core's records lie in the database |
//! | `snapshots.rs` | what the decided rounds led to |
//! | `history.rs` | what the page shows of each round |
//! | `beginning.rs` | where the decided rounds begin, and what the link names |
//! | `blobs/` | contributions, data and tokenisers as files, by hash |
//! | `weights.rs` | weights at the start of the newest rounds, and of some earlier ones |
//! | `partial_weights.rs` | weights that are being fetched |
//! | `learner.rs` | error feedback and optimiser moments |

mod beginning;
pub mod blobs;
mod database;
mod history;
pub(crate) mod learner;
pub(crate) mod partial_weights;
mod peers;
mod records;
mod sessions;
pub(crate) mod snapshots;
pub mod weights;

pub use database::Store;
pub use peers::MetPeer;
