//! Evaluation against the scores of single tokens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_trainer::{
    Evaluator, ModelSpec, OpenDevice, Question, TextGenerator, Tokeniser, initial_weights,
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
    Evaluator::new(
        model(),
        Tokeniser::Bytes,
        None,
        &weights(),
        &OpenDevice::cpu(),
    )
    .unwrap()
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

fn question(context: &str, choices: &[&str], answer: usize) -> Question {
    Question {
        context: context.into(),
        choices: choices.iter().map(|choice| (*choice).into()).collect(),
        answer,
    }
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
    assert!(evaluator().text(b"x", &mut |_, _| {}).is_err());
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
        evaluator()
            .choices(&[question(context, &choices, answer)], &mut |_, _| {})
            .unwrap()
    };
    let found = ask(likeliest);
    assert_eq!(
        (found.questions, found.accuracy, found.normalised_accuracy),
        (1, 1.0, 0.0)
    );
    let found = ask(for_its_length);
    assert_eq!((found.accuracy, found.normalised_accuracy), (0.0, 1.0));
}

#[test]
fn many_questions_of_any_length_are_answered_together() {
    let questions: Vec<Question> = (0..30)
        .map(|number| {
            question(
                &"so ".repeat(number % 7),
                &["it is", "it is not so at all", "no"],
                number % 3,
            )
        })
        .collect();
    let mut told = Vec::new();
    let found = evaluator()
        .choices(&questions, &mut |done, total| told.push((done, total)))
        .unwrap();
    let alone = |question: &Question| {
        evaluator()
            .choices(std::slice::from_ref(question), &mut |_, _| {})
            .unwrap()
            .accuracy
    };
    let mean = questions.iter().map(alone).sum::<f64>() / 30.0;
    assert!((found.accuracy - mean).abs() < 1e-9, "{found:?}, {mean}");
    assert_eq!(told.last(), Some(&(90, 90)));
    assert!((found.standard_error(0.5) - (0.25f64 / 29.0).sqrt()).abs() < 1e-12);
}
