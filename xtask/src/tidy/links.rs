//! Links of Markdown files: the file and the heading must exist. Links to other sites are not
//! followed.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::Finding;
use super::source::Source;
use crate::Outcome;

/// Finds relative links that lead nowhere.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    let pages: BTreeMap<&str, &Source> = sources
        .iter()
        .filter(|source| source.is("md"))
        .map(|source| (source.path.as_str(), source))
        .collect();
    let broken = |page: &&Source| broken(page, &pages);
    Ok(pages.values().flat_map(broken).collect())
}

fn broken(page: &Source, pages: &BTreeMap<&str, &Source>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in prose_lines(&page.text) {
        for target in targets(&text) {
            if let Err(message) = follow(page, &target, pages) {
                findings.push(Finding {
                    path: page.path.clone(),
                    line,
                    message: format!("link to {target}: {message}"),
                });
            }
        }
    }
    findings
}

/// Whether a link leads somewhere.
fn follow(page: &Source, target: &str, pages: &BTreeMap<&str, &Source>) -> Outcome {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        page.path.clone()
    } else {
        let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        let path = normal(&folder.join(file));
        path.ok_or("it leaves the repository")?
    };
    if !Path::new(&path).exists() {
        return Err(format!("{path} does not exist"));
    }
    match pages.get(path.as_str()) {
        Some(other) if !anchor.is_empty() && !anchors(&other.text).contains(&anchor.to_owned()) => {
            Err(format!("{path} has no heading #{anchor}"))
        }
        _ => Ok(()),
    }
}

/// A path without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<String> {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => parts.pop().then_some(())?,
            _ => {}
        }
    }
    Some(parts.to_string_lossy().replace('\\', "/"))
}

/// Lines outside fenced code, without inline code, numbered from 1.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        let outside = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        (!fenced).then_some((index + 1, outside))
    })
}

/// The targets of `[text](target)` and of `[name]: target`.
fn targets(line: &str) -> Vec<String> {
    let inline = line.match_indices("](").filter_map(|(at, _)| {
        let rest = &line[at + 2..];
        let target = rest.split([')', ' ']).next()?;
        Some(target.trim_matches(['<', '>']).to_owned())
    });
    let definition = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target.trim().to_owned());
    inline.chain(definition).collect()
}

/// The anchors of a page's headings, formed as code hosts and mdBook do.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut fenced = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        if fenced || title == line || !title.starts_with(' ') {
            continue;
        }
        let slug = slug(title.trim());
        let count = seen.entry(slug.clone()).or_default();
        anchors.push(match *count {
            0 => slug,
            count => format!("{slug}-{count}"),
        });
        *count += 1;
    }
    anchors
}

fn slug(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'))
        .map(|character| if character == ' ' { '-' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::enter_repository;
    use crate::tidy::source;

    #[test]
    fn every_link_of_the_repository_leads_somewhere() {
        enter_repository().unwrap();
        let findings = check(&source::all().unwrap()).unwrap();
        let list: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "{}", list.join("\n"));
    }

    #[test]
    fn links_are_found_in_prose_only() {
        let text = "See [a](b.md#c) and `[d](e)`.\n```\n[f](g)\n```\n[h]: i.md\n";
        let found: Vec<_> = prose_lines(text)
            .flat_map(|(_, line)| targets(&line))
            .collect();
        assert_eq!(found, ["b.md#c", "i.md"]);
    }

    #[test]
    fn headings_become_anchors() {
        let text = "# Life of a *vote*: `weal`\n## Same\n```\n# no\n```\n## Same\n";
        assert_eq!(anchors(text), ["life-of-a-vote-weal", "same", "same-1"]);
    }
}
