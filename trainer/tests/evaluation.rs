//! Evaluation against the scores of single tokens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use weal_trainer::{
    Asked, Evaluator, Examples, Metric, ModelSpec, OpenDevice, Record, Request, TaskScores,
    TextGenerator, Tokeniser, initial_weights, mmlu_groups,
};

fn model() -> ModelSpec {
    ModelSpec {
        width: 32,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        feed_forward: 48,
        context: 40,
        ..ModelSpec::preset("nano").unwrap()
    }
}

fn weights() -> Vec<f32> {
    initial_weights(&model(), &[3; 32]).unwrap()
}

fn evaluator() -> Evaluator {
    Evaluator::new(model(), Tokeniser::Bytes, &weights(), &OpenDevice::cpu()).unwrap()
}

/// log p of each byte of `text` but the first, computed token by token.
fn log_likelihoods(text: &[u8]) -> Vec<f64> {
    let mut model =
        TextGenerator::new(model(), Tokeniser::Bytes, &weights(), &OpenDevice::cpu()).unwrap();
    let tokens: Vec<u32> = text.iter().map(|byte| u32::from(*byte)).collect();
    (1..tokens.len())
        .map(|end| {
            let scores: Vec<f64> = model
                .logits(&tokens[..end])
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            scores[tokens[end] as usize] - most - total.ln()
        })
        .collect()
}

fn question(context: &str, choices: &[&str], answer: usize) -> Record {
    Record {
        place: "task.jsonl".into(),
        value: json!({"context": context, "choices": choices, "answer": answer}),
    }
}

fn scores(records: Vec<Record>) -> TaskScores {
    let asked = Asked::all(None, records, &Examples::default(), None)
        .unwrap()
        .remove(0);
    let scores = evaluator()
        .requests(asked.requests(), &mut |_, _| {})
        .unwrap();
    TaskScores::of(&asked, &scores)
}

fn value(scores: &TaskScores, metric: Metric) -> f64 {
    let mut measured = scores.metrics.iter();
    measured.find(|found| found.metric == metric).unwrap().value
}

#[test]
fn a_text_is_predicted_in_consecutive_windows() {
    let text =
        b"All happy families are alike; each unhappy family is unhappy in its own way. Everything";
    let found = evaluator().text(text, &mut |_, _| {}).unwrap();
    assert_eq!(
        (found.tokens, found.bytes),
        (text.len() as u64 - 1, text.len() as u64 - 1)
    );
    // 40 predictions each; the last window has the rest.
    let windows = [&text[..41], &text[40..81], &text[80..]];
    let nats: f64 = windows
        .iter()
        .flat_map(|window| log_likelihoods(window))
        .map(|likelihood| -likelihood)
        .sum();
    assert!(
        (found.nats_per_token / (nats / found.tokens as f64) - 1.0).abs() < 1e-5,
        "{found:?}, {nats}"
    );
    assert_eq!(found.nats_per_byte, found.nats_per_token);
    for (text, expected) in [(&b"x"[..], "one token"), (b"", "no tokens")] {
        let why = evaluator().text(text, &mut |_, _| {}).unwrap_err();
        assert!(why.to_string().contains(expected), "{why}");
        assert!(why.hint().unwrap().contains("more text"));
    }
}

#[test]
fn an_answer_is_as_likely_as_its_tokens_after_the_question() {
    let context = "Question: What is the colour of the sky?\nAnswer:";
    let choices = ["blue", "a rather deep shade of green", "red"];
    let likelihood = |choice: &str| {
        // The model sees only the end of a question longer than its context.
        let whole = format!("{context} {choice}");
        let seen = &whole.as_bytes()[whole.len().saturating_sub(41)..];
        let all = log_likelihoods(seen);
        all[all.len() - choice.len() - 1..].iter().sum::<f64>()
    };
    let by = |value: &dyn Fn(&str) -> f64| {
        (0..3)
            .max_by(|a, b| value(choices[*a]).total_cmp(&value(choices[*b])))
            .unwrap()
    };
    let likeliest = by(&likelihood);
    let for_its_length = by(&|choice| likelihood(choice) / choice.len() as f64);
    assert_ne!(
        likeliest, for_its_length,
        "choose other answers: these do not distinguish the two scores"
    );
    let ask = |answer| {
        let found = scores(vec![question(context, &choices, answer)]);
        (
            value(&found, Metric::Accuracy),
            value(&found, Metric::NormalisedAccuracy),
        )
    };
    assert_eq!(ask(likeliest), (1.0, 0.0));
    assert_eq!(ask(for_its_length), (0.0, 1.0));
}

#[test]
fn many_questions_of_any_length_are_answered_together() {
    let questions: Vec<Record> = (0..30)
        .map(|number| {
            question(
                &"so ".repeat(number % 7),
                &["it is", "it is not so at all", "no", "n"],
                number % 3,
            )
        })
        .collect();
    let asked = Asked::all(None, questions.clone(), &Examples::default(), None).unwrap();
    let mut told = Vec::new();
    let found = evaluator()
        .requests(asked[0].requests(), &mut |done, total| {
            told.push((done, total))
        })
        .unwrap();
    assert_eq!(told.last(), Some(&(120, 120)));
    let found = TaskScores::of(&asked[0], &found);
    for (number, question) in questions.iter().enumerate() {
        let alone = scores(vec![question.clone()]);
        for (alone, together) in alone.documents[0]
            .requests
            .iter()
            .zip(&found.documents[number].requests)
        {
            let difference = alone.log_likelihood - together.log_likelihood;
            assert!(difference.abs() < 1e-4, "{number}: {difference}");
        }
    }
    let accuracy = &found.metrics[0];
    let expected = (accuracy.value * (1.0 - accuracy.value) / 29.0).sqrt();
    assert!((accuracy.standard_error.unwrap() - expected).abs() < 1e-12);
}

#[test]
fn a_text_is_greedy_if_each_of_its_tokens_is_the_likeliest() {
    let mut text = b"The rest of the ".to_vec();
    let mut generator =
        TextGenerator::new(model(), Tokeniser::Bytes, &weights(), &OpenDevice::cpu()).unwrap();
    let mut is_likeliest = |text: &[u8], next: u8| {
        let tokens: Vec<u32> = text.iter().map(|byte| u32::from(*byte)).collect();
        let logits = generator.logits(&tokens).unwrap();
        logits
            .iter()
            .all(|other| *other <= logits[usize::from(next)])
    };
    let mut found = [false; 2];
    for letter in b'a'..=b'z' {
        text.push(letter);
        // This model likes to repeat itself, and never says "~".
        for next in [letter, b'~'] {
            let request = Request {
                context: std::str::from_utf8(&text).unwrap().into(),
                continuation: char::from(next).into(),
            };
            let scores = evaluator().requests([&request], &mut |_, _| {}).unwrap();
            let expected = is_likeliest(&text, next);
            assert_eq!(scores[0].is_greedy, expected);
            found[usize::from(expected)] = true;
        }
    }
    assert_eq!(found, [true; 2], "choose other weights: these do not tell");
}

#[test]
fn subjects_of_mmlu_are_weighted_by_their_questions() {
    let record = |subject: &str, number: usize| Record {
        place: String::new(),
        value: json!({
            "subject": subject, "question": format!("Number {number}?"),
            "choices": ["a", "b", "c", "d"], "answer": number % 4,
        }),
    };
    let subjects = [("anatomy", 8), ("sociology", 4), ("virology", 2)];
    let records: Vec<Record> = subjects
        .iter()
        .flat_map(|(subject, count)| (0..*count).map(|number| record(subject, number)))
        .collect();
    let asked = Asked::all(None, records, &Examples::default(), None).unwrap();
    let all: Vec<TaskScores> = asked
        .iter()
        .map(|asked| {
            let mut evaluator = evaluator();
            let scores = evaluator
                .requests(asked.requests(), &mut |_, _| {})
                .unwrap();
            TaskScores::of(asked, &scores)
        })
        .collect();
    let groups = mmlu_groups(&all);
    let told: Vec<(String, usize, usize)> = groups
        .iter()
        .map(|group| (group.group.to_string(), group.subjects, group.questions))
        .collect();
    assert_eq!(
        told,
        [
            ("mmlu".to_owned(), 3, 14),
            ("mmlu_stem".to_owned(), 1, 8),
            ("mmlu_other".to_owned(), 1, 2),
            ("mmlu_social_sciences".to_owned(), 1, 4),
        ]
    );
    let right: f64 = all
        .iter()
        .map(|scores| scores.metrics[0].value * scores.questions as f64)
        .sum();
    assert!((groups[0].accuracy.value - right / 14.0).abs() < 1e-12);
}
