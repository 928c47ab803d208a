//! Records of JSON lines: a text, or the messages of a conversation.

use serde_json::Value;

use super::lines::{fields_of, text_of};
use super::record::{BadRecord, Lines, Text};
use crate::json::{Raw, parse_json};

/// A record.
#[derive(Debug, PartialEq)]
pub(in crate::data) enum Document {
    Text(Text),
    Messages(Messages),
}

/// The messages of a conversation, each an object with `role` and `content`.
#[derive(Debug, PartialEq)]
pub(in crate::data) struct Messages {
    pub list: Vec<Value>,
    /// The line on which the record begins.
    pub number: u64,
}

impl Messages {
    /// What was said, without who said it.
    pub(in crate::data) fn text(&self) -> String {
        let contents = self
            .list
            .iter()
            .filter_map(|message| message.get("content"));
        let texts = contents.map(|content| match content {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// Parses lines into documents and bad records. A field that holds a list holds messages.
pub(in crate::data) fn documents_of<'a>(
    lines: &'a Lines,
    field: &'a str,
) -> impl Iterator<Item = Result<Document, BadRecord>> + 'a {
    fields_of(lines, field).map(move |(number, found)| {
        found
            .and_then(|found| match found {
                Some(Raw::Array(list)) => messages_of(list, field, number).map(Document::Messages),
                found => text_of(found, field, number).map(Document::Text),
            })
            .map_err(|reason| BadRecord { number, reason })
    })
}

fn messages_of(list: &[u8], field: &str, number: u64) -> Result<Messages, String> {
    let list = parse_json(list).map_err(|fault| format!("not JSON: {fault}"))?;
    let list = match list {
        Value::Array(list) if !list.is_empty() => list,
        _ => return Err(format!("its {field:?} holds no messages")),
    };
    let list: Option<Vec<Value>> = list.into_iter().map(message).collect();
    match list {
        Some(list) => Ok(Messages { list, number }),
        None => Err(format!(
            "its {field:?} is a list, but not of messages: objects with \"role\" and \"content\", \
             or \"from\" and \"value\""
        )),
    }
}

/// A message with `role` and `content`. ShareGPT's data sets call them `from` and `value`, and have
/// names of their own for who speaks.
fn message(mut message: Value) -> Option<Value> {
    if message.get("role").is_some_and(Value::is_string) {
        return Some(message);
    }
    let keys = message.as_object_mut()?;
    let role = match keys.get("from")?.as_str()? {
        "human" => "user",
        "gpt" | "chatgpt" | "bing" | "bard" | "model" => "assistant",
        other => other,
    };
    let role = Value::from(role);
    let content = keys.remove("value")?;
    keys.remove("from");
    keys.insert("role".to_owned(), role);
    keys.insert("content".to_owned(), content);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Result<Document, BadRecord>> {
        let lines = Lines {
            bytes: text.as_bytes().to_vec(),
            ..Lines::at(1)
        };
        documents_of(&lines, "messages").collect()
    }

    #[test]
    fn a_list_of_messages_is_a_conversation_and_a_string_a_text() {
        let found = documents(concat!(
            r#"{"messages":[{"role":"user","content":"hi","x":NaN},{"role":"assistant","content":"yo"}]}"#,
            "\n",
            r#"{"messages":"plain"}"#,
            "\n",
        ));
        assert!(matches!(&found[0], Ok(Document::Messages(all))
                if all.text() == "hi\nyo" && all.number == 1));
        assert!(matches!(&found[1], Ok(Document::Text(text)) if text.bytes == b"plain"));
    }

    #[test]
    fn messages_of_sharegpt_get_the_usual_names() {
        let found = documents(concat!(
            r#"{"messages":[{"from":"system","value":"s"},{"from":"human","value":"hi"},"#,
            r#"{"from":"gpt","value":"yo","weight":1},{"from":"tool","value":"t"}]}"#,
        ));
        let Ok(Document::Messages(messages)) = &found[0] else {
            panic!("{found:?}");
        };
        let roles: Vec<_> = messages.list.iter().map(|one| &one["role"]).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(messages.text(), "s\nhi\nyo\nt");
        assert_eq!(messages.list[2]["weight"], 1);
        assert!(messages.list.iter().all(|one| one.get("from").is_none()));
    }

    #[test]
    fn a_list_of_something_else_is_a_bad_record() {
        for (line, needle) in [
            (r#"{"messages":[]}"#, "no messages"),
            (r#"{"messages":["hi"]}"#, "role"),
            (r#"{"messages":[{"from":"human","text":"hi"}]}"#, "value"),
            (r#"{"messages":7}"#, "not a string"),
        ] {
            let found = documents(line);
            assert!(
                matches!(&found[0], Err(bad) if bad.reason.contains(needle)),
                "{found:?}"
            );
        }
    }
}
