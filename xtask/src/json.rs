//! A small reader of JSON, for what Cargo prints. Without another crate this program is built in
//! seconds, and adds nothing to what the rest of the workspace compiles.

use std::fmt::{self, Display, Formatter};
use std::iter::Peekable;
use std::ops::Index;
use std::str::Chars;

use crate::Outcome;

/// A value of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Also stands for what an object or an array does not hold.
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it is written.
    Number(String),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// Keys and values, in the order of the text.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads a text that holds one value.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let mut reader = Reader {
            rest: text.chars().peekable(),
        };
        let value = reader.value()?;
        match reader.next_token() {
            None => Ok(value),
            Some(other) => Err(format!("JSON continues after its value: {other:?}")),
        }
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The elements of an array.
    pub(crate) fn as_array(&self) -> Option<&Vec<Self>> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }
}

impl Index<&str> for Value {
    type Output = Self;

    fn index(&self, key: &str) -> &Self {
        let Self::Object(entries) = self else {
            return &Self::Null;
        };
        let entry = entries.iter().find(|(name, _)| name == key);
        entry.map_or(&Self::Null, |(_, value)| value)
    }
}

impl Index<usize> for Value {
    type Output = Self;

    fn index(&self, place: usize) -> &Self {
        let element = self.as_array().and_then(|elements| elements.get(place));
        element.unwrap_or(&Self::Null)
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl Display for Value {
    /// Readable, and equal for equal values; not JSON.
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    /// The next character that is not white space.
    fn next_token(&mut self) -> Option<char> {
        while self.rest.next_if(char::is_ascii_whitespace).is_some() {}
        self.rest.next()
    }

    fn value(&mut self) -> Outcome<Value> {
        match self.next_token() {
            Some('{') => self.object(),
            Some('[') => self.array(),
            Some('"') => Ok(Value::String(self.string()?)),
            Some(first @ ('-' | '0'..='9')) => Ok(Value::Number(self.word(first))),
            Some(first) => match self.word(first).as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                "null" => Ok(Value::Null),
                other => Err(format!("not a value of JSON: {other:?}")),
            },
            None => Err("JSON ends early".to_owned()),
        }
    }

    /// A number or a name that begins with `first`.
    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        let belongs = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        while let Some(character) = self.rest.next_if(belongs) {
            word.push(character);
        }
        word
    }

    fn array(&mut self) -> Outcome<Value> {
        let mut elements = Vec::new();
        if self.ends(']') {
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            match self.next_token() {
                Some(',') => {}
                Some(']') => return Ok(Value::Array(elements)),
                other => return Err(format!("expected ',' or ']' in JSON, found {other:?}")),
            }
        }
    }

    fn object(&mut self) -> Outcome<Value> {
        let mut entries = Vec::new();
        if self.ends('}') {
            return Ok(Value::Object(entries));
        }
        loop {
            let (Some('"'), key, Some(':')) =
                (self.next_token(), self.string()?, self.next_token())
            else {
                return Err("expected a key and ':' in JSON".to_owned());
            };
            entries.push((key, self.value()?));
            match self.next_token() {
                Some(',') => {}
                Some('}') => return Ok(Value::Object(entries)),
                other => return Err(format!("expected ',' or '}}' in JSON, found {other:?}")),
            }
        }
    }

    /// Takes the closing bracket of an empty array or object.
    fn ends(&mut self, bracket: char) -> bool {
        while self.rest.next_if(char::is_ascii_whitespace).is_some() {}
        self.rest.next_if_eq(&bracket).is_some()
    }

    /// The rest of a string whose opening quote is taken.
    fn string(&mut self) -> Outcome<String> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some(character) => text.push(character),
                None => return Err("a string of JSON does not end".to_owned()),
            }
        }
    }

    fn escaped(&mut self) -> Outcome<char> {
        match self.rest.next() {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('u') => {
                let digits: String = self.rest.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                // Half of a pair, which Cargo does not print, is not a character.
                Ok(code
                    .and_then(char::from_u32)
                    .unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            Some(character) => Ok(character),
            None => Err("a string of JSON does not end".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let text =
            r#" {"a": [1, -2.5e3, "x\n\"ä\u00e4"], "b": {}, "c": [], "d": true, "e": null} "#;
        let value = Value::parse(text).unwrap();
        assert_eq!(value["a"][0].as_u64(), Some(1));
        assert_eq!(value["a"][1], Value::Number("-2.5e3".to_owned()));
        assert_eq!(value["a"][2].as_str(), Some("x\n\"ää"));
        assert_eq!(value["b"], Value::Object(Vec::new()));
        assert_eq!(value["c"].as_array().map(Vec::len), Some(0));
        assert_eq!(value["d"], Value::Bool(true));
        assert_eq!(value["e"], Value::Null);
        assert_eq!(value["none"]["at all"][7], Value::Null);
    }

    #[test]
    fn broken_texts_are_refused() {
        for text in [
            "",
            "{",
            "[1",
            "[1 2]",
            "{\"a\" 1}",
            "\"open",
            "tru",
            "1 2",
            "{a: 1}",
        ] {
            assert!(Value::parse(text).is_err(), "{text}");
        }
    }
}
