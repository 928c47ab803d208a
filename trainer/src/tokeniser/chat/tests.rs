use super::*;
use crate::tokeniser::{SpecialTokens, TokeniserSettings};

/// Templates in five well-known styles, and what transformers 5.24 makes of conversations by them
/// (`render_jinja_template`, with the date of [`TIME_IN_DATA`]); null where it refuses.
const RENDERINGS: &str = include_str!("renderings.json");

/// One token a letter, and the special tokens of the templates.
fn tokeniser(template: &str) -> Tokeniser {
    let mut vocabulary = serde_json::Map::new();
    for byte in 0..=u8::MAX {
        let letter = crate::tokeniser::letter_of(byte).to_string();
        vocabulary.insert(letter, byte.into());
    }
    let special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"];
    let added: Vec<Value> = (256..)
        .zip(special)
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true })
        })
        .collect();
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
        "use_regex": false });
    let json = json!({ "version": "1.0", "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] } });
    let mut settings = TokeniserSettings::default();
    settings.add_template(None, template.to_owned());
    Tokeniser::from_bytes(json.to_string().as_bytes())
        .unwrap()
        .with_special(SpecialTokens {
            bos: Some(256),
            eos: vec![257],
            ..SpecialTokens::NONE
        })
        .with_settings(settings)
}

fn templates() -> Vec<Value> {
    serde_json::from_str(RENDERINGS).unwrap()
}

fn source(style: &str) -> String {
    let templates = templates();
    let found = templates.iter().find(|template| template["name"] == style);
    found.unwrap()["template"].as_str().unwrap().to_owned()
}

#[test]
fn conversations_read_as_transformers_writes_them() {
    let mut count = 0;
    for style in templates() {
        let tokeniser = tokeniser(style["template"].as_str().unwrap());
        let template = tokeniser.chat_template(TIME_IN_DATA).unwrap().unwrap();
        for rendering in style["renderings"].as_array().unwrap() {
            let messages = rendering["messages"].as_array().unwrap();
            let prompt = rendering["prompt"].as_bool().unwrap();
            let text = template.render(messages, prompt).ok();
            let expected = rendering["text"].as_str().map(str::to_owned);
            assert_eq!(text, expected, "{} {messages:?}", style["name"]);
            count += 1;
        }
    }
    assert!(count > 30);
}

#[test]
fn only_the_template_writes_special_tokens() {
    let tokeniser = tokeniser(&source("chatml"));
    let template = tokeniser.chat_template(TIME_IN_DATA).unwrap().unwrap();
    let messages = [
        message("system", "s"),
        message("user", "a<|im_end|>b\u{fdd0}"),
    ];
    let tokens = template.prompt(&messages).unwrap();
    let (start, end) = (258, 259);
    let count = |token| tokens.iter().filter(|found| **found == token).count();
    assert_eq!((count(start), count(end)), (3, 2));
    assert_eq!(
        tokeniser.decode(&tokens).unwrap(),
        "system\ns\nuser\na<|im_end|>b\nassistant\n"
    );
    let text = template.render(&messages, false).unwrap();
    assert!(text.contains("a<|im_end|>b<|im_end|>"), "{text}");
}

/// The text of the tokens that answer.
fn answers(source: &str, messages: &[Value]) -> Result<String> {
    let tokeniser = tokeniser(source);
    let template = tokeniser.chat_template(TIME_IN_DATA)?.unwrap();
    let ChatTokens { ids, answers } = template.conversation(messages)?;
    assert_eq!(ids.len(), answers.len());
    let mut text = String::new();
    let mut before = false;
    for (id, answers) in ids.into_iter().zip(answers) {
        if answers && !before {
            text.push('|');
        }
        if answers {
            let name = tokeniser.name_of(id).unwrap();
            text.push_str(&if id < 256 {
                tokeniser.decode(&[id])?
            } else {
                name
            });
        }
        before = answers;
    }
    Ok(text)
}

#[test]
fn answers_and_their_ends_are_told_apart() {
    let messages = [
        message("user", "user asks"),
        message("assistant", " the answer\n"),
        message("user", "more"),
        message("assistant", "yes<|im_end|>"),
    ];
    for (style, expected) in [
        ("chatml", "| the answer\n<|im_end|>|yes<|im_end|><|im_end|>"),
        ("llama3", "|the answer<|eot_id|>|yes<|im_end|><|eot_id|>"),
        ("mistral", "|the answer</s>|yes<|im_end|></s>"),
    ] {
        assert_eq!(
            answers(&source(style), &messages).unwrap(),
            expected,
            "{style}"
        );
    }
    // The thoughts of an earlier answer are left out, those of the last are part of it.
    let thinking = [
        message("user", "1"),
        message("assistant", "<think>\nhm\n</think>\n\ntwo"),
        message("user", "3"),
        message("assistant", "<think>\nhm\n</think>\n\nfour"),
    ];
    assert_eq!(
        answers(&source("qwen3"), &thinking).unwrap(),
        "|two<|im_end|>|<think>\nhm\n</think>\n\nfour<|im_end|>"
    );
    // A template may mark answers itself.
    let marked = "{% for m in messages %}{% if m.role == 'assistant' %}A{% generation %}\n\
                  {{ m.content }}!{% endgeneration %}\n.{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let messages = [message("user", "q"), message("assistant", "a")];
    assert_eq!(answers(marked, &messages).unwrap(), "|a!");
}

#[test]
fn a_template_that_objects_or_never_ends_is_an_error() {
    let refused = |source: &str| answers(source, &[message("tool", "x")]).unwrap_err();
    let error = refused(&source("mistral"));
    assert!(
        error.to_string().contains("only user and assistant"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--raw"));
    for source in [
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include '/etc/passwd' %}",
        "{{ open('/etc/passwd') }}",
        "{% if %}",
    ] {
        assert!(
            matches!(refused(source), Error::ChatTemplate { .. }),
            "{source}"
        );
    }
}
