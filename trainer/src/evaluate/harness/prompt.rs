//! [`Asked`]: the requests that a task makes of a model.

use std::sync::Arc;

use super::examples::{Chooser, EXAMPLE_SEED, ExampleOrder, Examples, Solved};
use super::forms::Question;
use super::mmlu::MmluSubject;
use super::records::Record;
use super::task::Task;
use crate::error::{Error, Result};

/// A text to score: how likely is `continuation` after `context`?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What stands before. Choices of one question share it.
    pub context: Arc<str>,
    /// What is scored, in most tasks with the space before it.
    pub continuation: String,
}

/// One question, asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// One for each choice, or one for the last word of a text.
    pub requests: Vec<Request>,
    /// Index of the right choice.
    pub right: usize,
    /// Letters of each choice, by which its score is divided.
    pub letters: Vec<usize>,
}

/// A task with all its questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The task.
    pub task: Task,
    /// Examples in front of each question.
    pub examples: usize,
    /// The questions.
    pub documents: Vec<Document>,
}

impl Asked {
    /// The questions of `records`: of the task given, or of the one that the first record's keys
    /// belong to. MMLU is divided by subject. `limit` keeps the first questions of each task.
    ///
    /// # Errors
    /// If a record does not belong to the task, or there are too few examples.
    pub fn all(
        task: Option<Task>,
        records: Vec<Record>,
        examples: &Examples,
        limit: Option<usize>,
    ) -> Result<Vec<Self>> {
        let Some(first) = records.first() else {
            return Ok(Vec::new());
        };
        let task = task
            .or_else(|| Task::of(&first.value))
            .ok_or_else(|| Error::Question {
                place: first.place.clone(),
                reason: "its keys are those of no task".to_owned(),
                hint: Some("name the task with --task; weal eval --help lists them"),
            })?;
        let own = task == Task::LambadaOpenAi && examples.records.is_empty();
        let pool = if examples.count == 0 {
            Vec::new()
        } else if own {
            records.clone()
        } else if examples.records.is_empty() {
            return Err(Error::Question {
                place: first.place.clone(),
                reason: format!("the examples of {task} are in another part of the data"),
                hint: Some("name the file of that part, train or dev, with --shots-from"),
            });
        } else {
            examples.records.clone()
        };
        let mut pools = by_subject(task, pool)?;
        let mut all = Vec::new();
        for (task, mut records) in by_subject(task, records)? {
            records.truncate(limit.unwrap_or(usize::MAX));
            let pool = pools.iter_mut().find(|(pool, _)| *pool == task);
            let pool = pool.map_or_else(Vec::new, |(_, records)| std::mem::take(records));
            all.push(Self::one(task, records, solved(task, pool)?, examples)?);
        }
        Ok(all)
    }

    fn one(
        task: Task,
        records: Vec<Record>,
        pool: Vec<Solved>,
        examples: &Examples,
    ) -> Result<Self> {
        let order = examples.order.unwrap_or(if task.takes_first_examples() {
            ExampleOrder::First
        } else {
            ExampleOrder::Drawn { seed: EXAMPLE_SEED }
        });
        let mut chooser = Chooser::new(task, &pool, examples.count, order);
        let description = task.description();
        let mut documents = Vec::with_capacity(records.len());
        for record in &records {
            let question = Question::of(task, &record.value).map_err(|why| refused(record, why))?;
            let chosen = chooser
                .choose(&record.value)
                .map_err(|why| refused(record, why))?;
            let before = chosen
                .into_iter()
                .fold(description.clone(), |text, example| {
                    text + &example.question.solved()
                });
            documents.push(Document::of(before, question));
        }
        Ok(Self {
            task,
            examples: examples.count,
            documents,
        })
    }

    /// All requests, document by document.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.documents
            .iter()
            .flat_map(|document| &document.requests)
    }
}

impl Document {
    fn of(before: String, question: Question) -> Self {
        let letters = |texts: &[String]| texts.iter().map(|text| text.chars().count()).collect();
        match question {
            Question::Answers {
                prompt,
                choices,
                right,
            } => {
                let context: Arc<str> = (before + &prompt).into();
                let request = |choice: &String| Request {
                    context: context.clone(),
                    continuation: format!(" {choice}"),
                };
                Self {
                    letters: letters(&choices),
                    requests: choices.iter().map(request).collect(),
                    right,
                }
            }
            Question::Beginnings {
                prompts,
                ending,
                right,
            } => Self {
                letters: letters(&prompts),
                requests: prompts
                    .iter()
                    .map(|prompt| Request {
                        context: (before.clone() + prompt).into(),
                        continuation: format!(" {ending}"),
                    })
                    .collect(),
                right,
            },
            Question::LastWord { prompt, word } => Self {
                letters: letters(std::slice::from_ref(&word)),
                requests: vec![Request {
                    context: (before + &prompt).into(),
                    continuation: word,
                }],
                right: 0,
            },
        }
    }
}

fn refused(record: &Record, reason: String) -> Error {
    Error::Question {
        place: record.place.clone(),
        reason,
        hint: None,
    }
}

fn solved(task: Task, records: Vec<Record>) -> Result<Vec<Solved>> {
    let solved = |record: Record| {
        let question = Question::of(task, &record.value).map_err(|why| refused(&record, why))?;
        Ok(Solved {
            record: record.value,
            question,
        })
    };
    records.into_iter().map(solved).collect()
}

/// The records of each task: MMLU's by their subject, in the order in which subjects appear. If
/// one subject is asked for, those of others are left out.
fn by_subject(task: Task, records: Vec<Record>) -> Result<Vec<(Task, Vec<Record>)>> {
    let mut tasks: Vec<(Task, Vec<Record>)> = Vec::new();
    for record in records {
        let subject = record.value.get("subject").and_then(|name| name.as_str());
        let of_record = match (task, subject) {
            (Task::Mmlu, None) => {
                return Err(Error::Question {
                    place: record.place,
                    reason: "it has no subject".to_owned(),
                    hint: Some("name the subject with --task mmlu_<subject>"),
                });
            }
            (Task::Mmlu | Task::MmluSubject(_), Some(name)) => {
                match MmluSubject::of(&name.replace(' ', "_")) {
                    Some(subject) => Task::MmluSubject(subject),
                    None => {
                        let reason = format!("subject {name:?} is none of MMLU's");
                        return Err(refused(&record, reason));
                    }
                }
            }
            _ => task,
        };
        if task != Task::Mmlu && of_record != task {
            continue;
        }
        match tasks.iter_mut().find(|(known, _)| *known == of_record) {
            Some((_, records)) => records.push(record),
            None => tasks.push((of_record, vec![record])),
        }
    }
    Ok(tasks)
}
