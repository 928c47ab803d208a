//! What a merge left behind.

use super::Finding;
use super::source::Source;
use crate::Outcome;

/// Finds the lines with which Git marks a conflict. A page of prose compiles with them.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    let findings = sources.iter().flat_map(|source| {
        let lines = source.text.lines().enumerate();
        let marked = lines.filter(|(_, line)| is_marker(line));
        marked.map(|(index, _)| Finding {
            path: source.path.clone(),
            line: index + 1,
            message: "a merge conflict that nobody resolved".into(),
        })
    });
    Ok(findings.collect())
}

/// Seven signs and a name. Seven equals signs alone underline headings.
fn is_marker(line: &str) -> bool {
    ["<", ">", "|"].iter().any(|sign| {
        let rest = line.strip_prefix(&sign.repeat(7));
        rest.is_some_and(|rest| rest.starts_with(' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_a_conflict_are_found_and_other_lines_are_not() {
        let ours = format!("{} HEAD", "<".repeat(7));
        let theirs = format!("{} branch", ">".repeat(7));
        let text = format!("# Title\n{ours}\na\n=======\nb\n{theirs}\n| a | b |\n<<<<<<<<\n");
        let found = check(&[Source::new("a.md", text)]).unwrap();
        let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 6]);
    }
}
