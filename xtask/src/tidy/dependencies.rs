//! Every dependency is used: in its manifest's section, and in the workspace's table.

use std::collections::BTreeSet;
use std::fs;

use super::Finding;
use super::source::Source;
use crate::Outcome;
use crate::metadata::{Dependency, Kind, Member, members};

/// Dependencies that only switch on features of others.
const FEATURES_ONLY: [(&str, &str); 0] = [];

/// Generated to switch on features.
const HACK: &str = "workspace-hack";

/// Finds dependencies that no source file names.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    let members = members()?;
    let mut findings: Vec<_> = members
        .iter()
        .filter(|member| member.name != HACK)
        .flat_map(|member| unused(member, sources))
        .collect();
    findings.extend(unused_in_workspace(&members)?);
    Ok(findings)
}

fn unused(member: &Member, sources: &[Source]) -> Vec<Finding> {
    let folder = format!("{}/", member.folder.display());
    let excused = |name: &str| {
        name == HACK || name == member.name || FEATURES_ONLY.contains(&(&member.name, name))
    };
    let mut findings = Vec::new();
    for Dependency { name, kind } in &member.dependencies {
        let mut files = sources.iter().filter(|source| {
            let inside = source.path.strip_prefix(&folder);
            source.is("rs") && inside.is_some_and(|path| may_use(*kind, path))
        });
        let module = name.replace('-', "_");
        if !excused(name) && !files.any(|source| names(&source.code(), &module)) {
            findings.push(Finding {
                path: format!("{folder}Cargo.toml"),
                line: 0,
                message: format!("{name} is not used ({kind:?} dependency)"),
            });
        }
    }
    findings
}

/// Whether a file of a crate may use a dependency of this kind.
fn may_use(kind: Kind, path: &str) -> bool {
    match kind {
        _ if path.starts_with("fuzz/") => false,
        Kind::Build => path == "build.rs",
        Kind::Normal => path.starts_with("src/"),
        Kind::Dev => path != "build.rs",
    }
}

/// Whether code has this word.
fn names(code: &str, word: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// Finds lines of `[workspace.dependencies]` that no member takes.
fn unused_in_workspace(members: &[Member]) -> Outcome<Vec<Finding>> {
    let path = "Cargo.toml";
    let manifest = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let used: BTreeSet<_> = members
        .iter()
        .flat_map(|member| &member.dependencies)
        .map(|dependency| dependency.name.as_str())
        .collect();
    let lines = manifest.lines().enumerate();
    let table = lines
        .skip_while(|(_, line)| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['));
    let named = table.filter_map(|(index, line)| Some((index, line.split_once(" = ")?.0)));
    Ok(named
        .filter(|(_, name)| !name.starts_with('#') && !used.contains(name))
        .map(|(index, name)| Finding {
            path: path.to_owned(),
            line: index + 1,
            message: format!("no crate depends on {name}"),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_names() {
        assert!(names("use rand::rng;", "rand"));
        assert!(!names("use operand::rand_core;", "rand"));
    }
}
