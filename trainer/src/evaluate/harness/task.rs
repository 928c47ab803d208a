//! [`Task`]: the benchmarks that the harness and `weal eval` both know.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::mmlu::MmluSubject;

/// A benchmark, by its name in the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// ARC (Clark et al., 2018), its easy questions.
    ArcEasy,
    /// ARC, its hard questions.
    ArcChallenge,
    /// HellaSwag (Zellers et al., 2019).
    HellaSwag,
    /// PIQA (Bisk et al., 2020).
    Piqa,
    /// WinoGrande (Sakaguchi et al., 2019).
    WinoGrande,
    /// OpenBookQA (Mihaylov et al., 2018).
    OpenBookQa,
    /// BoolQ (Clark et al., 2019), as in SuperGLUE.
    BoolQ,
    /// LAMBADA (Paperno et al., 2016), as OpenAI prepared it.
    LambadaOpenAi,
    /// LAMBADA as published.
    LambadaStandard,
    /// MMLU, whose records name their subject.
    Mmlu,
    /// One subject of MMLU.
    MmluSubject(MmluSubject),
    /// Questions in our own format: `context`, `choices`, `answer`, used as they are.
    Choices,
}

/// A measure of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of the questions whose right answer is the likeliest; of texts, share whose last word
    /// is what the model would write.
    Accuracy,
    /// Share of the questions whose right answer is the likeliest per letter.
    NormalisedAccuracy,
    /// e to the mean of −log p of the last word.
    Perplexity,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "acc",
            Self::NormalisedAccuracy => "acc_norm",
            Self::Perplexity => "perplexity",
        })
    }
}

impl Task {
    /// The tasks with names of their own. The subjects of MMLU are `mmlu_<subject>`.
    pub const NAMED: [Self; 11] = [
        Self::ArcEasy,
        Self::ArcChallenge,
        Self::HellaSwag,
        Self::Piqa,
        Self::WinoGrande,
        Self::OpenBookQa,
        Self::BoolQ,
        Self::LambadaOpenAi,
        Self::LambadaStandard,
        Self::Mmlu,
        Self::Choices,
    ];

    /// Recognises a task by the keys of a record. ARC's easy and hard questions look alike, and
    /// texts for LAMBADA look like any other text: those need their task named.
    pub fn of(record: &Value) -> Option<Self> {
        let has = |key: &str| record.get(key).is_some();
        match () {
            () if has("answerKey") && has("question_stem") => Some(Self::OpenBookQa),
            () if has("answerKey") => Some(Self::ArcEasy),
            () if has("endings") => Some(Self::HellaSwag),
            () if has("goal") && has("sol1") => Some(Self::Piqa),
            () if has("option1") && has("sentence") => Some(Self::WinoGrande),
            () if has("passage") && has("question") => Some(Self::BoolQ),
            () if has("question") && has("choices") && has("answer") => Some(Self::Mmlu),
            () if has("context") && has("choices") => Some(Self::Choices),
            () => None,
        }
    }

    /// The version of the harness' task that this follows.
    pub fn version(self) -> &'static str {
        match self {
            Self::BoolQ => "2.0",
            Self::Mmlu => "2",
            _ => "1.0",
        }
    }

    /// What is measured, in the harness' order.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::LambadaOpenAi | Self::LambadaStandard => &[Metric::Perplexity, Metric::Accuracy],
            Self::WinoGrande | Self::BoolQ | Self::Mmlu | Self::MmluSubject(_) => {
                &[Metric::Accuracy]
            }
            _ => &[Metric::Accuracy, Metric::NormalisedAccuracy],
        }
    }

    /// The keys that its records have.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Self::ArcEasy | Self::ArcChallenge => {
                "question, choices (with text and label) and answerKey"
            }
            Self::HellaSwag => "activity_label, ctx_a, ctx_b, endings and label",
            Self::Piqa => "goal, sol1, sol2 and label",
            Self::WinoGrande => "sentence (with _), option1, option2 and answer",
            Self::OpenBookQa => "question_stem, choices (with text and label) and answerKey",
            Self::BoolQ => "passage, question and label",
            Self::LambadaOpenAi | Self::LambadaStandard => "text",
            Self::Mmlu => "subject, question, choices and answer",
            Self::MmluSubject(_) => "question, choices and answer",
            Self::Choices => "context, choices and answer",
        }
    }

    /// What stands before the examples and the question.
    pub(super) fn description(self) -> String {
        match self {
            Self::MmluSubject(subject) => format!(
                "The following are multiple choice questions (with answers) about {}.\n\n",
                subject.name().replace('_', " ")
            ),
            _ => String::new(),
        }
    }

    /// Whether the examples are the first of their file; otherwise they are drawn for every
    /// question.
    pub(super) fn takes_first_examples(self) -> bool {
        matches!(self, Self::Mmlu | Self::MmluSubject(_))
    }

    /// Whether a question that is among its own examples is taken out of them. The harness does so
    /// for tasks without a test part.
    pub(super) fn leaves_itself_out(self) -> bool {
        matches!(
            self,
            Self::HellaSwag | Self::Piqa | Self::WinoGrande | Self::BoolQ | Self::Choices
        )
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArcEasy => "arc_easy",
            Self::ArcChallenge => "arc_challenge",
            Self::HellaSwag => "hellaswag",
            Self::Piqa => "piqa",
            Self::WinoGrande => "winogrande",
            Self::OpenBookQa => "openbookqa",
            Self::BoolQ => "boolq",
            Self::LambadaOpenAi => "lambada_openai",
            Self::LambadaStandard => "lambada_standard",
            Self::Mmlu => "mmlu",
            Self::Choices => "choices",
            Self::MmluSubject(subject) => return write!(f, "mmlu_{}", subject.name()),
        })
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = Self::NAMED.iter().find(|task| task.to_string() == name);
        if let Some(task) = named {
            return Ok(*task);
        }
        if let Some(subject) = name.strip_prefix("mmlu_").and_then(MmluSubject::of) {
            return Ok(Self::MmluSubject(subject));
        }
        let known: Vec<String> = Self::NAMED.iter().map(ToString::to_string).collect();
        Err(format!(
            "unknown task; known are {} and mmlu_<subject>, such as mmlu_college_physics",
            known.join(", ")
        ))
    }
}
