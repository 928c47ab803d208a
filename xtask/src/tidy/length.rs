//! Width of lines and length of files.

use super::Finding;
use super::lexer::Kind;
use super::source::Source;
use crate::Outcome;

/// Columns of a line of Rust, as in `rustfmt.toml`, which leaves some lines alone.
const WIDTH: usize = 100;
/// Lines of a file without its tests, above which it should become two.
const LINES: usize = 400;

/// Finds lines of Rust that are too wide. A literal, a link or a row of a table cannot be broken,
/// so they may pass the margin.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    Ok(sources
        .iter()
        .filter(|source| source.is("rs"))
        .flat_map(wide_lines)
        .collect())
}

fn wide_lines(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut start = 0;
    for (index, line) in source.text.split('\n').enumerate() {
        let margin = line.char_indices().nth(WIDTH).map(|(at, _)| start + at);
        if let Some(margin) = margin
            && source.kinds[margin] != Kind::Literal
            && !line.contains("://")
            && !is_row(line)
        {
            findings.push(Finding {
                path: source.path.clone(),
                line: index + 1,
                message: format!("wider than {WIDTH} columns"),
            });
        }
        start += line.len() + 1;
    }
    findings
}

/// Whether a line is a row of a table in a doc comment.
fn is_row(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches(['/', '!']);
    line.trim_start().starts_with("//") && text.trim_start().starts_with('|')
}

/// Prints which files are long. This is advice, not a rule.
pub(crate) fn warn(sources: &[Source]) {
    for source in sources.iter().filter(|source| source.is("rs")) {
        let code = source.text.split("\n#[cfg(test)]\nmod tests {").next();
        let lines = code.unwrap_or_default().lines().count();
        if lines > LINES {
            println!("note: {} has {lines} lines: is it one idea?", source.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_links_and_tables_pass_the_margin() {
        let wide = "x".repeat(WIDTH);
        let cases = [
            (format!("// {wide}"), 1),
            (format!("let a = \"{wide}\";"), 0),
            (format!("// https://{wide}"), 0),
            (format!("    //! | {wide} |"), 0),
            (wide, 0),
        ];
        for (text, findings) in cases {
            let source = Source::new("a.rs", text);
            assert_eq!(wide_lines(&source).len(), findings, "{}", source.text);
        }
    }
}
