//! What an exported folder says beside its `tokenizer.json`: what the import said, and what its
//! special tokens mean.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::token_ids;
use super::vocabulary;
use crate::error::{Error, Result};
use crate::spec::ModelSpec;
use crate::tokeniser::{SpecialTokens, Tokeniser, TokeniserSettings};
use crate::write_inside::write_inside;

/// A length beyond any model's: transformers writes 1e30 for no limit.
const NO_LIMIT: f64 = 1e15;

/// The files in JSON, by name.
pub(super) fn files(model: &ModelSpec, tokeniser: &Tokeniser) -> [(&'static str, Value); 3] {
    let writer = Writer {
        model,
        tokeniser,
        special: tokeniser.special(),
        settings: tokeniser.settings().cloned().unwrap_or_default(),
    };
    [
        ("generation_config.json", writer.generation_config().into()),
        ("tokenizer_config.json", writer.tokenizer_config().into()),
        (
            "special_tokens_map.json",
            writer.special_tokens_map().into(),
        ),
    ]
}

/// The `tokenizer.json` of a tokeniser, which adds bos and eos if the tokeniser does.
pub(super) fn tokenizer_json(tokeniser: &Tokeniser) -> Result<Vec<u8>> {
    match tokeniser {
        Tokeniser::Bytes => Ok(vocabulary::tokenizer_json(tokeniser)),
        Tokeniser::File(file) => file.json_that_adds(),
    }
}

/// Writes chat templates into files of their own, as transformers 5 does.
pub(super) fn write_templates(folder: &Path, tokeniser: &Tokeniser) -> Result<()> {
    let Some(settings) = tokeniser.settings() else {
        return Ok(());
    };
    if let Some(template) = settings.chat_template() {
        write_inside(&folder.join("chat_template.jinja"), template.as_bytes())?;
    }
    let more = folder.join("additional_chat_templates");
    for (name, template) in settings.other_templates() {
        // A name from outside must stay in the folder; the list in the configuration has them all.
        if name
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'))
        {
            std::fs::create_dir_all(&more).map_err(|error| Error::write(&more, error))?;
            write_inside(&more.join(format!("{name}.jinja")), template.as_bytes())?;
        }
    }
    Ok(())
}

struct Writer<'a> {
    model: &'a ModelSpec,
    tokeniser: &'a Tokeniser,
    special: &'a SpecialTokens,
    settings: TokeniserSettings,
}

impl Writer<'_> {
    fn generation_config(&self) -> Map<String, Value> {
        let special = self.special;
        let mut config = self.settings.generation_config.clone();
        if config.is_empty() {
            config.insert("do_sample".into(), true.into());
            for (key, token) in [("bos_token_id", special.bos), ("pad_token_id", special.pad)] {
                if let Some(token) = token {
                    config.insert(key.into(), token.into());
                }
            }
        }
        if !special.eos.is_empty() && !names_all(config.get("eos_token_id"), &special.eos) {
            config.insert("eos_token_id".into(), token_ids(&special.eos));
        }
        config
    }

    fn tokenizer_config(&self) -> Map<String, Value> {
        let mut config = self.settings.tokenizer_config.clone();
        // Code beside the model is not exported.
        if config.remove("auto_map").is_some() {
            config.remove("tokenizer_class");
        }
        for (key, value) in [
            ("tokenizer_class", json!("PreTrainedTokenizerFast")),
            ("model_max_length", json!(self.model.context)),
            ("clean_up_tokenization_spaces", json!(false)),
        ] {
            let is_new = self.settings.tokenizer_config.is_empty() || key == "tokenizer_class";
            if is_new && !config.contains_key(key) {
                config.insert(key.into(), value);
            }
        }
        let longest = config.get("model_max_length").and_then(Value::as_f64);
        let context = self.model.context as f64;
        if longest.is_some_and(|longest| longest > context && longest < NO_LIMIT) {
            config.insert("model_max_length".into(), self.model.context.into());
        }
        for (key, token) in self.named() {
            if self.id_of(config.get(key)) != token {
                match token.and_then(|token| self.tokeniser.name_of(token)) {
                    Some(name) => config.insert(key.into(), name.into()),
                    None => config.remove(key),
                };
            }
        }
        if let Some(template) = self.templates() {
            config.insert("chat_template".into(), template);
        }
        config
    }

    fn special_tokens_map(&self) -> Map<String, Value> {
        let named = self.named().into_iter().filter_map(|(key, token)| {
            let name = self.tokeniser.name_of(token?)?;
            Some((key.to_owned(), name.into()))
        });
        let more = self
            .settings
            .tokenizer_config
            .get("additional_special_tokens");
        let more = more.map(|more| ("additional_special_tokens".to_owned(), more.clone()));
        named.chain(more).collect()
    }

    fn named(&self) -> [(&'static str, Option<u32>); 4] {
        let special = self.special;
        [
            ("bos_token", special.bos),
            ("eos_token", special.end_of_text()),
            ("pad_token", special.pad),
            ("unk_token", special.unk),
        ]
    }

    /// The token that a value names: a string, or an object with `content`.
    fn id_of(&self, value: Option<&Value>) -> Option<u32> {
        let value = value?;
        let name = value.as_str().or_else(|| value.get("content")?.as_str())?;
        self.tokeniser.token_of(name)
    }

    /// One template, or a list of named ones, for tools that read no files of templates.
    fn templates(&self) -> Option<Value> {
        let templates = &self.settings.chat_templates;
        match (templates.len(), self.settings.chat_template()) {
            (0, _) => None,
            (1, Some(template)) => Some(template.into()),
            _ => Some(
                templates
                    .iter()
                    .map(|(name, template)| json!({ "name": name, "template": template }))
                    .collect(),
            ),
        }
    }
}

/// Whether a value names exactly these tokens, in any order.
fn names_all(value: Option<&Value>, tokens: &[u32]) -> bool {
    let named = match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => return false,
    };
    named.len() == tokens.len() && tokens.iter().all(|token| named.contains(&json!(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";

    /// A model's folder, its tokeniser and what stands beside it.
    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let special = ["<|begin|>", "<|end|>", "<|pad|>"];
        let added: Vec<Value> = (2..)
            .zip(special)
            .map(|(id, content)| {
                json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true })
            })
            .collect();
        let tokeniser = json!({ "version": "1.0", "added_tokens": added, "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1 }, "merges": [] } });
        for (name, content) in files.iter().chain(&[("tokenizer.json", tokeniser)]) {
            std::fs::write(dir.path().join(name), content.to_string()).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir) -> Tokeniser {
        Tokeniser::from_file(&dir.path().join("tokenizer.json")).unwrap()
    }

    fn model(context: usize) -> ModelSpec {
        ModelSpec {
            context,
            ..ModelSpec::preset("nano").unwrap()
        }
    }

    #[test]
    fn what_was_imported_comes_back_whole() {
        let config = json!({ "bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>",
            "add_bos_token": true, "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 64, "chat_template": TEMPLATE });
        let generation = json!({ "bos_token_id": 2, "eos_token_id": 3, "temperature": 0.6,
            "top_p": 0.9 });
        let dir = folder(&[
            ("tokenizer_config.json", config.clone()),
            ("generation_config.json", generation.clone()),
        ]);
        let tokeniser = read(&dir);
        // A run carries the settings as a document.
        let settings = tokeniser.settings().unwrap().to_bytes().unwrap();
        let settings = TokeniserSettings::from_bytes(&settings).unwrap();
        let special = tokeniser.special().clone();
        let tokeniser = tokeniser.with_special(special).with_settings(settings);
        let [(_, of_generation), (_, of_tokeniser), (_, names)] = files(&model(64), &tokeniser);
        assert_eq!((of_generation, of_tokeniser), (generation, config));
        assert_eq!(
            names,
            json!({ "bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>" })
        );
        write_templates(dir.path(), &tokeniser).unwrap();
        let written = std::fs::read_to_string(dir.path().join("chat_template.jinja")).unwrap();
        assert_eq!(written, TEMPLATE);
        // A shorter context is said.
        let [_, (_, shorter), _] = files(&model(32), &tokeniser);
        assert_eq!(shorter["model_max_length"], json!(32));
    }

    #[test]
    fn several_ends_and_what_is_added_are_said_even_if_no_file_said_so() {
        let ends = json!({ "eos_token_id": [3, 4], "bos_token_id": 2 });
        let class = json!({ "tokenizer_class": "LlamaTokenizer", "bos_token": "<|begin|>",
            "auto_map": { "AutoTokenizer": ["theirs.Tokenizer", null] } });
        let dir = folder(&[("config.json", ends), ("tokenizer_config.json", class)]);
        let [(_, generation), (_, tokeniser), _] = files(&model(64), &read(&dir));
        assert_eq!(generation["eos_token_id"], json!([3, 4]));
        let written = tokenizer_json(&read(&dir)).unwrap();
        let written = Tokeniser::from_bytes(&written).unwrap();
        assert_eq!(written.special().first(), Some(2));
        assert_eq!(tokeniser["eos_token"], json!("<|end|>"));
        // Code is not exported, so its class is not, either.
        assert_eq!(
            tokeniser["tokenizer_class"],
            json!("PreTrainedTokenizerFast")
        );
        assert_eq!(tokeniser.get("auto_map"), None);
    }

    #[test]
    fn several_templates_stay_in_the_folder() {
        let templates = json!([{ "name": "default", "template": "D" },
            { "name": "tool_use", "template": "T" }, { "name": "../out", "template": "X" }]);
        let dir = folder(&[(
            "tokenizer_config.json",
            json!({ "chat_template": templates }),
        )]);
        let tokeniser = read(&dir);
        let out = tempfile::tempdir().unwrap();
        let inside = out.path().join("model");
        std::fs::create_dir(&inside).unwrap();
        write_templates(&inside, &tokeniser).unwrap();
        let [_, (_, config), _] = files(&model(64), &tokeniser);
        assert_eq!(config["chat_template"].as_array().unwrap().len(), 3);
        let more = inside.join("additional_chat_templates/tool_use.jinja");
        assert_eq!(std::fs::read_to_string(more).unwrap(), "T");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    }
}
