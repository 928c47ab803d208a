//! The keys of a TOML file, from their docs and defaults.

use std::fmt::Write;

use toml::Value;
use weal::documented::{Documented, Key, Shape};

use super::markdown::{item, wrap};

/// The flags that set a key, from its path and its doc.
type Flags<'a> = &'a dyn Fn(&str, &str) -> Vec<String>;

/// A section for each table of a file, with an entry for each key.
pub(crate) fn tables<T: Documented>(defaults: &T, flags: Flags<'_>) -> String {
    let defaults = Value::try_from(defaults).unwrap();
    let mut text = String::new();
    keys(&mut text, "", T::KEYS, Some(&defaults), flags);
    text
}

fn keys(text: &mut String, path: &str, keys_of: &[Key], table: Option<&Value>, flags: Flags<'_>) {
    let path_of = |key: &Key| match path {
        "" => key.name.to_owned(),
        path => format!("{path}.{}", key.name),
    };
    for key in keys_of {
        if matches!(key.shape, Shape::Value) {
            let default = table.and_then(|table| table.get(key.name));
            let flags = flags(&path_of(key), key.doc);
            entry(text, key, default, &flags, path);
        }
    }
    for key in keys_of {
        let (brackets, inner) = match key.shape {
            Shape::Value => continue,
            Shape::Table(inner) => (("[", "]"), inner),
            Shape::Tables(inner) => (("[[", "]]"), inner),
        };
        let path = path_of(key);
        write!(
            text,
            "\n## `{}{path}{}`\n\n{}\n",
            brackets.0,
            brackets.1,
            wrap(key.doc, "")
        )
        .unwrap();
        let held = table.and_then(|table| table.get(key.name));
        let held = match held {
            Some(Value::Array(items)) => items.first(),
            held => held,
        };
        keys(text, &path, inner, held, flags);
    }
}

fn entry(text: &mut String, key: &Key, default: Option<&Value>, flags: &[String], path: &str) {
    let heading = if path.is_empty() { "##" } else { "###" };
    write!(
        text,
        "\n{heading} `{}`\n\n{}\n\n",
        key.name,
        wrap(key.doc, "")
    )
    .unwrap();
    let default = default.map_or_else(|| "unset".to_owned(), |value| format!("`{value}`"));
    text.push_str(&item(&format!("Default: {default}")));
    if !flags.is_empty() {
        text.push_str(&item(&format!("Flag: {}", flags.join(", "))));
    }
}
