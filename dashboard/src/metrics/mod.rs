//! `/metrics`: what Prometheus scrapes.
//!
//! Names use base units (seconds, bytes) and never rates. Everything the node drops has a counter
//! with its cause as a label. A metric's doc comment is its help text, on `/metrics` and in the
//! reference.

mod format;
mod labels;
mod reference;
mod set;

pub(crate) use format::Format;
pub(crate) use labels::Refused;
pub use reference::{MetricDoc, MetricKind, metrics_reference};
pub(crate) use set::Metrics;
