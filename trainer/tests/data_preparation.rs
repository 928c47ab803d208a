//! Preparing data from files, URLs and Hugging Face.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod report;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use report::report;
use server::{Server, Trouble};
use sha2::{Digest, Sha256};
use weal_trainer::{
    Corpus, DownloadClient, Error, LeftOut, Prepare, PrepareProgress, PrepareSummary,
    PreparedFolder, TokenPart, Tokeniser,
};

/// A word-level tokeniser with an end-of-text token.
const WORDS: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
    {"id":3,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
    "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
    "model":{"type":"WordLevel","vocab":{"<unk>":0,"the":1,"sea":2,"</s>":3},
    "unk_token":"<unk>"}}"#;

/// A temporary folder with data files.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn names(&self) -> BTreeSet<String> {
        fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn run(&self, prepare: &Prepare) -> weal_trainer::Result<PrepareSummary> {
        prepare.run(&self.path("tokens"), &mut |_| ControlFlow::Continue(()))
    }
}

/// A client that fails fast.
fn client(endpoint: &str) -> DownloadClient {
    let mut client = DownloadClient::default();
    client.endpoint = endpoint.to_owned();
    (client.attempts, client.pause) = (4, Duration::from_millis(5));
    client
}

fn prepare(sources: &[&str]) -> Prepare {
    let usual = Prepare::new(
        sources.iter().map(|source| (*source).to_owned()).collect(),
        Tokeniser::Bytes,
    );
    Prepare {
        heldout_ppm: 200_000,
        ..usual
    }
}

fn lines(documents: impl IntoIterator<Item = String>) -> String {
    documents
        .into_iter()
        .map(|text| format!("{}\n", serde_json::json!({ "text": text })))
        .collect()
}

fn documents(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("document {number} {}", "word ".repeat(number % 300)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The text of the training part and of the held-out part.
fn texts(folder: &Path) -> (String, String) {
    let folder = PreparedFolder::open(folder).unwrap();
    folder.check(&mut |_, _| {}).unwrap();
    let text = |part: &weal_trainer::PreparedPart| {
        let mut bytes = Vec::new();
        for shard in &part.shards {
            let file = fs::read(folder.shard(shard)).unwrap();
            let tokens = &file[32..32 + 2 * shard.tokens as usize];
            bytes.extend(
                tokens
                    .as_chunks()
                    .0
                    .iter()
                    .map(|pair| u16::from_le_bytes(*pair) as u8),
            );
        }
        String::from_utf8(bytes).unwrap()
    };
    (text(&folder.index.training), text(&folder.index.heldout))
}

#[test]
fn the_same_text_gives_the_same_shards_in_any_form() {
    let place = Workspace::new();
    let text = lines(documents(2_000));
    let plain = place.write("plain/a.jsonl", &text);
    let gz = place.write("gz/a.jsonl.gz", gzip(text.as_bytes()));
    let zst = place.write(
        "zst/a.json.zst",
        zstd::encode_all(text.as_bytes(), 3).unwrap(),
    );
    let mut found = BTreeSet::new();
    for (source, threads) in [(&plain, 1), (&plain, 7), (&gz, 2), (&zst, 3)] {
        let summary = place
            .run(&Prepare {
                threads,
                ..prepare(&[source])
            })
            .unwrap();
        let index = summary.index;
        found.insert(format!("{:?} {:?}", index.training, index.heldout));
        fs::remove_dir_all(place.path("tokens")).unwrap();
    }
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn every_document_is_on_one_side_and_copies_are_on_the_same() {
    let place = Workspace::new();
    let all: Vec<String> = documents(1_000).collect();
    let source = place.write("a.jsonl", lines(all.iter().chain(&all).cloned()));
    let summary = place.run(&prepare(&[&source])).unwrap();
    let (training, heldout) = texts(&place.path("tokens"));
    let side = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (learnt, measured) = (side(&training), side(&heldout));
    assert!(learnt.is_disjoint(&measured));
    assert_eq!(learnt.len() + measured.len(), 1_000);
    assert!((100..300).contains(&measured.len()), "{}", measured.len());
    assert_eq!(summary.index.sources[0].documents, 2_000);
    assert_eq!(training.lines().count() + heldout.lines().count(), 2_000);
}

#[test]
fn a_copy_with_other_white_space_is_on_the_same_side() {
    let place = Workspace::new();
    let all: Vec<String> = documents(400).collect();
    let copies = all
        .iter()
        .map(|text| format!("\u{feff}{}\r\n", text.replace(' ', "  ")));
    let source = place.write("a.jsonl", lines(all.iter().cloned().chain(copies)));
    place.run(&prepare(&[&source])).unwrap();
    let (training, heldout) = texts(&place.path("tokens"));
    let side = |text: &str| -> BTreeSet<String> {
        let words = |line: &str| {
            line.trim_start_matches('\u{feff}')
                .split_whitespace()
                .collect()
        };
        text.lines().map(words).collect::<BTreeSet<String>>()
    };
    assert!(side(&training).is_disjoint(&side(&heldout)));
    assert_eq!(side(&training).len() + side(&heldout).len(), 400);
}

/// However little text there is, some of it can be held out and some is left to train on.
#[test]
fn a_single_document_is_divided_and_the_summary_says_so() {
    let book: String = (0..1_500)
        .map(|number| format!("line {number} of a short book\n"))
        .collect();
    for heldout_ppm in [1, 20_000, 200_000, 500_000] {
        for (name, text) in [
            ("one.txt", book.clone()),
            ("one.jsonl", lines([book.clone()])),
        ] {
            let place = Workspace::new();
            let source = place.write(name, &text);
            let wanted = Prepare {
                heldout_ppm,
                ..prepare(&[&source])
            };
            let summary = place.run(&wanted).unwrap();
            let note = summary.heldout_note.unwrap();
            assert!(note.contains("pieces"), "{note}");
            let (training, heldout) = texts(&place.path("tokens"));
            let share = heldout.len() as f64 / book.len() as f64;
            let asked = f64::from(heldout_ppm) / 1e6;
            assert!(
                share > asked * 0.8 && share < asked + 0.3,
                "{share} of {asked}"
            );
            let mut both: Vec<&str> = training.lines().chain(heldout.lines()).collect();
            both.sort_unstable();
            let mut whole: Vec<&str> = book.lines().collect();
            whole.sort_unstable();
            assert_eq!(both, whole);
            assert_eq!(summary.index.sources[0].documents, 1);
        }
    }
}

#[test]
fn of_few_documents_a_whole_one_is_held_out() {
    let place = Workspace::new();
    let source = place.write("a.jsonl", lines(documents(30)));
    let wanted = Prepare {
        heldout_ppm: 1,
        ..prepare(&[&source])
    };
    let summary = place.run(&wanted).unwrap();
    assert!(summary.heldout_note.unwrap().contains("one document"));
    assert_eq!(summary.index.heldout.documents, 1);
    assert_eq!(summary.index.training.documents, 29);
}

#[test]
fn nothing_held_out_is_refused_before_anything_is_written() {
    let place = Workspace::new();
    for (text, heldout_ppm, needle) in [
        (lines(documents(100)), 0, "held-out"),
        (lines(["too short".to_owned()]), 20_000, "so little text"),
        (
            lines(["the same".to_owned(), "the  same\n".to_owned()]),
            20_000,
            "so little text",
        ),
        (lines([" \n".to_owned()]), 20_000, "no text"),
    ] {
        let source = place.write("a.jsonl", &text);
        let wanted = Prepare {
            heldout_ppm,
            ..prepare(&[&source])
        };
        let why = report(&place.run(&wanted).unwrap_err());
        assert!(why.contains(needle), "{why}");
        assert_eq!(place.names(), ["a.jsonl".to_owned()].into());
    }
}

#[test]
fn a_book_keeps_its_order_and_some_of_its_sections_are_held_out() {
    let place = Workspace::new();
    let book: String = (0..60_000)
        .map(|number| format!("line {number:06}\n"))
        .collect();
    let source = place.write("book.txt", &book);
    place
        .run(&Prepare {
            shard_tokens: 100_000,
            ..prepare(&[&source])
        })
        .unwrap();
    let (training, heldout) = texts(&place.path("tokens"));
    for part in [&training, &heldout] {
        assert!(part.lines().collect::<Vec<_>>().is_sorted());
    }
    let mut both: Vec<&str> = training.lines().chain(heldout.lines()).collect();
    both.sort_unstable();
    assert_eq!(both, book.lines().collect::<Vec<_>>());
}

/// The tokens of each document of a folder, and whether each is learnt; nothing if all are.
fn learnt(folder: &Path) -> Vec<(Vec<u16>, Vec<bool>)> {
    let folder = PreparedFolder::open(folder).unwrap();
    folder.check(&mut |_, _| {}).unwrap();
    let mut documents = Vec::new();
    for part in [&folder.index.training, &folder.index.heldout] {
        let file = fs::read(folder.shard(&part.shards[0])).unwrap();
        let (tokens, rest) = file[32..].split_at(2 * part.tokens as usize);
        let (counts, bits) = rest.split_at(4 * part.documents as usize);
        let tokens = tokens.as_chunks().0.iter();
        let tokens: Vec<u16> = tokens.map(|pair| u16::from_le_bytes(*pair)).collect();
        let mut start = 0;
        for count in counts.as_chunks().0 {
            let range = start..start + u32::from_le_bytes(*count) as usize;
            let bits = range
                .clone()
                .map(|at| bits.get(at / 8).map(|byte| byte >> (at % 8) & 1 == 1));
            documents.push((tokens[range.clone()].to_vec(), bits.flatten().collect()));
            start = range.end;
        }
    }
    documents
}

#[test]
fn conversations_are_written_by_the_template_and_only_answers_are_learnt_if_asked() {
    let template = "{% for m in messages %}{{ 'sea ' if m.role == 'assistant' else 'the ' }}\
                    {{ m.content }}</s>{% endfor %}";
    let answers: Vec<String> = (0..12u32)
        .map(|n| {
            (0..4)
                .map(|bit| if n >> bit & 1 == 1 { "the " } else { "sea " })
                .collect()
        })
        .collect();
    let conversation = |answer: &String| {
        let (ask, answer) = ("the</s>", answer.trim());
        let messages = serde_json::json!([
            {"role": "user", "content": ask}, {"role": "assistant", "content": answer}]);
        format!("{}\n", serde_json::json!({ "messages": messages }))
    };
    let text: String = answers.iter().map(conversation).collect();
    for loss_on_answers in [false, true] {
        let place = Workspace::new();
        let json = place.write("tokenizer.json", WORDS);
        let config = serde_json::json!({ "eos_token": "</s>", "chat_template": template });
        place.write("tokenizer_config.json", config.to_string());
        let source = place.write("a.jsonl", format!("{text}{{\"messages\":[]}}\n"));
        let wanted = Prepare {
            tokeniser: Tokeniser::from_file(Path::new(&json)).unwrap(),
            text_field: "messages".to_owned(),
            loss_on_answers,
            ..prepare(&[&source])
        };
        let summary = place.run(&wanted).unwrap();
        assert_eq!(summary.index.sources[0].bad, 1);
        assert_eq!(summary.index.sources[0].documents, 12);
        for (tokens, learnt) in learnt(&place.path("tokens")) {
            // The asker's end of text is text, which this tokeniser does not know.
            assert_eq!((tokens[0], tokens[1]), (1, 1), "{tokens:?}");
            let second = tokens.iter().position(|token| *token == 3).unwrap() + 1;
            assert_eq!((tokens[second], tokens.last()), (2, Some(&3)));
            let expected: Vec<bool> = (0..tokens.len()).map(|at| at > second).collect();
            assert_eq!(
                learnt,
                if loss_on_answers { expected } else { vec![] },
                "{tokens:?}"
            );
        }
    }
}

#[test]
fn messages_without_a_chat_template_are_refused_by_name() {
    let place = Workspace::new();
    let line = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
    let source = place.write("a.jsonl", line);
    let wanted = Prepare {
        text_field: "messages".to_owned(),
        ..prepare(&[&source])
    };
    let why = report(&place.run(&wanted).unwrap_err());
    assert!(why.contains("chat template"), "{why}");
}

#[test]
fn a_tokeniser_ends_each_document_with_its_token() {
    let place = Workspace::new();
    let json = place.write("tokenizer.json", WORDS);
    let tokeniser = Tokeniser::from_file(Path::new(&json)).unwrap();
    assert_eq!(tokeniser.special().end_of_text(), Some(3));
    let source = place.write("a.txt", "the sea|the|the sea the");
    let wanted = Prepare {
        separator: b"|".to_vec(),
        tokeniser,
        heldout_ppm: 1,
        ..prepare(&[&source])
    };
    let index = place.run(&wanted).unwrap().index;
    let folder = PreparedFolder::open(&place.path("tokens")).unwrap();
    let kept = folder.tokeniser().unwrap();
    assert!(matches!(&kept, Tokeniser::File(file) if file.json() == WORDS.as_bytes()));
    assert_eq!(kept.special(), &index.special);
    let (mut documents, mut bytes) = (Vec::new(), 0);
    for part in [&index.training, &index.heldout] {
        let file = fs::read(folder.shard(&part.shards[0])).unwrap();
        let tokens = file[32..32 + 2 * part.tokens as usize].as_chunks().0.iter();
        let tokens: Vec<u16> = tokens.map(|pair| u16::from_le_bytes(*pair)).collect();
        let ended = tokens.split_inclusive(|token| *token == 3);
        documents.extend(ended.map(<[u16]>::to_vec));
        bytes += part.text_bytes;
    }
    documents.sort();
    assert_eq!(documents, [vec![1, 2, 1, 3], vec![1, 2, 3], vec![1, 3]]);
    assert_eq!(bytes, 21);
}

#[test]
fn a_learner_trains_on_prepared_tokens() {
    let place = Workspace::new();
    let source = place.write("a.jsonl", lines(documents(500)));
    place.run(&prepare(&[&source])).unwrap();
    let (training, heldout) =
        TokenPart::of_folder(&PreparedFolder::open(&place.path("tokens")).unwrap());
    let corpus = Corpus::prepared(&training, &heldout, Tokeniser::Bytes).unwrap();
    assert_eq!(
        corpus.training_tokens() as u64,
        training
            .shards
            .iter()
            .map(|shard| shard.tokens)
            .sum::<u64>()
    );
    let device = weal_trainer::OpenDevice::cpu();
    let model = weal_trainer::ModelSpec {
        layers: 1,
        context: 32,
        ..weal_trainer::ModelSpec::preset("nano").unwrap()
    };
    let theta = weal_trainer::initial_weights(&model, &[0; 32]).unwrap();
    let inner = weal_trainer::InnerSpec {
        steps: 5,
        batch: 4,
        ..weal_trainer::InnerSpec::default()
    };
    let mut learner = weal_trainer::Learner::new(model, inner, corpus.into(), &device).unwrap();
    let assignment = weal_trainer::Assignment::newcomer([1; 32], [2; 32]);
    let trained = learner
        .train(&theta, &assignment, 0, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!((trained.steps, trained.samples), (5, 20));
    assert!(trained.data_seconds < trained.seconds);
    assert!(learner.heldout_loss(&theta, 0).unwrap().nats_per_byte > 0.0);
}

#[test]
fn bad_records_are_counted_and_listed() {
    let place = Workspace::new();
    let good = lines(documents(200));
    let source = place.write(
        "a.jsonl",
        format!("{good}not json\n{{\"text\":7}}\n{{\"text\":\"  \"}}\n{good}{{}}\n"),
    );
    let binary = place.write("b.txt", [&b"caf\xe9"[..], "déjà vu".as_bytes()].concat());
    let json = place.write("tokenizer.json", WORDS);
    let tokeniser = Tokeniser::from_file(Path::new(&json)).unwrap();
    let wanted = Prepare {
        tokeniser,
        ..prepare(&[&source, &binary])
    };
    let summary = place.run(&wanted).unwrap();
    let counts: Vec<_> = summary
        .index
        .sources
        .iter()
        .map(|s| (s.documents, s.empty, s.bad))
        .collect();
    assert_eq!(counts, [(400, 1, 3), (0, 0, 1)]);
    let named = fs::read_to_string(place.path("tokens/bad-records.txt")).unwrap();
    let starts = [
        "a.jsonl, line 201: not JSON",
        "a.jsonl, line 202: its \"text\"",
        "a.jsonl, line 404: it has no",
        "b.txt, byte 0: not UTF-8 from its byte 3",
    ];
    assert_eq!(named.lines().count(), 4);
    for (line, start) in named.lines().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(summary.bad, named.lines().collect::<Vec<_>>());
    fs::remove_dir_all(place.path("tokens")).unwrap();
    let why = place
        .run(&Prepare {
            strict: true,
            ..wanted
        })
        .unwrap_err()
        .to_string();
    assert!(why.contains("a.jsonl, line 201"), "{why}");
}

#[test]
fn a_failed_or_stopped_preparation_leaves_nothing_behind() {
    let place = Workspace::new();
    let good = place.write("a.jsonl", lines(documents(300)));
    let mut cut = gzip(lines(documents(3_000)).as_bytes());
    cut.truncate(cut.len() - 20);
    let damaged = place.write("b.jsonl.gz", cut);
    let empty = place.write("c.txt", "");
    let before = place.names();
    for (sources, reason) in [
        (vec![&*good, &*damaged], "b.jsonl.gz"),
        (vec![&*empty], "no text to learn from"),
        (vec!["/nowhere"], "/nowhere"),
    ] {
        let why = place.run(&prepare(&sources)).unwrap_err().to_string();
        assert!(why.contains(reason), "{why}");
        assert_eq!(place.names(), before);
    }
    let stopped = prepare(&[&good]).run(&place.path("tokens"), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!(place.names(), before);
}

#[test]
fn an_existing_folder_is_not_overwritten() {
    let place = Workspace::new();
    let source = place.write("a.jsonl", lines(documents(300)));
    place.write("tokens/mine.txt", "mine");
    let why = report(&place.run(&prepare(&[&source])).unwrap_err());
    assert!(why.contains("tokens") && why.contains("already"), "{why}");
    assert_eq!(
        fs::read_to_string(place.path("tokens/mine.txt")).unwrap(),
        "mine"
    );
}

#[test]
fn the_index_and_its_shards_are_checked() {
    let place = Workspace::new();
    let source = place.write("a.jsonl", lines(documents(300)));
    place.run(&prepare(&[&source])).unwrap();
    let folder = PreparedFolder::open(&place.path("tokens")).unwrap();
    let shard = folder.shard(&folder.index.heldout.shards[0]);
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let why = folder.check(&mut |_, _| {}).unwrap_err().to_string();
    assert!(why.contains(&shard.display().to_string()), "{why}");
    place.write("tokens/index.json", "{\"format\":\"other\"}");
    assert!(
        PreparedFolder::open(&place.path("tokens"))
            .unwrap_err()
            .to_string()
            .contains("index.json")
    );
}

#[test]
fn progress_ends_at_the_total() {
    let place = Workspace::new();
    let source = place.write("a.jsonl", lines(documents(3_000)));
    let mut last = PrepareProgress::default();
    let told = &mut |progress: &PrepareProgress| {
        assert!(progress.read_bytes >= last.read_bytes && progress.documents >= last.documents);
        last = *progress;
        ControlFlow::Continue(())
    };
    prepare(&[&source])
        .run(&place.path("tokens"), told)
        .unwrap();
    assert_eq!(
        (last.read_bytes, last.documents),
        (fs::metadata(source).unwrap().len(), 3_000)
    );
    assert_eq!(last.total_bytes, last.read_bytes);
}

/// Prepares the same data from a faulty server and from disk, and compares.
fn from_server(trouble: &[Trouble]) -> (Workspace, Server, weal_trainer::Result<PrepareSummary>) {
    let place = Workspace::new();
    let text = lines(documents(20_000));
    let local = place.write("local/a.jsonl", &text);
    let expected = place.run(&prepare(&[&local])).unwrap().index;
    fs::remove_dir_all(place.path("tokens")).unwrap();
    let server = Server::start(&[("/data/a.jsonl", text.as_bytes())], trouble);
    let url = format!("{}/data/a.jsonl?download=true", server.url());
    let summary = place.run(&Prepare {
        client: client(&server.url()),
        ..prepare(&[&url])
    });
    if let Ok(summary) = &summary {
        assert_eq!(
            (&summary.index.training, &summary.index.heldout),
            (&expected.training, &expected.heldout)
        );
        assert_eq!(place.names(), ["local", "tokens"].map(str::to_owned).into());
    }
    (place, server, summary)
}

#[test]
fn a_file_is_downloaded_over_http() {
    let (_, server, summary) = from_server(&[]);
    summary.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_interrupted_transfer_resumes_where_it_stopped() {
    let (_, server, summary) = from_server(&[
        Trouble::BreakAfter(700_000),
        Trouble::BreakAfter(900_000),
        Trouble::Busy,
    ]);
    summary.unwrap();
    let ranges: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.range)
        .collect();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0], None);
    assert!(
        ranges[1].is_some_and(|start| start > 0) && ranges[2] > ranges[1] && ranges[3] == ranges[2],
        "{ranges:?}"
    );
}

#[test]
fn a_file_that_changed_meanwhile_is_downloaded_again() {
    let (_, server, summary) = from_server(&[Trouble::BreakAfter(700_000), Trouble::Changed]);
    summary.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (_, server, summary) = from_server(&[Trouble::NoRanges, Trouble::BreakAfter(700_000)]);
    summary.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_next_attempt_uses_earlier_downloads() {
    let trouble = [700_000, 1, 1, 1, 1].map(Trouble::BreakAfter);
    let (place, server, summary) = from_server(&trouble);
    let why = report(&summary.unwrap_err());
    assert!(
        why.contains("/data/a.jsonl") && why.contains("resumes where it stopped"),
        "{why}"
    );
    assert_eq!(
        place.names(),
        ["local", "tokens.downloads"].map(str::to_owned).into()
    );
    let url = format!("{}/data/a.jsonl?download=true", server.url());
    place
        .run(&Prepare {
            client: client(&server.url()),
            ..prepare(&[&url])
        })
        .unwrap();
    assert!(
        server
            .requests()
            .last()
            .unwrap()
            .range
            .is_some_and(|start| start >= 700_000 - 65_536)
    );
}

#[test]
fn a_refused_download_has_a_hint() {
    for (trouble, hint) in [
        (Trouble::Missing, "check the address"),
        (Trouble::Forbidden, "HF_TOKEN"),
    ] {
        let (_, server, summary) = from_server(&[trouble]);
        let why = report(&summary.unwrap_err());
        assert!(why.contains(hint) && why.contains("/data/a.jsonl"), "{why}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_hopeless_transfer_is_given_up_at_once() {
    let refused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let server = Server::start(&[], &[]);
    for (url, why) in [
        (
            "http://no.such.host.invalid/a.jsonl".to_owned(),
            "check the address",
        ),
        (format!("http://127.0.0.1:{refused}/a.jsonl"), "its port"),
        ("https://[::1/a.jsonl".to_owned(), "check the address"),
        ("http://".to_owned(), "check the address"),
    ] {
        let place = Workspace::new();
        let mut client = client(&server.url());
        // A second attempt would take longer than the test may.
        client.pause = Duration::from_secs(3600);
        let told = report(
            &place
                .run(&Prepare {
                    client,
                    ..prepare(&[&url])
                })
                .unwrap_err(),
        );
        assert!(told.contains(&url) && told.contains(why), "{told}");
    }
}

#[test]
fn a_wait_for_a_server_ends_when_the_preparation_is_stopped() {
    let server = Server::start(&[("/a.jsonl", b"")], &[Trouble::BusyForLong; 9]);
    for by_flag in [false, true] {
        let place = Workspace::new();
        let client = client(&server.url());
        let (stop, before) = (client.stop.clone(), server.requests().len());
        let wanted = Prepare {
            client,
            ..prepare(&[&format!("{}/a.jsonl", server.url())])
        };
        let stopped = wanted.run(&place.path("tokens"), &mut |_| {
            let waits = server.requests().len() > before;
            stop.store(waits && by_flag, std::sync::atomic::Ordering::Relaxed);
            if waits && !by_flag {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    }
}

/// A server with a data set of two files, listed on two pages.
fn hub(sha256: &str) -> (Server, Vec<u8>) {
    let (one, two) = (
        lines(documents(500)).into_bytes(),
        gzip(lines(documents(700)).as_bytes()),
    );
    let base = "/datasets/someone/books/resolve/v1%2Fx";
    let listing = "/api/datasets/someone/books/tree/v1%2Fx/data?recursive=true";
    let entry = |path: &str, bytes: usize, oid: Option<&str>| {
        let lfs =
            oid.map(|oid| serde_json::json!({ "oid": oid, "size": bytes, "pointerSize": 134 }));
        serde_json::json!({ "type": "file", "oid": "0", "size": bytes, "path": path, "lfs": lfs })
    };
    let folder =
        serde_json::json!({ "type": "directory", "oid": "0", "size": 0, "path": "data/more" });
    let first = serde_json::json!([folder, entry("data/b c.jsonl.gz", two.len(), Some(sha256))]);
    let second = serde_json::json!([
        entry("data/a.jsonl", one.len(), None),
        entry("data/notes.pdf", 3, None)
    ]);
    let (first, second) = (first.to_string(), second.to_string());
    let server = Server::start(
        &[
            (listing, first.as_bytes()),
            (&format!("{listing}&cursor=2"), second.as_bytes()),
            (&format!("{base}/data/a.jsonl"), &one),
            (&format!("{base}/data/b%20c.jsonl.gz"), &two),
        ],
        &[],
    );
    server.link(listing, &format!("{}{listing}&cursor=2", server.url()));
    (server, two)
}

#[test]
fn a_data_set_is_listed_downloaded_and_checked() {
    let place = Workspace::new();
    let content = gzip(lines(documents(700)).as_bytes());
    let (server, _) = hub(&hex::encode(Sha256::digest(&content)));
    let mut client = client(&server.url());
    client.token = Some("secret".into());
    let summary = place
        .run(&Prepare {
            client,
            ..prepare(&["hf://datasets/someone/books@v1%2Fx/data"])
        })
        .unwrap();
    let sources: Vec<_> = summary
        .index
        .sources
        .iter()
        .map(|s| (s.name.as_str(), s.documents))
        .collect();
    assert_eq!(sources, [("data/a.jsonl", 500), ("data/b c.jsonl.gz", 700)]);
    assert_eq!(
        summary.left_out,
        [("data/notes.pdf".to_owned(), LeftOut::OtherType)]
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.authorisation.as_deref() == Some("Bearer secret"))
    );
}

#[test]
fn a_file_with_a_wrong_hash_is_refused() {
    let place = Workspace::new();
    let (server, _) = hub(&"0".repeat(64));
    let wanted = Prepare {
        client: client(&server.url()),
        ..prepare(&["hf://datasets/someone/books@v1%2Fx/data"])
    };
    let why = place.run(&wanted).unwrap_err().to_string();
    assert!(
        why.contains("b%20c.jsonl.gz") && why.contains("SHA-256"),
        "{why}"
    );
    assert!(!place.path("tokens").exists());
}

#[test]
fn a_token_is_sent_to_its_endpoint_only() {
    let place = Workspace::new();
    let server = Server::start(&[("/a.jsonl", lines(documents(300)).as_bytes())], &[]);
    let mut client = client("http://127.0.0.1:1");
    client.token = Some("secret".into());
    place
        .run(&Prepare {
            client,
            ..prepare(&[&format!("{}/a.jsonl", server.url())])
        })
        .unwrap();
    assert_eq!(server.requests()[0].authorisation, None);
}
