//! Proving where weights come from: `weal verify`.
//!
//! A run's id is the hash of its manifest, which names the founders. From there every decided round
//! proves itself: the voters of a round follow from the rounds before it, and more than two thirds
//! of their weight signed it. Each names the state root of the weights that it starts from. So
//! whoever trusts an id can check weights from anywhere.
//!
//! | file | holds |
//! |---|---|
//! | `history.rs` | the decided rounds of a folder or of peers, checked one by one |
//! | `replay.rs` | the weights computed again from the contributions |
//! | `model.rs` | an exported model, compared with the weights that its run decided |

mod history;
mod model;
mod replay;

pub(crate) use history::ProvenHistory;
pub(crate) use model::{compare, expect_origin, origin};
pub(crate) use replay::{Replayed, replay};
