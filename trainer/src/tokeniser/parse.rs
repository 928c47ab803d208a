//! Parses a `tokenizer.json` with what stands beside it.

use tokenizers::ModelWrapper;

use super::beside::{Beside, Lookup, guessed_end};
use super::lost::Loss;
use super::post_processor::{self, Head};
use super::stream::Decoding;
use super::{Tokeniser, TokeniserFile, continued};
use crate::encoding::decoded;
use crate::error::{Error, Result, Source};

impl Lookup for tokenizers::Tokenizer {
    fn id(&self, name: &str) -> Option<u32> {
        self.token_to_id(name)
    }

    fn vocabulary(&self) -> usize {
        let last = self.get_vocab(true).into_values().max();
        last.map_or(0, |id| id as usize + 1)
    }
}

impl TokeniserFile {
    pub(super) fn parse(json: &[u8], name: &str, beside: Beside) -> Result<Tokeniser> {
        let failed = |source: Source| Error::Tokeniser {
            name: name.to_owned(),
            reason: "it cannot be parsed",
            source,
        };
        let text = decoded(json);
        let text = text.as_ref();
        let mut tokeniser = tokenizers::Tokenizer::from_bytes(text).map_err(failed)?;
        let head: Head = serde_json::from_slice(text).map_err(|error| failed(error.into()))?;
        let mut notes = Vec::new();
        ignore_settings(&mut tokeniser, &mut notes).map_err(failed)?;
        let json = match add_tokens(&mut tokeniser, &beside, &mut notes).map_err(failed)? {
            true => tokeniser.to_string(false).map_err(failed)?.into_bytes(),
            false => text.to_vec(),
        };
        for token in &head.added_tokens {
            let read = tokeniser.id(&token.content);
            if let Some(read) = read.filter(|read| *read != token.id) {
                notes.push(format!(
                    "the token {:?} has the id {} in tokenizer.json, but after the other tokens its \
                     id is {read}, as in other programs",
                    token.content, token.id
                ));
            }
        }
        tokeniser.set_encode_special_tokens(true);
        let unk = head.model.unk_token.and_then(|name| tokeniser.id(&name));
        let unk = unk.or(head.model.unk_id);
        let added = post_processor::added(&head.post_processor);
        let said = (added, unk);
        let mut special = beside.special(&tokeniser, said, &mut notes);
        let guess = match special.eos.is_empty() {
            true => guessed_end(&tokeniser),
            false => None,
        };
        special.eos.extend(guess.map(|(_, token)| token));
        let guess = guess.map(|(name, _)| {
            format!("no file says which token ends a text: {name} is taken, by its name")
        });
        Ok(Tokeniser::File(Box::new(Self {
            continued: continued::continued(&tokeniser).map_err(failed)?,
            decoder: Decoding::of(&tokeniser),
            loss: Loss::of(&tokeniser),
            prefixes_each_part: continued::prefixes_each_part(&tokeniser),
            vocabulary: tokeniser.vocabulary(),
            tokeniser,
            json: json.into(),
            added: added.unwrap_or_default(),
            special,
            settings: beside.into_settings(),
            notes,
            guess,
        })))
    }
}

/// Switches off what was saved for another use and would change training: truncation, padding, and
/// dropping merges at random.
fn ignore_settings(
    tokeniser: &mut tokenizers::Tokenizer,
    notes: &mut Vec<String>,
) -> Result<(), Source> {
    if let Some(truncation) = tokeniser.get_truncation() {
        notes.push(format!(
            "the tokeniser file cuts texts to {} tokens: ignored",
            truncation.max_length
        ));
        tokeniser.with_truncation(None)?;
    }
    if tokeniser.get_padding().is_some() {
        notes.push("the tokeniser file pads texts: ignored".to_owned());
        tokeniser.with_padding(None);
    }
    let ModelWrapper::BPE(model) = tokeniser.get_model() else {
        return Ok(());
    };
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout > 0.0) {
        notes.push(format!(
            "the tokeniser file leaves out merges at random ({dropout}): ignored"
        ));
        let mut model = model.clone();
        model.dropout = None;
        tokeniser.with_model(model);
    }
    Ok(())
}

/// Adds the tokens that only files beside the `tokenizer.json` name. Returns whether there are any.
fn add_tokens(
    tokeniser: &mut tokenizers::Tokenizer,
    beside: &Beside,
    notes: &mut Vec<String>,
) -> Result<bool, Source> {
    let mut is_changed = false;
    for (id, token) in beside.added() {
        let name = token.content.clone();
        match tokeniser.token_to_id(&name) {
            Some(known) if known == id => {}
            Some(known) => notes.push(format!(
                "the token {name:?} has the id {known} in tokenizer.json, and {id} beside it: \
                 {known} counts"
            )),
            None if tokeniser.vocabulary() == id as usize => {
                tokeniser.add_tokens([token])?;
                if tokeniser.token_to_id(&name) != Some(id) {
                    return Err(format!("the token {name:?} cannot get its id {id}").into());
                }
                is_changed = true;
            }
            None => notes.push(format!(
                "the token {name:?} with the id {id} is not in tokenizer.json: left out"
            )),
        }
    }
    Ok(is_changed)
}
