//! What a manifest means to the crates that do not know it: the trainer's specs, the kernels'
//! layout and rules.
//!
//! | file | holds |
//! |---|---|
//! | `run_plan.rs` | [`Plan`]: everything computed from the manifest once |
//! | `mapping.rs` | inner steps and outer rule |
//! | `outer_step.rs` | the outer step of a decided round |
//! | `model.rs` | the model, in both directions |
//! | `special.rs` | special tokens, likewise |
//! | `named_blobs.rs` | the blobs that a manifest names |
//! | `run_data.rs` | the weights and the text that a run starts from |

mod mapping;
mod model;
mod named_blobs;
mod outer_step;
mod run_data;
mod run_plan;
mod special;

pub(crate) use mapping::outer_rate;
pub(crate) use model::manifest_model;
#[cfg(test)]
pub(crate) use named_blobs::INITIAL_WEIGHTS;
pub(crate) use named_blobs::{NamedBlob, named_blobs};
pub(crate) use outer_step::DecidedStep;
pub(crate) use run_data::{corpus, initial_weights};
pub(crate) use run_plan::Plan;
pub(crate) use run_plan::max_contribution_bytes;
pub(crate) use special::{manifest_special_tokens, special_tokens};
