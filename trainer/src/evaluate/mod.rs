//! Evaluation: the perplexity of texts, and benchmarks.

mod evaluator;
mod harness;
mod windows;

pub use evaluator::Evaluator;
pub use harness::{
    Asked, Document, DocumentScore, EXAMPLE_SEED, ExampleOrder, Examples, GroupScores, Measured,
    Metric, MmluGroup, MmluSubject, Record, Request, RequestScore, Task, TaskScores, mmlu_groups,
    read_records,
};
