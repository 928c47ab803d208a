//! No circle between modules of one crate, except between a module and those inside it.
//!
//! Read from the paths that begin with `crate::` or `super::` in code outside test modules. A path
//! through a module that only re-exports counts as a use of that module.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::source::Source;
use crate::Outcome;
use crate::metadata::members;

/// The crates that keep this rule.
const CRATES: [&str; 10] = [
    "weal",
    "weal-coordinator-free",
    "weal-files",
    "weal-kernels",
    "weal-network",
    "weal-proto",
    "weal-simulator",
    "weal-testing",
    "weal-trainer",
    "xtask",
];

/// The uses of each module, by its path such as `core::receive`.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Finds modules of one crate that use each other.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    let mut findings = Vec::new();
    let members = members()?.into_iter();
    for member in members.filter(|member| CRATES.contains(&member.name.as_str())) {
        let folder = format!("{}/src/", member.folder.display());
        let files: Vec<_> = sources
            .iter()
            .filter(|source| source.is("rs"))
            .filter_map(|source| Some((module(source.path.strip_prefix(&folder)?), source)))
            .filter(|(module, _)| !is_test(module))
            .collect();
        let uses = uses(&files);
        findings.extend(circles(&uses).iter().map(|circle| Finding {
            path: folder.clone(),
            line: 0,
            message: format!("circle of modules: {}", arrows(&uses, circle)),
        }));
    }
    Ok(findings)
}

/// The module that a file holds: `core/mod.rs` is `core`, `lib.rs` is the root, an empty path.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => String::new(),
        path => path.replace('/', "::"),
    }
}

fn is_test(module: &str) -> bool {
    module
        .split("::")
        .any(|part| part == "tests" || part == "testing" || part == "conformance")
}

fn uses(files: &[(String, &Source)]) -> Uses {
    let known: BTreeSet<&str> = files.iter().map(|(module, _)| module.as_str()).collect();
    let mut uses = Uses::new();
    for (module, source) in files {
        let code = source.code();
        let code = code.split("#[cfg(test)]\nmod tests {").next();
        let used = uses.entry(module.clone()).or_default();
        for path in paths(code.unwrap_or_default()) {
            let target = resolve(module, path, &known);
            if !is_inside(&target, module) && !is_inside(module, &target) {
                used.insert(target);
            }
        }
    }
    uses
}

/// Every path in code that begins with `crate::` or `super::`, up to its last name.
fn paths(code: &str) -> impl Iterator<Item = &str> {
    let part =
        |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let starts = ["crate::", "super::"].map(|start| code.match_indices(start));
    starts.into_iter().flatten().filter_map(move |(at, _)| {
        if code[..at].ends_with(part) {
            return None;
        }
        let rest = &code[at..];
        Some(&rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())])
    })
}

/// The module of this crate that a path leads into.
fn resolve(from: &str, path: &str, known: &BTreeSet<&str>) -> String {
    let mut at: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
    for name in path.split("::").filter(|name| !name.is_empty()) {
        match name {
            "crate" => at.clear(),
            "super" => drop(at.pop()),
            name => at.push(name),
        }
        if !known.contains(at.join("::").as_str()) {
            at.pop();
            break;
        }
    }
    at.join("::")
}

/// Whether `inner` is `outer` or inside it. The root holds everything.
fn is_inside(inner: &str, outer: &str) -> bool {
    outer.is_empty()
        || inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Modules that reach each other.
fn circles(uses: &Uses) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses
        .keys()
        .map(|module| (module.as_str(), reachable(uses, module)))
        .collect();
    let mutual = |one: &str, other: &str| {
        reached
            .get(one)
            .is_some_and(|reached| reached.contains(other))
            && reached
                .get(other)
                .is_some_and(|reached| reached.contains(one))
    };
    let mut circles = BTreeSet::new();
    for one in uses.keys() {
        let circle = uses.keys().filter(|other| mutual(one, other));
        let circle: Vec<_> = circle.cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// What the modules of a circle use in it, as `a → b, c; b → a`.
fn arrows(uses: &Uses, circle: &[String]) -> String {
    let used = |module: &String| {
        let inside = uses[module].iter().filter(|used| circle.contains(used));
        let inside: Vec<_> = inside.map(String::as_str).collect();
        format!("{module} → {}", inside.join(", "))
    };
    let arrows: Vec<_> = circle.iter().map(used).collect();
    arrows.join("; ")
}

fn reachable<'a>(uses: &'a Uses, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = uses[from].iter().map(String::as_str).collect();
    while let Some(module) = waiting.pop() {
        if reached.insert(module) {
            waiting.extend(uses.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let sources: Vec<_> = files
            .iter()
            .map(|(path, text)| (module(path), Source::new(*path, *text)))
            .collect();
        let files: Vec<_> = sources
            .iter()
            .map(|(module, source)| (module.clone(), source))
            .collect();
        circles(&uses(&files))
    }

    #[test]
    fn modules_that_use_each_other_are_found() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a/mod.rs", "use crate::b::c::C;"),
            ("b/mod.rs", "mod c;"),
            ("b/c.rs", "use crate::a::A;"),
        ];
        assert_eq!(found(&files), [["a", "b::c"]]);
    }

    #[test]
    fn a_parent_and_its_child_are_no_circle() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "use self::b::B; use crate::a::b::B;"),
            (
                "a/b.rs",
                "use super::A;\n#[cfg(test)]\nmod tests { use crate::a::c::C; }",
            ),
            ("a/c.rs", "use super::b::B;"),
        ];
        assert!(found(&files).is_empty());
    }
}
