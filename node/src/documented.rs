//! TOML files whose keys carry their documentation.
//!
//! [`documented!`](crate::documented::documented) declares such a file in the order and almost in
//! the form of TOML. The doc comment of a key is the only place where its prose stands: it becomes
//! the comment above the key in the written file, the help of the flag that overrides it, and its
//! entry in the reference.

use serde::Serialize;
use toml::Value;

/// Width of the comments in a written file, in columns.
const COLUMNS: usize = 100;

/// A key of a file or of one of its tables.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key, as it is written.
    pub name: &'static str,
    /// Its doc comment, on one line.
    pub doc: &'static str,
    /// What the key holds.
    pub shape: Shape,
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A value.
    Value,
    /// A table with these keys: `[name]`.
    Table(&'static [Key]),
    /// Any number of tables with these keys: `[[name]]`.
    Tables(&'static [Key]),
}

/// A file, or a table of one, whose keys are documented.
pub trait Documented: Serialize {
    /// Its keys, in the order in which they are written.
    const KEYS: &'static [Key];
}

/// Declares the struct of a file or table, its defaults and its [`Documented::KEYS`].
///
/// A key whose value is an array of tables names the type of these after `=>`. A type after `item`
/// is such a table: its keys have no defaults.
macro_rules! documented {
    (
        item
        $(#[doc = $doc:literal])+
        pub struct $name:ident { $($(#[doc = $key_doc:literal])+ $key:ident: $type:ty,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $key_doc])+ pub $key: $type,)+
        }

        impl $crate::documented::Documented for $name {
            const KEYS: &'static [$crate::documented::Key] = &[
                $($crate::documented::Key {
                    name: stringify!($key),
                    doc: concat!($($key_doc),+).trim_ascii(),
                    shape: $crate::documented::Shape::Value,
                },)+
            ];
        }
    };
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $($(#[doc = $key_doc:literal])+ $key:ident: $type:ty = $default:expr $(=> $item:ty)?,)*
        }
        $(
            $(#[doc = $table_doc:literal])+
            [$table:ident] $table_name:ident { $($body:tt)* }
        )*
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $key_doc])+ pub $key: $type,)*
            $($(#[doc = $table_doc])+ pub $table: $table_name,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: $default,)*
                    $($table: $table_name::default(),)*
                }
            }
        }

        impl $crate::documented::Documented for $name {
            const KEYS: &'static [$crate::documented::Key] = &[
                $($crate::documented::Key {
                    name: stringify!($key),
                    doc: concat!($($key_doc),+).trim_ascii(),
                    shape: $crate::documented::documented!(@shape $($item)?),
                },)*
                $($crate::documented::Key {
                    name: stringify!($table),
                    doc: concat!($($table_doc),+).trim_ascii(),
                    shape: $crate::documented::Shape::Table(
                        <$table_name as $crate::documented::Documented>::KEYS,
                    ),
                },)*
            ];
        }

        $($crate::documented::documented! {
            $(#[doc = $table_doc])+
            pub struct $table_name { $($body)* }
        })*
    };
    (@shape) => { $crate::documented::Shape::Value };
    (@shape $item:ty) => {
        $crate::documented::Shape::Tables(<$item as $crate::documented::Documented>::KEYS)
    };
}

pub(crate) use documented;

/// The doc comment of a key such as `network.listen`.
fn doc_of<T: Documented>(path: &str) -> Option<&'static str> {
    let mut keys = T::KEYS;
    let mut doc = None;
    for name in path.split('.') {
        let key = keys.iter().find(|key| key.name == name)?;
        doc = Some(key.doc);
        keys = match key.shape {
            Shape::Value => &[],
            Shape::Table(keys) | Shape::Tables(keys) => keys,
        };
    }
    doc
}

/// The doc of a key as clap shows that of a flag: without the last full stop. Empty if there is no
/// such key; a test of the command line refuses flags without help.
pub(crate) fn help_of<T: Documented>(path: &str) -> &'static str {
    let doc = doc_of::<T>(path).unwrap_or_default();
    doc.strip_suffix('.').unwrap_or(doc)
}

/// The text of a file: `head` as a comment, then every key that has a value, each below its doc.
///
/// # Errors
/// When a value cannot be written as TOML.
pub(crate) fn to_commented_toml<T: Documented>(
    head: &str,
    file: &T,
) -> Result<String, toml::ser::Error> {
    let mut text = comment(head);
    text.push('\n');
    write_table(&mut text, "", T::KEYS, &Value::try_from(file)?, true);
    Ok(text)
}

/// Writes the keys of a table: first its values, then the tables in it.
fn write_table(text: &mut String, path: &str, keys: &[Key], table: &Value, with_docs: bool) {
    let held = |key: &Key| table.get(key.name).map(|value| (*key, value.clone()));
    let (tables, values): (Vec<_>, Vec<_>) = keys
        .iter()
        .filter_map(held)
        .partition(|(_, value)| is_table(value));
    for (key, value) in values {
        if with_docs {
            text.push_str(&comment(key.doc));
        }
        text.push_str(&assignment(key.name, &value));
    }
    for (key, value) in tables {
        let path = match path {
            "" => key.name.to_owned(),
            path => format!("{path}.{}", key.name),
        };
        text.push_str(&format!("\n{}", comment(key.doc)));
        match (key.shape, &value) {
            (Shape::Tables(keys), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    text.push_str(&format!("[[{path}]]\n"));
                    write_table(text, &path, keys, item, index == 0);
                }
            }
            (Shape::Table(keys), _) => {
                text.push_str(&format!("[{path}]\n"));
                write_table(text, &path, keys, &value, true);
            }
            _ => {}
        }
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(items) => items.first().is_some_and(Value::is_table),
        _ => false,
    }
}

/// `key = value`; an array that does not fit on a line has one value a line.
fn assignment(key: &str, value: &Value) -> String {
    let line = format!("{key} = {value}\n");
    match value {
        Value::Array(items) if line.len() > COLUMNS => {
            let items: String = items.iter().map(|item| format!("    {item},\n")).collect();
            format!("{key} = [\n{items}]\n")
        }
        _ => line,
    }
}

/// Text as a comment of several lines.
fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut column = 1;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 1 && column + 1 + width > COLUMNS {
            lines.push_str("\n#");
            column = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        column += 1 + width;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro declares public structs")]
mod tests {
    use super::*;

    documented! {
        item
        /// A rate.
        pub struct Rate {
            /// First round.
            from: u64,
        }
    }

    documented! {
        /// A file.
        pub struct File {
            /// What it
            /// is called.
            name: String = "x".into(),
            /// Left out when unset.
            note: Option<String> = None,
        }

        /// A table.
        [outer] Outer {
            /// How often.
            every: u64 = 1,
            /// Rates by round.
            rates: Vec<Rate> = vec![Rate { from: 0 }, Rate { from: 9 }] => Rate,
        }
    }

    #[test]
    fn a_file_is_written_with_the_doc_of_each_key_above_it() {
        let text = to_commented_toml("Edit me.", &File::default()).unwrap();
        let lines = [
            "# Edit me.",
            "",
            "# What it is called.",
            "name = \"x\"",
            "",
            "# A table.",
            "[outer]",
            "# How often.",
            "every = 1",
            "",
            "# Rates by round.",
            "[[outer.rates]]",
            "# First round.",
            "from = 0",
            "[[outer.rates]]",
            "from = 9",
            "",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!(toml::from_str::<File>(&text).unwrap(), File::default());
    }

    #[test]
    fn a_doc_is_found_by_the_path_of_its_key() {
        assert_eq!(doc_of::<File>("outer.every"), Some("How often."));
        assert_eq!(doc_of::<File>("outer.rates.from"), Some("First round."));
        assert_eq!(doc_of::<File>("outer.none"), None);
    }

    #[test]
    fn comments_and_long_arrays_are_wrapped() {
        let text = comment(&"word ".repeat(50));
        assert!(text.lines().count() == 3 && text.lines().all(|line| line.len() <= COLUMNS));
        let items = vec![Value::from("x".repeat(60)); 2];
        assert_eq!(assignment("keys", &Value::Array(items)).lines().count(), 4);
    }
}
