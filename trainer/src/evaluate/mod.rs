//! Evaluation: the perplexity of texts, and accuracy on multiple-choice questions.

mod evaluator;
mod questions;

pub use evaluator::{ChoiceScores, Evaluator};
pub use questions::{Question, QuestionForm, parse_questions};
