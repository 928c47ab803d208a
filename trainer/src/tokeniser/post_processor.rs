//! What the post-processor of a `tokenizer.json` adds to a text.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenizers::PostProcessorWrapper;

use super::TokeniserFile;
use crate::error::{Error, Result, Source};

/// The tokens that stand before and after a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub first: Option<u32>,
    pub last: Option<u32>,
}

/// The parts of a `tokenizer.json` that are read here.
#[derive(Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub post_processor: Value,
    #[serde(default)]
    pub model: HeadOfModel,
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
}

#[derive(Default, Deserialize)]
pub(super) struct HeadOfModel {
    #[serde(default)]
    pub unk_token: Option<String>,
    #[serde(default)]
    pub unk_id: Option<u32>,
}

/// What a post-processor adds; `None` if there is no post-processor.
pub(super) fn added(post_processor: &Value) -> Option<Added> {
    let kind = post_processor.get("type")?.as_str()?;
    Some(match kind {
        "TemplateProcessing" => template(post_processor),
        "BertProcessing" | "RobertaProcessing" => Added {
            first: pair_id(post_processor.get("cls")),
            last: pair_id(post_processor.get("sep")),
        },
        "Sequence" => {
            let parts = post_processor.get("processors").and_then(Value::as_array);
            let parts = parts.into_iter().flatten().filter_map(added);
            parts.fold(Added::default(), |all, part| Added {
                first: all.first.or(part.first),
                last: all.last.or(part.last),
            })
        }
        _ => Added::default(),
    })
}

impl TokeniserFile {
    /// The file's bytes, with a post-processor that adds bos and eos if the file has another or
    /// none.
    pub(crate) fn json_that_adds(&self) -> Result<Vec<u8>> {
        let special = &self.special;
        let (first, last) = (
            special.first(),
            special.end_of_text().filter(|_| special.adds_eos),
        );
        if (Added { first, last }) == self.added {
            return Ok(self.json().to_vec());
        }
        let failed = |source: Source| Error::Tokeniser {
            name: "tokenizer.json".to_owned(),
            reason: "it cannot be written",
            source,
        };
        let processor = serde_json::from_value(self.processor(first, last))
            .map_err(|error| failed(error.into()))?;
        let mut tokeniser = self.tokeniser.clone();
        tokeniser.with_post_processor(Some::<PostProcessorWrapper>(processor));
        Ok(tokeniser.to_string(false).map_err(failed)?.into_bytes())
    }

    /// A post-processor that adds these tokens.
    fn processor(&self, first: Option<u32>, last: Option<u32>) -> Value {
        let mut known = Map::new();
        let mut piece = |token: u32| {
            let name = self.tokeniser.id_to_token(token)?;
            let entry = json!({ "id": name, "ids": [token], "tokens": [name] });
            known.insert(name.clone(), entry);
            Some(json!({ "SpecialToken": { "id": name, "type_id": 0 } }))
        };
        let (first, last) = (first.and_then(&mut piece), last.and_then(&mut piece));
        let text = |id: &str, of: u8| json!({ "Sequence": { "id": id, "type_id": of } });
        let around = |inner: Vec<Value>| -> Value {
            first
                .iter()
                .cloned()
                .chain(inner)
                .chain(last.clone())
                .collect()
        };
        json!({
            "type": "TemplateProcessing",
            "single": around(vec![text("A", 0)]),
            "pair": around(vec![text("A", 0), text("B", 1)]),
            "special_tokens": known,
        })
    }
}

/// `[["SpecialToken", …], ["Sequence", …]]` as the template of a single text.
fn template(post_processor: &Value) -> Added {
    let pieces = post_processor.get("single").and_then(Value::as_array);
    let pieces = pieces.map(Vec::as_slice).unwrap_or_default();
    let id = |piece: Option<&Value>| {
        let name = piece?.get("SpecialToken")?.get("id")?.as_str()?;
        let token = post_processor.get("special_tokens")?.get(name)?;
        u32::try_from(token.get("ids")?.as_array()?.first()?.as_u64()?).ok()
    };
    Added {
        first: id(pieces.first()),
        last: id(pieces.last()),
    }
}

/// The id of `["name", id]`.
fn pair_id(pair: Option<&Value>) -> Option<u32> {
    u32::try_from(pair?.get(1)?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_that_are_added_are_found_in_every_form() {
        let begin = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
        let end = json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } });
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let special = json!({ "<s>": { "id": "<s>", "ids": [7], "tokens": ["<s>"] },
            "</s>": { "id": "</s>", "ids": [8], "tokens": ["</s>"] } });
        let with = |single: Value| {
            added(
                &json!({ "type": "Sequence", "processors": [{ "type": "ByteLevel" },
                { "type": "TemplateProcessing", "single": single, "special_tokens": special }] }),
            )
            .unwrap()
        };
        let (seven, eight) = (Some(7), Some(8));
        for (single, first, last) in [
            (json!([begin, text]), seven, None),
            (json!([text, end]), None, eight),
            (json!([begin, text, end]), seven, eight),
            (json!([text]), None, None),
        ] {
            assert_eq!(with(single), Added { first, last });
        }
        let roberta = json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0] });
        let (first, last) = (Some(0), Some(2));
        assert_eq!(added(&roberta), Some(Added { first, last }));
        assert_eq!(added(&Value::Null), None);
    }
}
