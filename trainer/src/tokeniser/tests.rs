use super::*;

/// A word-level tokeniser with gaps in its ids. White space belongs to no token.
const WORDS: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
    "pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
    "model":{"type":"WordLevel","vocab":{"<unk>":0,"the":1,"sea":2,"é":9},"unk_token":"<unk>"}}"#;

#[test]
fn byte_tokens_round_trip() {
    let text = "Grüße, 世界\n";
    let tokens = Tokeniser::Bytes.encode(text.as_bytes()).unwrap();
    assert_eq!(tokens.len(), text.len());
    assert_eq!(Tokeniser::Bytes.decode(&tokens).unwrap(), text);
    assert_eq!(Tokeniser::Bytes.vocabulary(), 256);
}

#[test]
fn a_tokeniser_file_counts_every_byte_of_the_text() {
    let tokeniser = Tokeniser::from_bytes(WORDS.as_bytes()).unwrap();
    let tokens = tokeniser
        .encode_with_ends("the sea  é the \n".as_bytes())
        .unwrap();
    assert_eq!(tokens.ids, [1, 2, 9, 1]);
    assert_eq!(tokens.ends, [3, 7, 11, 17]);
    assert_eq!(tokeniser.vocabulary(), 10);
}

#[test]
fn long_text_is_cut_at_lines_and_nothing_is_lost() {
    let text = "the sea\n".repeat(20_000);
    let cut: Vec<&str> = pieces(&text).collect();
    assert!(cut.len() > 1 && cut.iter().all(|piece| piece.ends_with('\n')));
    assert_eq!(cut.concat(), text);
    let tokens = Tokeniser::from_bytes(WORDS.as_bytes())
        .unwrap()
        .encode_with_ends(text.as_bytes())
        .unwrap();
    assert_eq!(tokens.ids.len(), 40_000);
    assert_eq!(*tokens.ends.last().unwrap(), text.len() as u64);
    assert!(tokens.ends.is_sorted());
}

#[test]
fn a_file_that_is_not_a_tokeniser_is_named() {
    let message = Tokeniser::from_bytes(b"{}").unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    let message = Tokeniser::from_file(Path::new("/nowhere/t.json"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nowhere/t.json"), "{message}");
}

#[test]
fn long_text_of_a_sentencepiece_has_one_space_before_it() {
    let tokeniser = stream::tests::llama();
    let text = "a b\n".repeat(30_000);
    let a = tokeniser.token_of("▁a").unwrap();
    let plain = tokeniser.token_of("a").unwrap();
    let tokens = tokeniser.encode(text.as_bytes()).unwrap();
    assert_eq!(tokens[0], a);
    assert_eq!(tokens.iter().filter(|token| **token == a).count(), 1);
    let more = tokeniser.encode_on(b"a b").unwrap();
    assert_eq!(more, [plain, tokeniser.token_of("▁b").unwrap()]);
    let ends = tokeniser.encode_with_ends(text.as_bytes()).unwrap();
    assert_eq!(ends.ids, tokens);
    // A tokeniser without such a space reads both alike.
    let words = Tokeniser::from_bytes(WORDS.as_bytes()).unwrap();
    assert_eq!(words.encode_on(b"the sea").unwrap(), [1, 2]);
}

fn words(change: impl FnOnce(&mut serde_json::Value)) -> Tokeniser {
    let mut json: serde_json::Value = serde_json::from_str(WORDS).unwrap();
    change(&mut json);
    Tokeniser::from_bytes(json.to_string().as_bytes()).unwrap()
}

#[test]
fn truncation_and_padding_are_ignored_and_noted() {
    let plain = words(|_| {});
    let text = "the sea ".repeat(100);
    for other in [
        words(|json| {
            json["truncation"] = serde_json::json!({ "direction": "Right", "max_length": 4,
                "strategy": "LongestFirst", "stride": 0 });
        }),
        words(|json| {
            json["padding"] = serde_json::json!({ "strategy": { "Fixed": 512 },
                "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "<unk>" });
        }),
    ] {
        let text = text.as_bytes();
        assert_eq!(other.encode(text).unwrap(), plain.encode(text).unwrap());
        let ends = |of: &Tokeniser| of.encode_with_ends(text).unwrap();
        assert_eq!(ends(&other), ends(&plain));
        assert!(other.notes().any(|note| note.contains("ignored")));
    }
    assert_eq!(plain.notes().count(), 0);
}

#[test]
fn merges_are_not_left_out_at_random() {
    let json = serde_json::json!({ "version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "dropout": 1.0, "vocab": { "a": 0, "b": 1, "ab": 2 },
            "merges": ["a b"] } });
    let tokeniser = Tokeniser::from_bytes(json.to_string().as_bytes()).unwrap();
    assert_eq!(tokeniser.encode(b"abab").unwrap(), [2, 2]);
    assert!(tokeniser.notes().any(|note| note.contains("at random")));
}

#[test]
fn a_special_token_in_a_text_is_text() {
    let tokeniser = words(|json| {
        json["added_tokens"] = serde_json::json!([{ "id": 4, "content": "</s>",
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true }]);
    });
    assert_eq!(tokeniser.special().eos, [4]);
    let tokens = tokeniser.encode(b"the </s> sea").unwrap();
    assert!(!tokens.contains(&4), "{tokens:?}");
}

#[test]
fn letters_without_a_token_are_counted() {
    let lost = |tokeniser: &Tokeniser, text: &str| tokeniser.lost_letters(text.as_bytes());
    let (unknown, dropped) = (3, 0);
    assert_eq!(
        lost(&words(|_| {}), "the xyz sea").unwrap(),
        LostLetters { unknown, dropped }
    );
    let no_unk = serde_json::json!({ "version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "vocab": { "a": 0, "b": 1 }, "merges": [] } });
    let no_unk = Tokeniser::from_bytes(no_unk.to_string().as_bytes()).unwrap();
    let (unknown, dropped) = (0, 2);
    assert_eq!(
        lost(&no_unk, "aéb世a").unwrap(),
        LostLetters { unknown, dropped }
    );
    let none = LostLetters::default();
    assert_eq!(lost(&stream::tests::llama(), "a é 世\n").unwrap(), none);
    assert_eq!(lost(&Tokeniser::Bytes, "é").unwrap(), none);
}

#[test]
fn a_byte_order_mark_before_a_tokeniser_is_skipped() {
    let marked = [b"\xef\xbb\xbf", WORDS.as_bytes()].concat();
    let tokeniser = Tokeniser::from_bytes(&marked).unwrap();
    assert_eq!(tokeniser.encode(b"the sea").unwrap(), [1, 2]);
}

/// A folder with a tokeniser of the special tokens 4 to 7, and these files beside it.
fn beside(files: &[(&str, serde_json::Value)]) -> (tempfile::TempDir, Tokeniser) {
    let dir = tempfile::tempdir().unwrap();
    let mut json: serde_json::Value = serde_json::from_str(WORDS).unwrap();
    let special = ["<s>", "</s>", "<end>", "<pad>"];
    let added = (4..).zip(special).map(|(id, content)| {
        serde_json::json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true })
    });
    json["model"]["vocab"] = serde_json::json!({ "<unk>": 0, "the": 1, "sea": 2, "é": 3 });
    json["added_tokens"] = added.collect();
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    for (name, content) in files {
        let text = match content.as_str() {
            Some(text) => text.to_owned(),
            None => format!("\u{feff}{content}"),
        };
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let tokeniser = Tokeniser::from_file(&dir.path().join("tokenizer.json")).unwrap();
    (dir, tokeniser)
}

#[test]
fn special_tokens_are_told_apart_whichever_file_names_them() {
    use serde_json::json;
    let special = |files: &[(&str, serde_json::Value)]| beside(files).1.special().clone();
    // Ids, several of them, with those of a text in the generation's file.
    let found = special(&[
        (
            "config.json",
            json!({ "bos_token_id": 4, "eos_token_id": [5, 6] }),
        ),
        (
            "generation_config.json",
            json!({ "eos_token_id": [6, 5], "pad_token_id": 7 }),
        ),
    ]);
    assert_eq!(
        (found.bos, found.pad, found.unk),
        (Some(4), Some(7), Some(0))
    );
    assert_eq!((found.eos, found.adds_bos), (vec![6, 5], false));
    // Names win over ids, and end a document; the others end what is generated.
    let found = special(&[
        (
            "tokenizer_config.json",
            json!({ "eos_token": { "content": "<end>" }, "bos_token": null,
            "add_bos_token": true }),
        ),
        (
            "config.json",
            json!({ "bos_token_id": 4, "eos_token_id": 5 }),
        ),
        ("special_tokens_map.json", json!({ "pad_token": "<pad>" })),
    ]);
    assert_eq!((found.bos, found.pad), (None, Some(7)));
    assert_eq!((found.end_of_text(), found.eos), (Some(6), vec![6, 5]));
    assert!(!found.adds_bos);
    // Whether bos is added: the flag, else what the class does.
    for (config, adds) in [
        (json!({ "bos_token": "<s>", "add_bos_token": true }), true),
        (
            json!({ "bos_token": "<s>", "tokenizer_class": "LlamaTokenizerFast" }),
            true,
        ),
        (
            json!({ "bos_token": "<s>", "tokenizer_class": "GPT2Tokenizer" }),
            false,
        ),
        (
            json!({
                "bos_token": "<s>",
                "tokenizer_class": "LlamaTokenizer",
                "add_bos_token": false,
            }),
            false,
        ),
    ] {
        let found = special(&[("tokenizer_config.json", config)]);
        assert_eq!((found.first(), found.adds_bos), (adds.then_some(4), adds));
    }
}

#[test]
fn the_post_processor_says_what_is_added() {
    use serde_json::json;
    let with = |config: serde_json::Value| {
        let (dir, _) = beside(&[("tokenizer_config.json", config)]);
        let path = dir.path().join("tokenizer.json");
        let mut json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["post_processor"] = json!({ "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [4], "tokens": ["<s>"] } } });
        std::fs::write(&path, json.to_string()).unwrap();
        Tokeniser::from_file(&path).unwrap()
    };
    assert_eq!(with(json!({})).special().first(), Some(4));
    // As in transformers 5, which does not heed the flag beside a post-processor.
    let against = with(json!({ "add_bos_token": false, "bos_token": "<s>" }));
    assert_eq!(against.special().first(), Some(4));
    assert!(against.notes().any(|note| note.contains("add_bos_token")));
}

#[test]
fn what_is_no_token_is_told_and_a_guess_as_well() {
    use serde_json::json;
    let (_dir, found) = beside(&[(
        "config.json",
        json!({ "eos_token_id": [-1, 99_999, 5, null], "bos_token_id": "x" }),
    )]);
    assert_eq!(
        (found.special().eos.as_slice(), found.special().bos),
        (&[5][..], None)
    );
    let notes = found.notes().collect::<Vec<_>>().join("\n");
    for part in [
        "-1",
        "99999 is outside the vocabulary of 8",
        "bos_token_id \"x\"",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    let (_dir, found) = beside(&[("tokenizer_config.json", json!({ "eos_token": "<none>" }))]);
    assert_eq!(found.special().end_of_text(), Some(5));
    let notes = found.notes().collect::<Vec<_>>().join("\n");
    assert!(
        notes.contains("<none>") && notes.contains("</s> is taken"),
        "{notes}"
    );
}

#[test]
fn tokens_that_only_other_files_add_are_added() {
    use serde_json::json;
    let (_dir, found) = beside(&[
        ("added_tokens.json", json!({ "<more>": 8, "<far>": 20 })),
        (
            "tokenizer_config.json",
            json!({ "eos_token": "<last>", "added_tokens_decoder": {
            "9": { "content": "<last>", "special": true }, "4": { "content": "<s>" } } }),
        ),
    ]);
    assert_eq!(
        (found.token_of("<more>"), found.token_of("<last>")),
        (Some(8), Some(9))
    );
    assert_eq!(
        (found.special().eos.as_slice(), found.vocabulary()),
        (&[9][..], 10)
    );
    assert!(found.notes().any(|note| note.contains("<far>")));
    // What a run carries has them as well.
    let Tokeniser::File(file) = &found else {
        panic!("it is a file");
    };
    let again = Tokeniser::from_bytes(file.json()).unwrap();
    assert_eq!(again.token_of("<last>"), Some(9));
}

#[test]
fn chat_templates_come_from_every_file() {
    use serde_json::json;
    let template = |files: &[(&str, serde_json::Value)]| {
        let (_dir, found) = beside(files);
        found
            .settings()
            .and_then(|s| s.chat_template().map(str::to_owned))
    };
    let list = json!({ "chat_template": [{ "name": "tool_use", "template": "T" },
        { "name": "default", "template": "D" }] });
    assert_eq!(
        template(&[("tokenizer_config.json", list.clone())]).unwrap(),
        "D"
    );
    let file = [
        ("chat_template.jinja", json!("J")),
        ("tokenizer_config.json", list),
    ];
    assert_eq!(template(&file).unwrap(), "J");
    let processor = [("chat_template.json", json!({ "chat_template": "P" }))];
    assert_eq!(template(&processor).unwrap(), "P");
    assert_eq!(template(&[]), None);
}
