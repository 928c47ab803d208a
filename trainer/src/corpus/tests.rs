//! A corpus of texts and of prepared tokens.

use std::time::{Duration, SystemTime};

use super::floors::Floors;
use super::part::Part;
use super::shards::TokenPart;
use super::source::TextSource;
use super::tokenised::Corpus;
use crate::data::{Prepare, PreparedFolder};
use crate::tokeniser::Tokeniser;

fn bytes_corpus(text: &[u8]) -> Corpus {
    Corpus::new(&[TextSource::Text(text.to_vec())], Tokeniser::Bytes).unwrap()
}

#[test]
fn the_last_tenth_of_each_source_is_held_out_and_ends_like_a_document() {
    let sources = [
        TextSource::Text(vec![b'a'; 100]),
        TextSource::Text(vec![b'b'; 50]),
    ];
    let corpus = Corpus::new(&sources, Tokeniser::Bytes).unwrap();
    assert_eq!(
        (corpus.training_tokens(), corpus.heldout_tokens()),
        (137, 17)
    );
    let heldout = corpus.heldout_window(0, 16).unwrap().tokens;
    assert_eq!(heldout[..10], [u32::from(b'a'); 10]);
    assert_eq!(heldout[10], u32::from(b'\n'));
    assert_eq!(heldout[11..16], [u32::from(b'b'); 5]);
}

#[test]
fn windows_cover_the_part_and_nothing_beyond_it() {
    let corpus = bytes_corpus(&(0..100).collect::<Vec<u8>>());
    assert_eq!(corpus.training.windows(8), 83);
    assert_eq!(
        corpus.training_window(81, 8).unwrap().tokens,
        (81..=89).collect::<Vec<u32>>()
    );
    assert!(corpus.training_window(83, 8).is_err());
    assert!(corpus.training_window(u64::MAX, 8).is_err());
}

#[test]
fn a_text_shorter_than_a_window_is_refused_with_what_it_needs() {
    let message = bytes_corpus(&[b'x'; 100])
        .check(16)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("held-out part of the data has 11 tokens") && message.contains("17"),
        "{message}"
    );
    bytes_corpus(&[b'x'; 200]).check(16).unwrap();
}

/// Prepares documents, one per line, as shards that end at `shard_tokens` tokens.
fn prepared(lines: &str, shard_tokens: u64) -> (tempfile::TempDir, Corpus) {
    let dir = tempfile::tempdir().unwrap();
    let (text, folder) = (dir.path().join("x.txt"), dir.path().join("tokens"));
    std::fs::write(&text, lines).unwrap();
    let usual = Prepare::new(vec![text.display().to_string()], Tokeniser::Bytes);
    let prepare = Prepare {
        separator: b"\n".to_vec(),
        heldout_ppm: 200_000,
        shard_tokens,
        ..usual
    };
    prepare
        .run(&folder, &mut |_| std::ops::ControlFlow::Continue(()))
        .unwrap();
    let (training, heldout) = TokenPart::of_folder(&PreparedFolder::open(&folder).unwrap());
    (
        dir,
        Corpus::prepared(&training, &heldout, Tokeniser::Bytes).unwrap(),
    )
}

fn all(part: &Part) -> Vec<u32> {
    part.window(0, part.len() - 1).unwrap().tokens
}

#[test]
fn windows_do_not_depend_on_how_the_text_is_cut_into_shards() {
    let lines: String = (0..300)
        .map(|number| format!("document {number}\n"))
        .collect();
    let (_one_dir, one) = prepared(&lines, 1 << 20);
    let (_many_dir, many) = prepared(&lines, 50);
    assert_eq!(one.training_tokens() + one.heldout_tokens(), lines.len());
    assert_eq!(
        (all(&one.training), all(&one.heldout)),
        (all(&many.training), all(&many.heldout))
    );
    let tokens = all(&many.training);
    for start in 0..many.training.windows(120) {
        let window = many.training_window(start, 120).unwrap();
        assert_eq!(window.tokens, tokens[start as usize..start as usize + 121]);
    }
    assert!(
        many.training_window(many.training.windows(120), 120)
            .is_err()
    );
    assert!(many.training_window(u64::MAX, 120).is_err());
    assert_ne!(one.digest(), many.digest());
}

#[test]
fn the_floors_of_prepared_tokens_match_their_text() {
    let lines: String = (0..3_000)
        .map(|number| format!("line {} of it\n", number * 7 % 911))
        .collect();
    let (_dir, corpus) = prepared(&lines, 1 << 20);
    let bytes = |part: &Part| {
        all(part)
            .iter()
            .map(|token| *token as u8)
            .collect::<Vec<u8>>()
    };
    let expected = Floors::measure(&bytes(&corpus.training), &bytes(&corpus.heldout), None);
    assert_eq!(*corpus.floors(), expected);
}

#[test]
fn a_changed_shard_is_refused_by_name() {
    let lines: String = (0..300)
        .map(|number| format!("document {number}\n"))
        .collect();
    let (dir, _) = prepared(&lines, 1 << 20);
    let folder = PreparedFolder::open(&dir.path().join("tokens")).unwrap();
    let (training, heldout) = TokenPart::of_folder(&folder);
    let path = &heldout.shards[0].path;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let why = Corpus::prepared(&training, &heldout, Tokeniser::Bytes)
        .unwrap_err()
        .to_string();
    assert!(
        why.contains(&path.display().to_string()) && why.contains("hash"),
        "{why}"
    );
}

/// A second start reads nothing but headers, and more shards than a process may have open files
/// are no trouble.
#[test]
fn a_second_start_verifies_only_what_has_changed_and_keeps_no_file_open() {
    let lines: String = (0..2_500)
        .map(|number| format!("document {number}\n"))
        .collect();
    let (dir, _) = prepared(&lines, 16);
    let folder = PreparedFolder::open(&dir.path().join("tokens")).unwrap();
    let (mut training, heldout) = TokenPart::of_folder(&folder);
    assert!(training.shards.len() + heldout.shards.len() > 1_024);
    let verified = dir.path().join("verified");
    let open_as = |training: &TokenPart, heldout: &TokenPart, now| {
        Corpus::open(training, heldout, Tokeniser::Bytes, Some((&verified, now)))
    };
    let open = |now| open_as(&training, &heldout, now);

    let names = || -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&std::fs::read(&verified).unwrap()).unwrap_or_default()
    };
    // Files that were written a moment ago might still change within the same clock tick.
    let shards = training.shards.iter().chain(&heldout.shards);
    let written = shards.map(|shard| std::fs::metadata(&shard.path).unwrap().modified().unwrap());
    let corpus = open(written.min().unwrap()).unwrap();
    assert!(!verified.exists() || names().is_empty());
    let tokens = all(&corpus.training);
    if let Ok(open_files) = std::fs::read_dir("/proc/self/fd") {
        assert!(open_files.count() < 200);
    }

    let later = SystemTime::now() + Duration::from_secs(3600);
    open(later).unwrap();
    assert_eq!(names().len(), training.shards.len() + heldout.shards.len());
    // The stamp of a shard is trusted, so its hash is not computed again.
    let mut known = names();
    let stamp = known.remove(&hex::encode(training.shards[7].hash)).unwrap();
    training.shards[7].hash = [9; 32];
    known.insert(hex::encode([9; 32]), stamp);
    std::fs::write(&verified, serde_json::to_vec(&known).unwrap()).unwrap();
    assert_eq!(
        all(&open_as(&training, &heldout, later).unwrap().training),
        tokens
    );

    // A file that has changed is read again.
    let path = &training.shards[7].path;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[33] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let why = open_as(&training, &heldout, later).unwrap_err().to_string();
    assert!(why.contains("hash"), "{why}");
}

#[test]
fn the_digest_follows_the_text_and_its_division_into_sources() {
    let one = Corpus::new(&[TextSource::Text(b"abcd".to_vec())], Tokeniser::Bytes).unwrap();
    let two = [
        TextSource::Text(b"ab".to_vec()),
        TextSource::Text(b"cd".to_vec()),
    ];
    assert_ne!(
        one.digest(),
        Corpus::new(&two, Tokeniser::Bytes).unwrap().digest()
    );
    assert_eq!(one.digest(), bytes_corpus(b"abcd").digest());
}
