//! Width of lines and length of files.

use super::Finding;
use super::lexer::Kind;
use super::source::Source;
use crate::Outcome;

/// Columns of a line of Rust, as in `rustfmt.toml`, which leaves some lines alone.
const WIDTH: usize = 100;
/// Lines of a file without its tests, above which it should become two.
const LINES: usize = 400;

/// Finds lines of Rust that are too wide. A literal or a link may not be broken, so both may pass
/// the margin.
pub fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
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

/// Prints which files are long. This is advice, not a rule.
pub fn warn(sources: &[Source]) {
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
    fn only_literals_and_links_pass_the_margin() {
        let wide = "x".repeat(WIDTH);
        let cases = [
            (format!("// {wide}"), 1),
            (format!("let a = \"{wide}\";"), 0),
            (format!("// https://{wide}"), 0),
            (wide, 0),
        ];
        for (text, findings) in cases {
            let source = Source::new("a.rs", text);
            assert_eq!(wide_lines(&source).len(), findings, "{}", source.text);
        }
    }
}
