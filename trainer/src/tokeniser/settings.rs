//! [`TokeniserSettings`]: what a model's folder says beside its `tokenizer.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The most bytes of the settings as a document.
const MOST_BYTES: usize = 4 << 20;
/// The name of the chat template that is used unless another is asked for.
const DEFAULT: &str = "default";

/// What a model's folder says beside its `tokenizer.json`. A run carries it as one document, so
/// that every peer can chat with the model, and so that an export says what the import said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokeniserSettings {
    /// `tokenizer_config.json`, without the chat template.
    pub(crate) tokenizer_config: Map<String, Value>,
    /// `generation_config.json`.
    pub(crate) generation_config: Map<String, Value>,
    /// Chat templates by name.
    pub(crate) chat_templates: BTreeMap<String, String>,
}

impl TokeniserSettings {
    /// Whether there is nothing to carry.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The source of the chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_templates.get(DEFAULT).map(String::as_str)
    }

    /// The other chat templates, by name.
    pub(crate) fn other_templates(&self) -> impl Iterator<Item = (&str, &str)> {
        let others = self
            .chat_templates
            .iter()
            .filter(|(name, _)| *name != DEFAULT);
        others.map(|(name, template)| (name.as_str(), template.as_str()))
    }

    /// Sets the chat template that is used unless another is asked for.
    pub(crate) fn add_template(&mut self, name: Option<&str>, template: String) {
        let name = name.unwrap_or(DEFAULT).to_owned();
        self.chat_templates.insert(name, template);
    }

    /// The settings as a document.
    ///
    /// # Errors
    /// If they are too large to be carried by a run.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self).map_err(|error| wrong(error.into()))?;
        if bytes.len() > MOST_BYTES {
            let most = MOST_BYTES >> 20;
            return Err(wrong(
                format!("it has {} bytes; the most is {most} MiB", bytes.len()).into(),
            ));
        }
        Ok(bytes)
    }

    /// Parses a document.
    ///
    /// # Errors
    /// If it is too large, or no such document.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MOST_BYTES {
            return Err(wrong("it is too large".into()));
        }
        serde_json::from_slice(bytes).map_err(|error| wrong(error.into()))
    }
}

fn wrong(source: crate::error::Source) -> Error {
    Error::Tokeniser {
        name: "settings (tokenizer_config.json, generation_config.json, chat template)".to_owned(),
        reason: "they cannot be carried",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_as_a_document_and_large_ones_are_refused() {
        let mut settings = TokeniserSettings::default();
        assert!(settings.is_empty());
        settings.add_template(None, "{{ messages }}".into());
        settings
            .generation_config
            .insert("temperature".into(), 0.6.into());
        let bytes = settings.to_bytes().unwrap();
        assert_eq!(TokeniserSettings::from_bytes(&bytes).unwrap(), settings);
        assert_eq!(settings.chat_template(), Some("{{ messages }}"));
        assert!(TokeniserSettings::from_bytes(b"[1]").is_err());
        settings.add_template(Some("long"), "x".repeat(MOST_BYTES));
        assert!(settings.to_bytes().is_err());
    }
}
