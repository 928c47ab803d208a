//! The manifest: what defines a run. Its canonical encoding is hashed to the run id, so all peers
//! agree on every byte of it.
//!
//! All numbers are integers. Fractions are in parts per million (ppm) or per billion (ppb), and
//! times in milliseconds.
//!
//! | file | holds |
//! |---|---|
//! | `document` | the manifest itself, and the initial weights |
//! | `model` | the model's sizes, and the tokeniser |
//! | `data` | what is trained on |
//! | `training` | inner training, compression, and the outer step |
//! | `protocol` | timing, limits, membership and founders |
//! | `check` | the rules that a manifest must keep |

mod check;
mod data;
mod document;
mod model;
mod protocol;
mod training;

pub use data::{Data, DataSource, PreparedTokens, TokenPart, TokenShard};
pub use document::{Initial, Manifest};
pub use model::{Model, RopeScaling, Tokeniser};
pub use protocol::{Founder, Limits, Membership, Timing};
pub use training::{AggregationRule, Compression, Inner, Optimiser, Outer, OuterRate, Schedule};

pub use crate::error::ManifestError;

/// One million: a ppm field with this value is 1.
pub const PPM: u32 = 1_000_000;

/// Name of the manifest and its parts in errors about bytes.
const NAME: &str = "manifest";
/// Limit on the bytes of a part that holds only numbers.
const NUMBERS_BYTES: usize = 128;
