//! What `--json` prints is what `docs/reference/json.md` says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::node::Node;
use crate::program::{Place, code, stderr};

/// The fields of a section of the page, with their types.
fn documented(section: &str) -> BTreeMap<String, String> {
    let page = include_str!("../../../docs/reference/json.md");
    let sections = page.split("\n## ");
    let mut wanted = sections.filter(|text| text.lines().next() == Some(section));
    let text = wanted
        .next()
        .unwrap_or_else(|| panic!("no section {section}"));
    let fields = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?;
        Some((name.to_owned(), cells.next()?.to_owned()))
    });
    fields.collect()
}

/// Compares a value with the field that it should be.
fn compare(path: &str, value: &Value, fields: &BTreeMap<String, String>, seen: &mut Vec<String>) {
    let kind = fields
        .get(path)
        .unwrap_or_else(|| panic!("{path} is not documented"));
    seen.push(path.to_owned());
    let kinds: Vec<_> = kind.split([',']).next().unwrap().split(" or ").collect();
    match value {
        Value::Null => assert!(kinds.contains(&"null"), "{path}: null, not {kind}"),
        Value::Bool(_) => assert_eq!(kinds[0], "boolean", "{path}"),
        Value::String(_) => assert_eq!(kinds[0], "text", "{path}"),
        Value::Number(number) => assert!(
            kinds[0] == "number" || kinds[0] == "integer" && number.is_u64(),
            "{path}: {number}, not {kind}"
        ),
        Value::Array(items) => {
            let of = kinds[0]
                .strip_prefix("list of ")
                .unwrap_or_else(|| panic!("{path}: a list"));
            for item in items {
                compare_inner(&format!("{path}[]"), of, item, fields, seen);
            }
        }
        Value::Object(_) if kinds[0] == "object" => object(path, value, fields, seen),
        Value::Object(values) => {
            let of = kinds[0]
                .strip_prefix("object of ")
                .unwrap_or_else(|| panic!("{path}: {kind}"));
            for item in values.values() {
                compare_inner(&format!("{path}.*"), of, item, fields, seen);
            }
        }
    }
}

fn compare_inner(
    path: &str,
    kind: &str,
    value: &Value,
    fields: &BTreeMap<String, String>,
    seen: &mut Vec<String>,
) {
    match value {
        Value::Object(_) if kind == "object" => object(path, value, fields, seen),
        _ => {
            let only = BTreeMap::from([(path.to_owned(), kind.to_owned())]);
            compare(path, value, &only, &mut Vec::new());
        }
    }
}

fn object(path: &str, value: &Value, fields: &BTreeMap<String, String>, seen: &mut Vec<String>) {
    for (name, value) in value.as_object().unwrap() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        compare(&path, value, fields, seen);
    }
}

/// Asserts that this is one line, and that it holds exactly the fields of a section. Fields of
/// lists' elements may be missing, because lists may be empty.
fn matches_page(section: &str, output: &[u8]) {
    let text = std::str::from_utf8(output).unwrap();
    assert_eq!(text.lines().count(), 1, "{section}: {text}");
    let mut value: Value = serde_json::from_str(text).unwrap();
    let version = value.as_object_mut().unwrap().remove("version");
    assert_eq!(version, Some(1.into()), "{section}: {text}");
    let fields = documented(section);
    let mut seen = Vec::new();
    object("", &value, &fields, &mut seen);
    for (name, kind) in &fields {
        let within_nothing = fields
            .iter()
            .any(|(outer, kind)| kind.contains("null") && name.starts_with(&format!("{outer}.")));
        let may_lack =
            within_nothing || name.contains("[]") || name.contains(".*") || kind.contains("null");
        assert!(
            may_lack || kind.contains("absent") || seen.contains(name),
            "{section}: {name} is documented, but not printed: {text}"
        );
    }
}

#[test]
fn what_commands_print_for_programs_is_documented() {
    let place = Place::new();
    place.started_node();
    std::fs::write(
        place.path("questions.jsonl"),
        "{\"context\":\"one and\",\"choices\":[\" two\",\" ten\"],\"answer\":0}\n".repeat(2),
    )
    .unwrap();
    for (section, args) in [
        ("`weal doctor`", &["doctor", "--json", "--no-measure"][..]),
        (
            "`weal data prepare`",
            &[
                "data",
                "prepare",
                "texts.jsonl",
                "--heldout",
                "20%",
                "--json",
                "--out",
                "t",
            ],
        ),
        (
            "`weal eval` of a text",
            &["eval", "text.txt", "--json", "--dir", "node"],
        ),
        (
            "`weal eval` of questions",
            &["eval", "questions.jsonl", "--json", "--dir", "node"],
        ),
        (
            "`weal bench codec`",
            &[
                "bench",
                "codec",
                "--preset",
                "nano",
                "--contributions",
                "1",
                "--json",
            ],
        ),
        (
            "`weal bench check`",
            &["bench", "check", "--batch", "1", "--steps", "1", "--json"],
        ),
        (
            "`weal bench train`",
            &["bench", "train", "--batch", "1", "--steps", "1", "--json"],
        ),
        (
            "`weal testnet`",
            &[
                "testnet",
                "--peers",
                "1",
                "--rounds",
                "1",
                "--steps",
                "1",
                "--train-seconds",
                "2",
                "--json",
            ],
        ),
    ] {
        let output = place.output(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
        matches_page(section, &output.stdout);
    }
}

#[test]
fn what_a_node_says_of_itself_is_documented() {
    let place = Place::new();
    place.run(&["new", "--dir", "node"]);
    let mut node = Node::start(&place, std::process::Stdio::null());
    node.wait_until_it_runs();
    let output = place.output(&["status", "--json", "--page", node.page()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    matches_page("`weal status`", &output.stdout);
}
