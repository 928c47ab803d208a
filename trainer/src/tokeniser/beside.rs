//! Special tokens and settings from every file of a model's folder that carries them.
//!
//! | what | is taken from the first that says it |
//! |---|---|
//! | bos, pad, unk | `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`, `config.json`, `tokenizer.json` |
//! | what ends a document | `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`, `config.json`, a usual name |
//! | what ends a generated text | all that any of these name |
//! | whether bos and eos are added | the post-processor of `tokenizer.json` (as transformers 5 does), `tokenizer_config.json`, what the tokeniser's class does |
//! | chat template | `chat_template.jinja`, `chat_template.json`, `tokenizer_config.json` |

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::post_processor::Added;
use super::settings::TokeniserSettings;
use super::special::SpecialTokens;
use crate::encoding::decoded;
use crate::error::{Error, Result, Source};

/// Usual names of the end-of-text token, most specific first.
const ENDS_OF_TEXT: [&str; 5] = ["<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>", "[EOS]"];
/// The most bytes of one of these files.
const MOST_BYTES: u64 = 64 << 20;
/// Classes that add bos where neither their settings nor the tokeniser file says otherwise.
const ADD_BOS: [&str; 4] = ["Llama", "CodeLlama", "Gemma", "Cohere"];

/// What the files beside a `tokenizer.json` say.
#[derive(Debug, Default)]
pub(super) struct Beside {
    tokenizer_config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    added_tokens: Map<String, Value>,
    generation_config: Map<String, Value>,
    config: Map<String, Value>,
    templates: Vec<(Option<String>, String)>,
}

/// Looks tokens up in a tokeniser.
pub(super) trait Lookup {
    fn id(&self, name: &str) -> Option<u32>;
    /// The largest token id plus one.
    fn vocabulary(&self) -> usize;
}

impl Beside {
    /// Reads the files in `folder`, those that there are.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let object = |name: &str| read_object(&folder.join(name));
        let mut beside = Self {
            tokenizer_config: object("tokenizer_config.json")?,
            special_tokens_map: object("special_tokens_map.json")?,
            added_tokens: object("added_tokens.json")?,
            generation_config: object("generation_config.json")?,
            config: object("config.json")?,
            templates: Vec::new(),
        };
        beside.read_templates(folder)?;
        Ok(beside)
    }

    fn read_templates(&mut self, folder: &Path) -> Result<()> {
        if let Some(template) = self.tokenizer_config.remove("chat_template") {
            self.add_templates(template);
        }
        let processor = read_object(&folder.join("chat_template.json"))?;
        if let Some(template) = processor.get("chat_template") {
            self.add_templates(template.clone());
        }
        let more = folder.join("additional_chat_templates");
        let mut files: Vec<_> = fs::read_dir(&more)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "jinja"))
            .collect();
        files.sort();
        files.push(folder.join("chat_template.jinja"));
        for path in files {
            let is_default = path.ends_with("chat_template.jinja");
            let name = path.file_stem().map(|name| name.to_string_lossy().into());
            if let Some(text) = read_text(&path)? {
                let name = name.filter(|_| !is_default);
                self.templates.push((name, text));
            }
        }
        Ok(())
    }

    /// One template, or a list of named ones.
    fn add_templates(&mut self, template: Value) {
        match template {
            Value::String(text) => self.templates.push((None, text)),
            Value::Array(list) => {
                for entry in list {
                    let text = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
                    if let Some(template) = text("template") {
                        self.templates.push((text("name"), template));
                    }
                }
            }
            _ => {}
        }
    }

    /// Tokens with their ids and flags that stand beside the tokeniser file.
    pub(super) fn added(&self) -> Vec<(u32, tokenizers::AddedToken)> {
        let decoder = self.tokenizer_config.get("added_tokens_decoder");
        let listed = decoder.and_then(Value::as_object).into_iter().flatten();
        let listed = listed.filter_map(|(id, token)| {
            let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
            let content = token.get("content")?.as_str()?;
            let added = tokenizers::AddedToken::from(content, flag("special"))
                .single_word(flag("single_word"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .normalized(flag("normalized"));
            Some((id.parse().ok()?, added))
        });
        let plain = self.added_tokens.iter().filter_map(|(content, id)| {
            let added = tokenizers::AddedToken::from(content.as_str(), true).normalized(false);
            Some((u32::try_from(id.as_u64()?).ok()?, added))
        });
        let mut tokens: Vec<_> = listed.chain(plain).collect();
        tokens.sort_by_key(|(id, _)| *id);
        tokens.dedup_by(|b, a| a.1.content == b.1.content);
        tokens
    }

    /// What the special tokens mean; `added` is what the tokeniser file's post-processor adds.
    /// What is guessed or left out is noted.
    pub(super) fn special(
        &self,
        tokens: &dyn Lookup,
        (added, unk): (Option<Added>, Option<u32>),
        notes: &mut Vec<String>,
    ) -> SpecialTokens {
        let mut find = Find {
            beside: self,
            tokens,
            notes: &mut *notes,
        };
        let (bos, pad) = (find.single("bos"), find.single("pad"));
        let unk = find.single("unk").or(unk);
        let mut special = SpecialTokens {
            bos,
            eos: find.ends(),
            pad,
            unk,
            adds_bos: false,
            adds_eos: false,
        };
        match added {
            Some(added) => {
                special = with_added(special, added);
                self.note_contradictions(&special, notes);
            }
            None => {
                let flag = |key: &str| self.tokenizer_config.get(key).and_then(Value::as_bool);
                let adds_bos = flag("add_bos_token").unwrap_or(self.adds_bos_by_class());
                special.adds_bos = adds_bos && special.bos.is_some();
                let adds_eos = flag("add_eos_token").unwrap_or(false);
                special.adds_eos = adds_eos && !special.eos.is_empty();
            }
        }
        special
    }

    /// Notes where the tokeniser's configuration says otherwise than its file.
    fn note_contradictions(&self, special: &SpecialTokens, notes: &mut Vec<String>) {
        for (key, adds) in [
            ("add_bos_token", special.adds_bos),
            ("add_eos_token", special.adds_eos),
        ] {
            let said = self.tokenizer_config.get(key).and_then(Value::as_bool);
            if let Some(said) = said.filter(|said| *said != adds) {
                notes.push(format!(
                    "tokenizer_config.json: {key} is {said}, but the post-processor of \
                     tokenizer.json does otherwise: it counts"
                ));
            }
        }
    }

    fn adds_bos_by_class(&self) -> bool {
        let class = self.tokenizer_config.get("tokenizer_class");
        let class = class.and_then(Value::as_str).unwrap_or_default();
        let name = class.trim_end_matches("Fast");
        ADD_BOS
            .iter()
            .any(|known| name.strip_suffix("Tokenizer") == Some(known))
    }

    /// What a run carries.
    pub(super) fn into_settings(self) -> TokeniserSettings {
        let mut settings = TokeniserSettings {
            tokenizer_config: self.tokenizer_config,
            generation_config: self.generation_config,
            ..TokeniserSettings::default()
        };
        for (name, template) in self.templates {
            settings.add_template(name.as_deref(), template);
        }
        settings
    }
}

/// Special tokens of a tokeniser whose post-processor adds these.
fn with_added(mut special: SpecialTokens, added: Added) -> SpecialTokens {
    if let Some(first) = added.first {
        special.bos = Some(first);
        special.adds_bos = true;
    }
    if let Some(last) = added.last {
        special = special.ending_with(last);
        special.adds_eos = true;
    }
    special
}

/// The token that ends a text by its usual name, if there is one.
pub(super) fn guessed_end(tokens: &dyn Lookup) -> Option<(&'static str, u32)> {
    ENDS_OF_TEXT
        .into_iter()
        .find_map(|name| Some((name, tokens.id(name)?)))
}

/// Finds special tokens in the files, in the order of the table above.
struct Find<'a> {
    beside: &'a Beside,
    tokens: &'a dyn Lookup,
    notes: &'a mut Vec<String>,
}

impl<'a> Find<'a> {
    /// The files that name tokens.
    fn naming(&self) -> [Named<'a>; 2] {
        [
            ("tokenizer_config.json", &self.beside.tokenizer_config),
            ("special_tokens_map.json", &self.beside.special_tokens_map),
        ]
    }

    /// The files that give ids.
    fn giving(&self) -> [Named<'a>; 2] {
        [
            ("generation_config.json", &self.beside.generation_config),
            ("config.json", &self.beside.config),
        ]
    }

    fn single(&mut self, kind: &str) -> Option<u32> {
        for (file, object) in self.naming() {
            if let Some(value) = object.get(&format!("{kind}_token")) {
                // A tokeniser that says it has no such token has none, whatever the model says.
                return self.named(file, kind, value);
            }
        }
        let key = format!("{kind}_token_id");
        self.giving().into_iter().find_map(|(file, object)| {
            let ids = self.given(file, &key, object.get(&key)?);
            ids.first().copied()
        })
    }

    /// All tokens that end a text, first the one that ends a document.
    fn ends(&mut self) -> Vec<u32> {
        let mut ends = Vec::new();
        for (file, object) in self.naming() {
            if let Some(value) = object.get("eos_token") {
                ends.extend(self.named(file, "eos", value));
            }
        }
        for (file, object) in self.giving() {
            if let Some(value) = object.get("eos_token_id") {
                ends.extend(self.given(file, "eos_token_id", value));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        ends.retain(|end| seen.insert(*end));
        if ends.len() > MOST_ENDS {
            self.notes.push(format!(
                "{} tokens are said to end a text: the first {MOST_ENDS} do",
                ends.len()
            ));
            ends.truncate(MOST_ENDS);
        }
        ends
    }

    /// A token by its name, which is a string or an object with `content`.
    fn named(&mut self, file: &str, kind: &str, value: &Value) -> Option<u32> {
        let name = value.as_str().or_else(|| value.get("content")?.as_str())?;
        let id = self.tokens.id(name);
        if id.is_none() {
            self.notes.push(format!(
                "{file}: {kind}_token {name:?} is no token of this tokeniser: ignored"
            ));
        }
        id
    }

    /// One id, or a list of them.
    fn given(&mut self, file: &str, key: &str, value: &Value) -> Vec<u32> {
        let values = match value {
            Value::Null => &[],
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut ids = Vec::new();
        for value in values {
            match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) if (id as usize) < self.tokens.vocabulary() => ids.push(id),
                Some(id) => self.notes.push(format!(
                    "{file}: {key} {id} is outside the vocabulary of {}: ignored",
                    self.tokens.vocabulary()
                )),
                None => self
                    .notes
                    .push(format!("{file}: {key} {value} is no token: ignored")),
            }
        }
        ids
    }
}

type Named<'a> = (&'static str, &'a Map<String, Value>);

/// The most tokens that end a text; what a manifest may name.
const MOST_ENDS: usize = 32;

/// Reads a JSON object; an empty one if there is no such file.
fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let Some(text) = read_text(path)? else {
        return Ok(Map::new());
    };
    serde_json::from_str(&text).map_err(|error| failed(path, "it cannot be parsed", error.into()))
}

/// Reads a text without its byte order mark; `None` if there is no such file.
fn read_text(path: &Path) -> Result<Option<String>> {
    let unreadable = |error: std::io::Error| failed(path, "it cannot be read", error.into());
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= MOST_BYTES => {}
        Ok(found) if found.is_file() => {
            let reason = format!("it has {} bytes", found.len());
            return Err(failed(path, "it is too large", reason.into()));
        }
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(decoded(&bytes).into_owned());
    text.map(Some)
        .map_err(|error| failed(path, "it is not UTF-8", error.into()))
}

fn failed(path: &Path, reason: &'static str, source: Source) -> Error {
    Error::Tokeniser {
        name: path.display().to_string(),
        reason,
        source,
    }
}
