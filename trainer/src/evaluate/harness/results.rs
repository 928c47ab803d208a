//! What a task's scores mean: accuracies, perplexity, their standard errors.

use super::mmlu::{MMLU_GROUPS, MmluGroup};
use super::prompt::{Asked, Document};
use super::task::{Metric, Task};

/// How likely a continuation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestScore {
    /// log p of all its tokens, in nats.
    pub log_likelihood: f64,
    /// Whether each of its tokens is the likeliest.
    pub is_greedy: bool,
}

/// The scores of one question.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentScore {
    /// One for each request.
    pub requests: Vec<RequestScore>,
    /// The likeliest choice.
    pub chosen: usize,
    /// The likeliest choice per letter.
    pub chosen_normalised: usize,
}

/// The value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Which.
    pub metric: Metric,
    /// Its value.
    pub value: f64,
    /// Its standard error; none of a single question.
    pub standard_error: Option<f64>,
}

/// A task's results.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskScores {
    /// The task.
    pub task: Task,
    /// Number of questions.
    pub questions: usize,
    /// The task's metrics.
    pub metrics: Vec<Measured>,
    /// Question by question.
    pub documents: Vec<DocumentScore>,
}

/// The results of a group of MMLU's subjects, weighted by their numbers of questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupScores {
    /// The group.
    pub group: MmluGroup,
    /// Subjects that were measured.
    pub subjects: usize,
    /// Their questions.
    pub questions: usize,
    /// The accuracy.
    pub accuracy: Measured,
}

impl TaskScores {
    /// The results of a task from the scores of its requests, in their order.
    pub fn of(asked: &Asked, scores: &[RequestScore]) -> Self {
        let mut rest = scores;
        let mut documents = Vec::with_capacity(asked.documents.len());
        for document in &asked.documents {
            let (own, after) = rest.split_at(document.requests.len().min(rest.len()));
            rest = after;
            documents.push(DocumentScore::of(document, own));
        }
        let metrics = asked.task.metrics().iter();
        Self {
            task: asked.task,
            questions: documents.len(),
            metrics: metrics
                .map(|metric| measured(*metric, asked, &documents))
                .collect(),
            documents,
        }
    }
}

impl DocumentScore {
    fn of(document: &Document, scores: &[RequestScore]) -> Self {
        let likelihoods: Vec<f64> = scores.iter().map(|score| score.log_likelihood).collect();
        let by_letter: Vec<f64> = likelihoods
            .iter()
            .zip(&document.letters)
            // Without letters it is infinitely unlikely, as in numpy.
            .map(|(likelihood, letters)| likelihood / *letters as f64)
            .collect();
        Self {
            requests: scores.to_vec(),
            chosen: best(&likelihoods),
            chosen_normalised: best(&by_letter),
        }
    }

    /// What the question adds to a metric's mean.
    pub fn value(&self, metric: Metric, document: &Document) -> f64 {
        let share = |is_right: bool| if is_right { 1.0 } else { 0.0 };
        let first = self.requests.first();
        match metric {
            Metric::Accuracy if document.requests.len() == 1 => {
                share(first.is_some_and(|score| score.is_greedy))
            }
            Metric::Accuracy => share(self.chosen == document.right),
            Metric::NormalisedAccuracy => share(self.chosen_normalised == document.right),
            Metric::Perplexity => first.map_or(0.0, |score| score.log_likelihood),
        }
    }
}

/// The index of the highest value; of several, the first.
fn best(values: &[f64]) -> usize {
    let highest = |best: usize, (place, value): (usize, &f64)| {
        if *value > values[best] { place } else { best }
    };
    values.iter().enumerate().fold(0, highest)
}

fn measured(metric: Metric, asked: &Asked, scores: &[DocumentScore]) -> Measured {
    let values: Vec<f64> = scores
        .iter()
        .zip(&asked.documents)
        .map(|(score, document)| score.value(metric, document))
        .collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_error = (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
    if metric != Metric::Perplexity {
        return Measured {
            metric,
            value: mean,
            standard_error,
        };
    }
    // The harness resamples the questions for this one; to first order the error of an
    // exponential is itself times the error of its exponent.
    let perplexity = (-mean).exp();
    Measured {
        metric,
        value: perplexity,
        standard_error: standard_error.map(|error| error * perplexity),
    }
}

/// The groups of MMLU of which `tasks` have subjects, the widest first.
pub fn mmlu_groups(tasks: &[TaskScores]) -> Vec<GroupScores> {
    let group = |group: &MmluGroup| {
        let subjects: Vec<(f64, &Measured)> = tasks
            .iter()
            .filter(
                |scores| matches!(scores.task, Task::MmluSubject(subject) if subject.is_in(*group)),
            )
            .filter_map(|scores| Some((scores.questions as f64, scores.metrics.first()?)))
            .collect();
        let questions: f64 = subjects.iter().map(|(count, _)| count).sum();
        let right: f64 = subjects
            .iter()
            .map(|(count, accuracy)| accuracy.value * count)
            .sum();
        // The pooled variance of the subjects.
        let squares = subjects.iter().map(|(count, accuracy)| {
            let error = accuracy.standard_error?;
            Some((count - 1.0) * error * error * count)
        });
        let squares: Option<f64> = squares.sum();
        let freedom = questions - subjects.len() as f64;
        (!subjects.is_empty()).then(|| GroupScores {
            group: *group,
            subjects: subjects.len(),
            questions: questions as usize,
            accuracy: Measured {
                metric: Metric::Accuracy,
                value: right / questions,
                standard_error: squares.map(|squares| (squares / freedom / questions).sqrt()),
            },
        })
    };
    MMLU_GROUPS.iter().filter_map(group).collect()
}
