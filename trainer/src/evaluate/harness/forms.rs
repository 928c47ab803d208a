//! A task's records become questions, with the harness' prompts.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::python::{capitalize, strip, without_brackets};
use super::task::Task;

/// A question, before examples are put in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// One prompt, several answers.
    Answers {
        /// The prompt.
        prompt: String,
        /// The answers, without the space before them.
        choices: Vec<String>,
        /// Index of the right one.
        right: usize,
    },
    /// Several prompts; the right one makes what follows likeliest.
    Beginnings {
        /// The prompts.
        prompts: Vec<String>,
        /// What follows all of them, without the space before it.
        ending: String,
        /// Index of the right one.
        right: usize,
    },
    /// A text whose last word is guessed.
    LastWord {
        /// The text without it.
        prompt: String,
        /// The word, with the space before it.
        word: String,
    },
}

/// A string, or the reason why a record is none of the task's.
type Found<T> = Result<T, String>;

impl Question {
    /// The question of a record.
    pub(super) fn of(task: Task, record: &Value) -> Found<Self> {
        match task {
            Task::ArcEasy | Task::ArcChallenge => arc(parsed(task, record)?),
            Task::HellaSwag => hellaswag(parsed(task, record)?),
            Task::Piqa => piqa(parsed(task, record)?),
            Task::WinoGrande => winogrande(parsed(task, record)?),
            Task::OpenBookQa => openbookqa(parsed(task, record)?),
            Task::BoolQ => boolq(parsed(task, record)?),
            Task::LambadaOpenAi | Task::LambadaStandard => Ok(lambada(parsed(task, record)?)),
            Task::Mmlu | Task::MmluSubject(_) => mmlu(parsed(task, record)?),
            Task::Choices => choices(parsed(task, record)?),
        }
    }

    /// The question with its right answer, as an example for others.
    pub(super) fn solved(&self) -> String {
        match self {
            Self::Answers {
                prompt,
                choices,
                right,
            } => format!("{prompt} {}\n\n", choices[*right]),
            // The harness leaves out what would stand between a beginning and an empty ending.
            Self::Beginnings {
                prompts,
                ending,
                right,
            } if ending.is_empty() => prompts[*right].clone(),
            Self::Beginnings {
                prompts,
                ending,
                right,
            } => format!("{} {ending}\n\n", prompts[*right]),
            Self::LastWord { prompt, word } => format!("{prompt} {word}\n\n"),
        }
    }
}

#[derive(Deserialize)]
struct Arc {
    question: String,
    choices: Labelled,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

#[derive(Deserialize)]
struct OpenBookQa {
    question_stem: String,
    choices: Labelled,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

#[derive(Deserialize)]
struct Labelled {
    text: Vec<String>,
    label: Vec<String>,
}

#[derive(Deserialize)]
struct HellaSwag {
    activity_label: String,
    ctx_a: String,
    ctx_b: String,
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
struct WinoGrande {
    sentence: String,
    option1: String,
    option2: String,
    answer: Value,
}

#[derive(Deserialize)]
struct BoolQ {
    passage: String,
    question: String,
    /// SuperGLUE's number.
    label: Option<Value>,
    /// What the original files have in its place.
    answer: Option<Value>,
}

#[derive(Deserialize)]
struct Lambada {
    text: String,
}

#[derive(Deserialize)]
struct Mmlu {
    question: String,
    choices: Vec<String>,
    answer: Value,
}

#[derive(Deserialize)]
struct Choices {
    context: String,
    choices: Vec<String>,
    answer: usize,
}

fn parsed<T: DeserializeOwned>(task: Task, record: &Value) -> Found<T> {
    T::deserialize(record)
        .map_err(|error| format!("{error}; a record of {task} has {}", task.keys()))
}

/// Parses a label: a number, or a string that holds one.
fn number(label: &Value) -> Found<usize> {
    let number = match label {
        Value::String(text) => strip(text).parse().ok(),
        Value::Bool(yes) => Some(usize::from(*yes)),
        other => other
            .as_u64()
            .and_then(|number| usize::try_from(number).ok()),
    };
    let unlabelled = matches!(label.as_i64(), Some(-1)) || label.as_str() == Some("");
    number.ok_or_else(|| {
        if unlabelled {
            format!("its label is {label}: this part of the data comes without answers")
        } else {
            format!("label {label} is not the number of a choice")
        }
    })
}

fn answers(prompt: String, choices: Vec<String>, right: usize) -> Found<Question> {
    match choices.len() {
        0 | 1 => Err("it has fewer than two choices".to_owned()),
        count if right >= count => Err(format!(
            "the answer is number {right}, but the {count} choices are numbered from 0"
        )),
        _ => Ok(Question::Answers {
            prompt,
            choices,
            right,
        }),
    }
}

fn place_of(key: &str, choices: &Labelled) -> Found<usize> {
    if choices.text.len() != choices.label.len() {
        return Err("choices.text and choices.label have different lengths".to_owned());
    }
    let place = choices.label.iter().position(|label| label == key);
    place.ok_or_else(|| format!("answerKey {key:?} is not one of {:?}", choices.label))
}

fn arc(record: Arc) -> Found<Question> {
    let right = place_of(&record.answer_key, &record.choices)?;
    let prompt = format!("Question: {}\nAnswer:", record.question);
    answers(prompt, record.choices.text, right)
}

fn openbookqa(record: OpenBookQa) -> Found<Question> {
    let right = place_of(
        record
            .answer_key
            .trim_start_matches(super::python::is_space),
        &record.choices,
    )?;
    answers(record.question_stem, record.choices.text, right)
}

fn hellaswag(record: HellaSwag) -> Found<Question> {
    let prompt = format!(
        "{}: {} {}",
        record.activity_label,
        record.ctx_a,
        capitalize(&record.ctx_b)
    );
    let endings = record.endings.iter().map(|ending| cleaned(ending));
    answers(cleaned(&prompt), endings.collect(), number(&record.label)?)
}

/// Removes WikiHow's markup: `[title]` becomes a full stop, other brackets are dropped.
fn cleaned(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

fn piqa(record: Piqa) -> Found<Question> {
    let prompt = format!("Question: {}\nAnswer:", record.goal);
    answers(
        prompt,
        vec![record.sol1, record.sol2],
        number(&record.label)?,
    )
}

fn winogrande(record: WinoGrande) -> Found<Question> {
    let Some((before, after)) = record.sentence.split_once('_') else {
        return Err("its sentence has no _ where an option belongs".to_owned());
    };
    let right = match number(&record.answer) {
        Ok(number @ (1 | 2)) => number - 1,
        _ => return Err(format!("answer {} is neither 1 nor 2", record.answer)),
    };
    Ok(Question::Beginnings {
        prompts: [record.option1, record.option2]
            .map(|option| before.to_owned() + &option)
            .into(),
        ending: strip(after).to_owned(),
        right,
    })
}

fn boolq(record: BoolQ) -> Found<Question> {
    let BoolQ {
        passage,
        question,
        label,
        answer,
    } = record;
    let label = label.or(answer).ok_or("it has no label")?;
    let prompt = format!("{passage}\nQuestion: {question}?\nAnswer:");
    let choices = ["no", "yes"].map(str::to_owned).into();
    answers(prompt, choices, number(&label)?)
}

fn lambada(record: Lambada) -> Question {
    let (prompt, word) = record.text.rsplit_once(' ').unwrap_or(("", &record.text));
    Question::LastWord {
        prompt: prompt.to_owned(),
        word: format!(" {word}"),
    }
}

fn mmlu(record: Mmlu) -> Found<Question> {
    let letters = ["A", "B", "C", "D"];
    let [a, b, c, d] = record.choices.as_slice() else {
        return Err(format!("it has {} choices, not four", record.choices.len()));
    };
    let right = match record.answer.as_str().map(strip) {
        Some(letter) if letters.contains(&letter) => {
            letters.iter().position(|known| *known == letter)
        }
        _ => None,
    };
    let right = right.map_or_else(|| number(&record.answer), Ok)?;
    let question = strip(&record.question);
    let choices = format!("A. {a}\nB. {b}\nC. {c}\nD. {d}");
    let prompt = format!("{question}\n{choices}\nAnswer:");
    answers(prompt, letters.map(str::to_owned).into(), right)
}

fn choices(record: Choices) -> Found<Question> {
    if record.choices.iter().any(String::is_empty) {
        return Err("a choice is empty".to_owned());
    }
    answers(record.context, record.choices, record.answer)
}
