//! Multiple-choice questions, one JSON object a line, in the formats of common benchmarks. Prompts
//! follow lm-evaluation-harness (its `arc_easy.yaml`, `hellaswag.yaml` with `utils.py`,
//! `piqa.yaml`), zero-shot.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// A question with its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The prompt before the answer.
    pub context: String,
    /// The answers, without the space between context and answer.
    pub choices: Vec<String>,
    /// Index of the right answer.
    pub answer: usize,
}

/// The format of a file of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionForm {
    /// `question`, `choices` with `text` and `label`, `answerKey` (Clark et al., 2018).
    Arc,
    /// `ctx` or `ctx_a` and `ctx_b`, `endings`, `label`, perhaps `activity_label` (Zellers et al.,
    /// 2019).
    HellaSwag,
    /// `goal`, `sol1`, `sol2`, `label` (Bisk et al., 2020).
    Piqa,
    /// `context`, `choices`, `answer`; used as they are.
    Plain,
}

impl fmt::Display for QuestionForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arc => "arc",
            Self::HellaSwag => "hellaswag",
            Self::Piqa => "piqa",
            Self::Plain => "choices",
        })
    }
}

#[derive(Deserialize)]
struct Arc {
    question: String,
    choices: ArcChoices,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

#[derive(Deserialize)]
struct ArcChoices {
    text: Vec<String>,
    label: Vec<String>,
}

#[derive(Deserialize)]
struct HellaSwag {
    activity_label: Option<String>,
    ctx: Option<String>,
    ctx_a: Option<String>,
    ctx_b: Option<String>,
    endings: Vec<String>,
    label: Value,
}

#[derive(Deserialize)]
struct Piqa {
    goal: String,
    sol1: String,
    sol2: String,
    label: Value,
}

#[derive(Deserialize)]
struct Plain {
    context: String,
    choices: Vec<String>,
    answer: usize,
}

impl QuestionForm {
    /// Recognises the format of a record by its keys.
    pub fn of(record: &Value) -> Option<Self> {
        let has = |key: &str| record.get(key).is_some();
        match () {
            () if has("answerKey") => Some(Self::Arc),
            () if has("endings") => Some(Self::HellaSwag),
            () if has("goal") && has("sol1") => Some(Self::Piqa),
            () if has("context") && has("choices") => Some(Self::Plain),
            () => None,
        }
    }

    fn question(self, record: Value) -> std::result::Result<Question, String> {
        let question = match self {
            Self::Arc => {
                let Arc {
                    question,
                    choices,
                    answer_key,
                } = parsed(record)?;
                let answer = choices.label.iter().position(|label| *label == answer_key);
                let answer = answer.ok_or_else(|| {
                    format!("answerKey {answer_key:?} is not one of {:?}", choices.label)
                })?;
                if choices.text.len() != choices.label.len() {
                    return Err("choices.text and choices.label have different lengths".to_owned());
                }
                Question {
                    context: format!("Question: {question}\nAnswer:"),
                    choices: choices.text,
                    answer,
                }
            }
            Self::HellaSwag => hellaswag(parsed(record)?)?,
            Self::Piqa => {
                let Piqa {
                    goal,
                    sol1,
                    sol2,
                    label,
                } = parsed(record)?;
                let context = format!("Question: {goal}\nAnswer:");
                Question {
                    context,
                    choices: vec![sol1, sol2],
                    answer: number(&label)?,
                }
            }
            Self::Plain => {
                let Plain {
                    context,
                    choices,
                    answer,
                } = parsed(record)?;
                Question {
                    context,
                    choices,
                    answer,
                }
            }
        };
        match question.choices.len() {
            0 | 1 => Err("it has fewer than two choices".to_owned()),
            count if question.answer >= count => Err(format!(
                "the answer is number {}, but the {count} choices are numbered from 0",
                question.answer
            )),
            _ if question.choices.iter().any(String::is_empty) => {
                Err("a choice is empty".to_owned())
            }
            _ => Ok(question),
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(record: Value) -> std::result::Result<T, String> {
    serde_json::from_value(record).map_err(|error| error.to_string())
}

/// Parses a label: a number, or a string that holds one.
fn number(label: &Value) -> std::result::Result<usize, String> {
    let number = match label {
        Value::String(text) => text.trim().parse().ok(),
        other => other
            .as_u64()
            .and_then(|number| usize::try_from(number).ok()),
    };
    number.ok_or_else(|| format!("label {label} is not the number of a choice"))
}

fn hellaswag(record: HellaSwag) -> std::result::Result<Question, String> {
    let HellaSwag {
        activity_label,
        ctx,
        ctx_a,
        ctx_b,
        endings,
        label,
    } = record;
    let context = match (ctx_a, ctx_b, ctx) {
        (Some(first), Some(second), _) => format!("{first} {}", capitalised(&second)),
        (_, _, Some(context)) => context,
        _ => return Err("it has neither ctx nor ctx_a and ctx_b".to_owned()),
    };
    let context = match activity_label {
        Some(activity) => format!("{activity}: {context}"),
        None => context,
    };
    let choices = endings.iter().map(|ending| cleaned(ending)).collect();
    Ok(Question {
        context: cleaned(&context),
        choices,
        answer: number(&label)?,
    })
}

/// Python's `str.capitalize`.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|first| first.to_uppercase().to_string())
        .unwrap_or_default();
    first + &letters.as_str().to_lowercase()
}

/// Removes WikiHow markup: `[title]` becomes a full stop, other brackets are dropped.
fn cleaned(text: &str) -> String {
    let mut rest = text.trim().replace(" [title]", ". ");
    let mut clean = String::with_capacity(rest.len());
    while let Some(open) = rest.find('[') {
        let Some(close) = rest[open..].find(']') else {
            break;
        };
        clean.push_str(&rest[..open]);
        rest = rest.split_off(open + close + 1);
    }
    (clean + &rest).replace("  ", " ")
}

/// Parses the questions of a file, and recognises their format.
///
/// # Errors
/// [`Error::Question`] names the line and what is wrong with it.
pub fn parse_questions(name: &Path, text: &str) -> Result<(QuestionForm, Vec<Question>)> {
    let refused = |line: usize, reason: String| Error::Question {
        path: name.to_owned(),
        line: line + 1,
        reason,
    };
    let mut form = None;
    let mut questions = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let record: Value =
            serde_json::from_str(line).map_err(|error| refused(number, error.to_string()))?;
        let found = match form {
            Some(form) => form,
            None => *form.insert(QuestionForm::of(&record).ok_or_else(|| {
                refused(
                    number,
                    "its keys match no known form: arc, hellaswag, piqa, or context and choices"
                        .into(),
                )
            })?),
        };
        questions.push(found.question(record).map_err(|why| refused(number, why))?);
    }
    let form = form.ok_or_else(|| refused(0, "the file holds no questions".into()))?;
    Ok((form, questions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<(QuestionForm, Question)> {
        parse_questions(Path::new("task.jsonl"), line)
            .map(|(form, mut questions)| (form, questions.remove(0)))
    }

    fn question(context: &str, choices: &[&str], answer: usize) -> Question {
        Question {
            context: context.into(),
            choices: choices.iter().map(|c| (*c).into()).collect(),
            answer,
        }
    }

    #[test]
    fn each_form_is_prompted_as_in_the_harness() {
        let arc = r#"{"id":"x","question":"Which is hot?","choices":{"text":["ice","fire"],"label":["A","B"]},"answerKey":"B"}"#;
        assert_eq!(
            one(arc).unwrap(),
            (
                QuestionForm::Arc,
                question("Question: Which is hot?\nAnswer:", &["ice", "fire"], 1)
            )
        );

        let swag = r#"{"activity_label":"Cooking","ctx_a":"A man cooks.","ctx_b":"he","ctx":"-","endings":["eats [step] it.","[header] How to eat [title] Sit"],"label":"0"}"#;
        let expected = question(
            "Cooking: A man cooks. He",
            &["eats it.", " How to eat. Sit"],
            0,
        );
        assert_eq!(one(swag).unwrap(), (QuestionForm::HellaSwag, expected));

        let piqa = r#"{"goal":"Open it","sol1":"push","sol2":"pull","label":1}"#;
        assert_eq!(
            one(piqa).unwrap(),
            (
                QuestionForm::Piqa,
                question("Question: Open it\nAnswer:", &["push", "pull"], 1)
            )
        );

        let plain = r#"{"context":"2 + 2 =","choices":["4","5","6"],"answer":0}"#;
        assert_eq!(
            one(plain).unwrap(),
            (
                QuestionForm::Plain,
                question("2 + 2 =", &["4", "5", "6"], 0)
            )
        );
    }

    #[test]
    fn a_bad_line_is_named_with_the_reason() {
        let good = r#"{"context":"a","choices":["b","c"],"answer":0}"#;
        let cases = [
            (
                r#"{"context":"a","choices":["b"],"answer":0}"#,
                "two choices",
            ),
            (
                r#"{"context":"a","choices":["b","c"],"answer":2}"#,
                "number 2",
            ),
            (r#"{"context":"a","choices":["b",""],"answer":0}"#, "empty"),
            (r#"{"context":"a"}"#, "choices"),
            ("{", "EOF"),
        ];
        for (bad, expected) in cases {
            let why = parse_questions(Path::new("task.jsonl"), &format!("{good}\n\n{bad}\n"))
                .unwrap_err()
                .to_string();
            assert!(
                why.contains("task.jsonl") && why.contains("line 3") && why.contains(expected),
                "{why}"
            );
        }
        let why = one(r#"{"prompt":"a"}"#).unwrap_err().to_string();
        assert!(why.contains("no known form"), "{why}");
        let why = one("\n").unwrap_err().to_string();
        assert!(why.contains("no questions"), "{why}");
    }
}
