//! JSON as programs write it, not only as its standard has it.
//!
//! Python writes `NaN` and `Infinity`, JavaScript half surrogate pairs, some nest deeply, and many
//! files hold objects with a comma after the last member. Here only what is asked for is looked
//! at: the rest of a record is skipped, whatever its numbers, words and strings are.

mod members;
mod scan;
mod text;
mod value;

pub(crate) use members::{field, object_end};
pub(crate) use scan::{Fault, Raw, raw};
pub(crate) use text::unescape;
pub use value::parse_json;
