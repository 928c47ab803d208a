//! Imports name one module a line; no file takes in another by `#[path]`.

use super::Finding;
use super::source::Source;
use crate::Outcome;

/// Finds imports of several modules in one item, and `#[path]`.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    let rust = sources.iter().filter(|source| source.is("rs"));
    Ok(rust.flat_map(findings).collect())
}

fn findings(source: &Source) -> Vec<Finding> {
    let code = source.code();
    let finding = |offset, message: &str| Finding {
        path: source.path.clone(),
        line: source.line_at(offset),
        message: message.to_owned(),
    };
    let mut findings: Vec<_> = imports(&code)
        .filter(|(_, import)| nests(import))
        .map(|(at, _)| finding(at, "import one module a line: `use std::fmt;`"))
        .collect();
    for (at, _) in code.match_indices("#[path") {
        findings.push(finding(at, "no #[path]: share code through a crate"));
    }
    findings
}

/// The `use` items, with their offsets.
pub(crate) fn imports(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("use ").filter_map(|(at, _)| {
        let before = code[..at].trim_end_matches(' ');
        let starts = before.is_empty() || before.ends_with(['\n', ';', '{', '}', ')', ']', 'b']);
        let after_pub = !before.ends_with('b') || before.ends_with("pub");
        let item = code[at + 4..].split(';').next()?;
        (starts && after_pub).then_some((at, item))
    })
}

/// Whether braces hold a path and not only names.
fn nests(import: &str) -> bool {
    let braces = import.split_once('{');
    braces.is_some_and(|(_, names)| names.contains("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_module_a_line_is_right() {
        let right = "use std::fmt;\npub use a::b::{C, D};\npub(crate) use a::{self, F};\n";
        assert!(findings(&Source::new("a.rs", right)).is_empty());
    }

    #[test]
    fn several_modules_and_paths_are_found() {
        let wrong = "use std::{\n    fmt, io::Read\n};\n#[path = \"b.rs\"]\nmod b;\n";
        let findings = findings(&Source::new("a.rs", wrong));
        let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 4]);
    }
}
