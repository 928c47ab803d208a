//! [`ChatTemplate`]: conversations as the text that an instruct model was trained on.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | messages to tokens, and which of them answer |
//! | `template.rs` | rendering a template as transformers does |
//! | `spans.rs` | special tokens in a rendered text, and nowhere else |
//! | `date.rs` | the date that some templates show |

mod date;
mod spans;
mod template;

use std::ops::Range;

use serde_json::{Value, json};
use spans::{Part, SpecialNames, Unbroken};
use template::{ANSWER, Template};

use super::{Place, Tokeniser, TokeniserFile, encode_error};
use crate::error::{Error, Result};

/// The time that a template shows in data that is trained on, so that the same conversations always
/// make the same tokens: 26 July 2024, as in Llama 3's templates.
pub const TIME_IN_DATA: u64 = 1_721_952_000;

/// A tokeniser's chat template. A message is a JSON object with `role` and `content`, and whatever
/// else the template reads.
pub struct ChatTemplate<'a> {
    file: &'a TokeniserFile,
    template: Template,
    names: SpecialNames,
}

/// A conversation in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each token is part of an answer of the assistant, its end included.
    pub answers: Vec<bool>,
}

/// A message of a role.
pub fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

impl Tokeniser {
    /// The chat template, if there is one. `seconds` since 1970 is the time that it may show; in
    /// data, [`TIME_IN_DATA`].
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if it is no template.
    pub fn chat_template(&self, seconds: u64) -> Result<Option<ChatTemplate<'_>>> {
        let Self::File(file) = self else {
            return Ok(None);
        };
        let Some(source) = file.settings.chat_template() else {
            return Ok(None);
        };
        let special = &file.special;
        let named = [
            ("bos_token", special.bos),
            ("eos_token", special.end_of_text()),
            ("pad_token", special.pad),
            ("unk_token", special.unk),
        ];
        let named = named.into_iter().filter_map(|(key, token)| {
            // Without a beginning, most templates expect nothing in its place.
            let name = token.and_then(|token| self.name_of(token));
            name.or_else(|| (key == "bos_token").then(String::new))
                .map(|name| (key, name))
        });
        Ok(Some(ChatTemplate {
            template: Template::new(source, named.collect(), seconds).map_err(failed)?,
            names: SpecialNames::of(&file.tokeniser),
            file,
        }))
    }
}

impl ChatTemplate<'_> {
    /// The text of a conversation; with `add_generation_prompt`, what an answer comes after.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`], with what the template objects to.
    pub fn render(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String> {
        let text = self.rendered(messages, add_generation_prompt)?;
        Ok(Unbroken::of(&text.replace(ANSWER, "")).text)
    }

    /// The tokens of a conversation that the model is to continue. Special tokens are those that
    /// the template writes; in a message they are text.
    ///
    /// # Errors
    /// As for [`Self::render`].
    pub fn prompt(&self, messages: &[Value]) -> Result<Vec<u32>> {
        let text = self.rendered(messages, true)?.replace(ANSWER, "");
        Ok(self.tokens(&text, &[])?.ids)
    }

    /// The tokens of a conversation to train on, and which of them are answers of the assistant.
    ///
    /// # Errors
    /// As for [`Self::render`].
    pub fn conversation(&self, messages: &[Value]) -> Result<ChatTokens> {
        let (text, answers) = self.answers(messages)?;
        self.tokens(&text, &answers)
    }

    /// The rendered text, in which special tokens of messages are broken.
    fn rendered(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String> {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            self.names.break_in(message);
        }
        self.template
            .render(&messages, add_generation_prompt)
            .map_err(failed)
    }

    /// The rendered text, and where in it the answers are.
    fn answers(&self, messages: &[Value]) -> Result<(String, Vec<Range<usize>>)> {
        let marked = self.rendered(messages, false)?;
        if marked.contains(ANSWER) {
            return Ok(marked_ranges(&marked));
        }
        let mut ranges = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.get("role").is_some_and(|role| role == "assistant") {
                let range = match self.by_content(messages, index, &marked)? {
                    Some(range) => Some(range),
                    None => self.by_prompt(messages, index, &marked)?,
                };
                ranges.push(range.ok_or_else(|| Error::ChatTemplate {
                    reason: format!(
                        "it does not show where the answer is that message {} gives",
                        index + 1
                    ),
                })?);
            }
        }
        Ok((marked, ranges))
    }

    /// Finds an answer: the text is what it is with another content, but for the answer.
    fn by_content(
        &self,
        messages: &[Value],
        index: usize,
        whole: &str,
    ) -> Result<Option<Range<usize>>> {
        /// A content that no template looks for or cuts.
        const OTHER: &str = "\u{fdd3}";
        let mut messages = messages.to_vec();
        match messages
            .get_mut(index)
            .and_then(|message| message.get_mut("content"))
        {
            Some(content) if content.is_string() => *content = OTHER.into(),
            _ => return Ok(None),
        }
        let Ok(other) = self.rendered(&messages, false) else {
            return Ok(None);
        };
        let Some((before, after)) = other.split_once(OTHER) else {
            return Ok(None);
        };
        let found = whole
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after));
        Ok(found.map(|answer| {
            let end = before.len() + answer.len();
            before.len()..end + self.names.first_in(after)
        }))
    }

    /// Finds an answer: it is what comes after the prompt for it.
    fn by_prompt(
        &self,
        messages: &[Value],
        index: usize,
        whole: &str,
    ) -> Result<Option<Range<usize>>> {
        let before = messages.get(..index).unwrap_or_default();
        let so_far = messages.get(..=index).unwrap_or_default();
        let (Ok(prompt), Ok(so_far)) = (self.rendered(before, true), self.rendered(so_far, false))
        else {
            return Ok(None);
        };
        let is_found = whole.starts_with(&so_far) && so_far.starts_with(&prompt);
        Ok(is_found.then(|| prompt.len()..so_far.trim_end().len().max(prompt.len())))
    }

    /// The tokens of a rendered text, and which are within `answers`.
    fn tokens(&self, text: &str, answers: &[Range<usize>]) -> Result<ChatTokens> {
        let mut tokens = ChatTokens::default();
        let within = |place: usize| answers.iter().any(|answer| answer.contains(&place));
        for (start, part) in self.names.parts(text) {
            match part {
                Part::Special(token) => {
                    tokens.ids.push(token);
                    tokens.answers.push(within(start));
                }
                Part::Text(part) => {
                    let place = match start > 0 && !self.file.prefixes_each_part {
                        true => Place::Within,
                        false => Place::Start,
                    };
                    let unbroken = Unbroken::of(part);
                    let mut before = 0;
                    for (piece, tokeniser) in self.file.pieces(&unbroken.text, place) {
                        let encoding = tokeniser.encode(piece, false).map_err(encode_error)?;
                        for (id, (first, _)) in
                            encoding.get_ids().iter().zip(encoding.get_offsets())
                        {
                            tokens.ids.push(*id);
                            let place = start + unbroken.place(before + first);
                            tokens.answers.push(within(place));
                        }
                        before += piece.len();
                    }
                }
            }
        }
        Ok(tokens)
    }
}

/// The text without its marks, and the ranges between them.
fn marked_ranges(marked: &str) -> (String, Vec<Range<usize>>) {
    let [begins, _] = ANSWER;
    let (mut text, mut ranges, mut start) = (String::new(), Vec::new(), None);
    let mut rest = marked;
    while let Some(place) = rest.find(ANSWER) {
        let (before, after) = rest.split_at(place);
        text.push_str(before);
        let mut letters = after.chars();
        match (letters.next(), start.take()) {
            (Some(mark), _) if mark == begins => start = Some(text.len()),
            (_, Some(start)) => ranges.push(start..text.len()),
            _ => {}
        }
        rest = letters.as_str();
    }
    text.push_str(rest);
    ranges.extend(start.map(|start| start..text.len()));
    (text, ranges)
}

fn failed(error: minijinja::Error) -> Error {
    let line = error.line().map(|line| format!(" (line {line})"));
    let reason = match error.detail() {
        Some(detail) => format!("{detail}{}", line.unwrap_or_default()),
        None => format!("{}{}", error.kind(), line.unwrap_or_default()),
    };
    Error::ChatTemplate { reason }
}

#[cfg(test)]
mod tests;
