//! Special tokens in a rendered text: those that the template writes, not those in a message.
//!
//! A special token in a message is broken by a letter that Unicode assigns to nothing, before the
//! template is rendered. What is then still whole was written by the template.

use serde_json::Value;
use tokenizers::Tokenizer;

/// Stands within a special token that is meant as text.
const BREAK: char = '\u{fdd0}';

/// A part of a rendered text.
pub(super) enum Part<'a> {
    Text(&'a str),
    Special(u32),
}

/// A special token.
struct Name {
    text: String,
    id: u32,
    /// Whether white space before, or after, belongs to it.
    takes_before: bool,
    takes_after: bool,
}

/// The names of special tokens.
pub(super) struct SpecialNames {
    /// Longest first.
    names: Vec<Name>,
    /// Whether a name begins with each byte.
    begins: [bool; 256],
}

impl SpecialNames {
    pub(super) fn of(tokeniser: &Tokenizer) -> Self {
        let added = tokeniser.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special);
        let mut names: Vec<Name> = special
            .filter(|(_, token)| token.content.chars().nth(1).is_some())
            .map(|(id, token)| Name {
                text: token.content,
                id,
                takes_before: token.lstrip,
                takes_after: token.rstrip,
            })
            .collect();
        names.sort_by(|a, b| (b.text.len(), &a.text).cmp(&(a.text.len(), &b.text)));
        let mut begins = [false; 256];
        for byte in names.iter().filter_map(|name| name.text.bytes().next()) {
            begins[usize::from(byte)] = true;
        }
        Self { names, begins }
    }

    /// Breaks the special tokens in every text of a message.
    pub(super) fn break_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if text.contains(BREAK) {
                    *text = text.replace(BREAK, "");
                }
                for Name { text: name, .. } in &self.names {
                    if text.contains(name.as_str()) {
                        let mut broken = name.clone();
                        let second = name.chars().next().map_or(0, char::len_utf8);
                        broken.insert(second, BREAK);
                        *text = text.replace(name.as_str(), &broken);
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.break_in(value)),
            Value::Object(map) => map.values_mut().for_each(|value| self.break_in(value)),
            _ => {}
        }
    }

    /// The special token that a text begins with.
    fn at(&self, text: &str) -> Option<&Name> {
        let first = text.bytes().next()?;
        let may_begin = self.begins[usize::from(first)];
        let mut names = self.names.iter().filter(|_| may_begin);
        names.find(|name| text.starts_with(&name.text))
    }

    /// Bytes of the special token that a text begins with; 0 if there is none.
    pub(super) fn first_in(&self, text: &str) -> usize {
        self.at(text).map_or(0, |name| name.text.len())
    }

    /// The parts of a rendered text, each with its place.
    pub(super) fn parts<'a>(&self, text: &'a str) -> Vec<(usize, Part<'a>)> {
        let mut parts = Vec::new();
        let (mut start, mut place) = (0, 0);
        let add = |from: usize, to: usize, parts: &mut Vec<(usize, Part<'a>)>| {
            if let Some(part) = text.get(from..to).filter(|part| !part.is_empty()) {
                parts.push((from, Part::Text(part)));
            }
        };
        while let Some(rest) = text.get(place..).filter(|rest| !rest.is_empty()) {
            let Some(name) = self.at(rest) else {
                place += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let before = text.get(start..place).unwrap_or_default();
            let end = match name.takes_before {
                true => start + before.trim_end().len(),
                false => place,
            };
            add(start, end, &mut parts);
            parts.push((place, Part::Special(name.id)));
            place += name.text.len();
            if name.takes_after {
                let after = text.get(place..).unwrap_or_default();
                place += after.len() - after.trim_start().len();
            }
            start = place;
        }
        add(start, text.len(), &mut parts);
        parts
    }
}

/// A text without the letters that break special tokens.
pub(super) struct Unbroken {
    pub text: String,
    /// Where in it such a letter stood.
    breaks: Vec<usize>,
}

impl Unbroken {
    pub(super) fn of(broken: &str) -> Self {
        let mut unbroken = Self {
            text: String::with_capacity(broken.len()),
            breaks: Vec::new(),
        };
        for (index, part) in broken.split(BREAK).enumerate() {
            if index > 0 {
                unbroken.breaks.push(unbroken.text.len());
            }
            unbroken.text.push_str(part);
        }
        unbroken
    }

    /// The place in the broken text of a byte of this one.
    pub(super) fn place(&self, byte: usize) -> usize {
        byte + BREAK.len_utf8() * self.breaks.partition_point(|place| *place <= byte)
    }
}
