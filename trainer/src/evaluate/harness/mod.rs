//! What lm-evaluation-harness does to a text before a model sees it, and to the scores after, in
//! Rust: its tasks, its prompts, its choice of examples, and the corners of Python that they rest
//! on.
//!
//! Written from version 0.4.13. `tests/compat/harness.py` compares the two on the same model.

mod examples;
mod forms;
mod mmlu;
mod prompt;
mod python;
mod random;
mod records;
mod results;
mod task;

pub use examples::{EXAMPLE_SEED, ExampleOrder, Examples};
pub use mmlu::{MmluGroup, MmluSubject};
pub use prompt::{Asked, Document, Request};
pub(super) use python::rstrip;
pub use records::{Record, read_records};
pub use results::{DocumentScore, GroupScores, Measured, RequestScore, TaskScores, mmlu_groups};
pub use task::{Metric, Task};
