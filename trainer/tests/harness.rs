//! Requests and scores against those of lm-evaluation-harness 0.4.13, which
//! `tests/compat/harness.py requests` wrote down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::Value;
use weal_trainer::{
    Asked, Checkpoint, Evaluator, Examples, OpenDevice, Record, Request, Task, read_records,
};

#[derive(Deserialize)]
struct Recorded {
    task: String,
    shots: usize,
    records: Vec<Value>,
    examples: Vec<Value>,
    requests: Vec<(String, String)>,
    scores: BTreeMap<String, Vec<(f64, bool)>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/harness")
}

fn recorded() -> Vec<Recorded> {
    let json = std::fs::read(fixtures().join("requests.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn records(values: &[Value]) -> Vec<Record> {
    let record = |value: &Value| Record {
        place: "task.jsonl".into(),
        value: value.clone(),
    };
    values.iter().map(record).collect()
}

fn asked(recorded: &Recorded) -> Asked {
    let examples = Examples {
        count: recorded.shots,
        records: records(&recorded.examples),
        order: None,
    };
    let task: Task = recorded.task.parse().unwrap();
    let mut all = Asked::all(Some(task), records(&recorded.records), &examples, None).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn every_task_asks_what_the_harness_asks() {
    let all = recorded();
    assert_eq!(all.len(), 26, "thirteen tasks, with and without examples");
    for recorded in all {
        let asked = asked(&recorded);
        let requests: Vec<(String, String)> = asked
            .requests()
            .map(|request| (request.context.to_string(), request.continuation.clone()))
            .collect();
        for (ours, theirs) in requests.iter().zip(&recorded.requests) {
            assert_eq!(ours, theirs, "{}, {} shots", recorded.task, recorded.shots);
        }
        assert_eq!(requests.len(), recorded.requests.len(), "{}", recorded.task);
    }
}

fn evaluator(model: &str) -> Evaluator {
    let Checkpoint {
        model,
        weights,
        tokeniser,
        ..
    } = Checkpoint::read(&fixtures().join(model), None, &mut |_, _| {}).unwrap();
    Evaluator::new(model, tokeniser.unwrap(), &weights, &OpenDevice::cpu()).unwrap()
}

/// The requests score on a model of the fixtures as they did in the harness.
fn assert_scores<'a>(
    evaluator: &mut Evaluator,
    requests: impl IntoIterator<Item = &'a Request> + Clone,
    expected: &[(f64, bool)],
) {
    let scores = evaluator
        .requests(requests.clone(), &mut |_, _| {})
        .unwrap();
    assert_eq!(scores.len(), expected.len());
    for ((score, (likelihood, is_greedy)), request) in scores.iter().zip(expected).zip(requests) {
        let difference = (score.log_likelihood - likelihood).abs();
        assert!(
            difference < 1e-4 * likelihood.abs().max(1.0) && score.is_greedy == *is_greedy,
            "{score:?} for {likelihood} {is_greedy}: {request:?}",
        );
    }
}

#[derive(Deserialize)]
struct Edges {
    requests: Vec<(String, String)>,
    scores: BTreeMap<String, Vec<(f64, bool)>>,
}

fn assert_model(model: &str) {
    let mut evaluator = evaluator(model);
    for recorded in recorded() {
        let asked = asked(&recorded);
        let requests: Vec<&Request> = asked.requests().collect();
        assert_scores(&mut evaluator, requests, &recorded.scores[model]);
    }
    // No context, and white space at its end.
    let edges = std::fs::read(fixtures().join("edges.json")).unwrap();
    let edges: Edges = serde_json::from_slice(&edges).unwrap();
    let requests: Vec<Request> = edges
        .requests
        .iter()
        .map(|(context, continuation)| Request {
            context: context.as_str().into(),
            continuation: continuation.clone(),
        })
        .collect();
    assert_scores(&mut evaluator, &requests, &edges.scores[model]);
}

#[test]
fn every_choice_scores_as_in_the_harness() {
    assert_model("plain");
}

#[test]
fn a_tokeniser_that_begins_every_text_does_so_as_in_the_harness() {
    assert_model("bos");
}

#[test]
fn parquet_and_json_of_any_layout_hold_the_same_records() {
    let values = |path: &Path| -> Vec<Value> {
        let records = read_records(path).unwrap();
        records.into_iter().map(|record| record.value).collect()
    };
    let expected = &recorded()[0].records;
    assert_eq!(&values(&fixtures().join("arc_easy.parquet")), expected);
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = expected.iter().map(Value::to_string).collect();
    for (name, text) in [
        ("lines.jsonl", lines.join("\n")),
        (
            "windows.jsonl",
            format!("\u{feff}{}\r\n\r\n", lines.join("\r\n")),
        ),
        ("array.json", serde_json::to_string(expected).unwrap()),
        (
            "pretty.json",
            serde_json::to_string_pretty(expected).unwrap(),
        ),
        (
            "objects.json",
            expected
                .iter()
                .map(|value| serde_json::to_string_pretty(value).unwrap())
                .collect(),
        ),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut found = values(&path);
        for value in &mut found {
            value.as_object_mut().unwrap().remove("score");
        }
        assert_eq!(&found, expected, "{name}");
    }
}

#[test]
fn what_is_no_question_of_the_task_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"context":"a","choices":["b","c"],"answer":0}"#;
    let arc = r#"{"question":"a","choices":{"text":["b","c"],"label":["A","B"]},"answerKey":"C"}"#;
    let swag = r#"{"activity_label":"a","ctx_a":"b","ctx_b":"c","endings":["d","e"],"label":""}"#;
    let wino = r#"{"sentence":"no gap","option1":"a","option2":"b","answer":"1"}"#;
    let cases: &[(&str, Option<&str>, &[&str])] = &[
        (
            r#"{"context":"a","choices":["b"],"answer":0}"#,
            None,
            &["line 3", "two choices"],
        ),
        (
            r#"{"context":"a","choices":["b","c"],"answer":2}"#,
            None,
            &["line 3", "number 2"],
        ),
        (
            r#"{"context":"a","choices":["b",""],"answer":0}"#,
            None,
            &["line 3", "empty"],
        ),
        (
            r#"{"context":"a"}"#,
            None,
            &["line 3", "missing field `choices`", "context, choices"],
        ),
        ("{", None, &["line 3", "not JSON"]),
        (
            good,
            Some("piqa"),
            &["line 1", "missing field `goal`", "sol1"],
        ),
        (good, Some("mmlu"), &["line 1", "no subject"]),
    ];
    let read = |name: &str, text: &str, task: Option<&str>| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let task = task.map(|task| task.parse().unwrap());
        read_records(&path)
            .and_then(|records| Asked::all(task, records, &Examples::default(), None))
            .unwrap_err()
            .to_string()
    };
    for (bad, task, expected) in cases {
        let why = read("task.jsonl", &format!("{good}\n\n{bad}\n"), *task);
        assert!(why.contains("task.jsonl"), "{why}");
        assert!(expected.iter().all(|part| why.contains(part)), "{why}");
    }
    for (text, expected) in [
        (arc, "answerKey \"C\" is not one of"),
        (swag, "without answers"),
        (wino, "no _"),
        (r#"{"prompt":"a"}"#, "keys are those of no task"),
        ("", "no questions"),
        ("\u{feff}\n", "no questions"),
        ("[1, 2", "not JSON"),
        ("PAR1 and no more", "damaged"),
    ] {
        let why = read("other.json", text, None);
        assert!(why.contains(expected), "{why}");
    }
    let path = dir.path().join("latin.jsonl");
    std::fs::write(&path, b"{\"text\":\"caf\xe9\"}").unwrap();
    let why = read_records(&path).unwrap_err().to_string();
    assert!(why.contains("latin.jsonl"), "{why}");
}

#[test]
fn packed_questions_are_the_same_questions() {
    let dir = tempfile::tempdir().unwrap();
    let text = "{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}\n".repeat(3);
    let plain = dir.path().join("choices.jsonl");
    std::fs::write(&plain, &text).unwrap();
    let values = |path: &Path| -> Vec<Value> {
        let records = read_records(path).unwrap();
        records.into_iter().map(|record| record.value).collect()
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (name, bytes) in [
        ("choices.jsonl.gz", gzip.clone()),
        (
            "choices.jsonl.zst",
            zstd::encode_all(text.as_bytes(), 0).unwrap(),
        ),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(values(&path), values(&plain), "{name}");
    }
    let cut = dir.path().join("cut.jsonl.gz");
    std::fs::write(&cut, &gzip[..gzip.len() / 2]).unwrap();
    let why = read_records(&cut).unwrap_err().to_string();
    assert!(why.contains("cut.jsonl.gz"), "{why}");
}

#[test]
fn examples_that_are_not_there_are_asked_for() {
    let recorded = recorded();
    let examples = |records: Vec<Record>, count: usize| Examples {
        count,
        records,
        order: None,
    };
    let ask = |task: &str, examples: &Examples| {
        let recorded = recorded
            .iter()
            .find(|recorded| recorded.task == task)
            .unwrap();
        let task = Some(task.parse().unwrap());
        Asked::all(task, records(&recorded.records), examples, None)
    };
    let why = ask("piqa", &examples(Vec::new(), 2)).unwrap_err();
    assert!(why.hint().unwrap().contains("--shots-from"), "{why}");
    let own = records(&recorded[0].records);
    let why = ask("arc_easy", &examples(own, 9)).unwrap_err().to_string();
    assert!(why.contains("4 examples, but 9"), "{why}");
    // The harness takes LAMBADA's examples from the questions themselves.
    let found = ask("lambada_openai", &examples(Vec::new(), 2)).unwrap();
    assert!(found[0].documents[0].requests[0].context.contains("\n\n"));
}
