//! The manifest: what defines a run. Its canonical encoding is hashed to the run id, so all peers
//! agree on every byte of it.
//!
//! All numbers are integers. Fractions are in parts per million (ppm) or per billion (ppb), and
//! times in milliseconds.
//!
//! | file | holds |
//! |---|---|
//! | `document` | the manifest itself, and the initial weights |
//! | `model` | the model's sizes |
//! | `tokeniser` | the tokeniser, and what its special tokens mean |
//! | `data` | what is trained on |
//! | `training` | inner training, compression, and the outer step |
//! | `protocol` | timing, limits, membership, trust and founders |
//! | `check` | the rules that a manifest must keep |
//! | `check_model`, `check_trust` | those for its model; for membership, trust and founders |

mod check;
mod check_model;
mod check_trust;
mod data;
mod document;
mod model;
mod protocol;
mod tokeniser;
mod training;

pub use data::{Data, DataSource, PreparedTokens, TokenPart, TokenShard};
pub use document::{Ancestor, Initial, Manifest};
pub use model::{Activation, Model, NormPlacement, QueryKeyNorm, RopeScaling, RopeScalingKind};
pub use protocol::{Founder, Limits, Membership, Timing, Trust};
pub use tokeniser::{SpecialTokens, Tokeniser, TokeniserSettings};
pub use training::{
    AggregationRule, Compression, CountFactor, Inner, Optimiser, Outer, OuterRate, Schedule,
};

pub use crate::error::ManifestError;

/// One million: a ppm field with this value is 1.
pub const PPM: u32 = 1_000_000;

/// Name of the manifest and its parts in errors about bytes.
const NAME: &str = "manifest";
/// Limit on the bytes of a part that holds only numbers.
const NUMBERS_BYTES: usize = 128;
