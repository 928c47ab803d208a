//! Which crate may depend on which: a crate sees only those below it.

use super::Finding;
use super::source::Source;
use crate::Outcome;
use crate::metadata::{Kind, Member, members};

/// Each crate, and what it may depend on besides development dependencies.
const LAYERS: [(&str, &[&str]); 14] = [
    ("workspace-hack", &[]),
    ("xtask", &[]),
    ("weal-testing", &[]),
    ("weal-files", &[]),
    ("weal-proto", &[]),
    ("weal-proto-seeded", &["weal-proto"]),
    ("weal-dashboard", &[]),
    ("weal-kernels", &["weal-proto"]),
    ("weal-network", &["weal-proto"]),
    ("weal-coordinator-free", &["weal-proto"]),
    (
        "weal-trainer",
        &["weal-files", "weal-proto", "weal-kernels"],
    ),
    (
        "weal-simulator",
        &["weal-proto", "weal-kernels", "weal-coordinator-free"],
    ),
    (
        "weal",
        &[
            "weal-files",
            "weal-proto",
            "weal-dashboard",
            "weal-kernels",
            "weal-network",
            "weal-coordinator-free",
            "weal-simulator",
            "weal-trainer",
        ],
    ),
    ("weal-tests", ANY),
];

/// For the tests of the whole.
const ANY: &[&str] = &["*"];

/// Depended on by everything: it only switches on features.
const HACK: &str = "workspace-hack";
/// Depended on by tests only.
const FOR_TESTS: [&str; 2] = ["weal-testing", "weal-proto-seeded"];

/// Finds dependencies that run upwards.
pub(crate) fn check(_: &[Source]) -> Outcome<Vec<Finding>> {
    let members = members()?;
    Ok(members
        .iter()
        .flat_map(|member| upward(member, &members))
        .collect())
}

fn upward(member: &Member, all: &[Member]) -> Vec<Finding> {
    let finding = |message| Finding {
        path: format!("{}/Cargo.toml", member.folder.display()),
        line: 0,
        message,
    };
    let layer = LAYERS.iter().find(|(name, _)| *name == member.name);
    let Some((_, below)) = layer else {
        return vec![finding(format!(
            "{} has no place in xtask/src/tidy/layers.rs",
            member.name
        ))];
    };
    let ours = |name: &str| all.iter().any(|member| member.name == name);
    let allowed = |name: &str, kind| {
        let for_tests = kind == Kind::Dev && (FOR_TESTS.contains(&name) || name == member.name);
        *below == ANY || below.contains(&name) || name == HACK || for_tests
    };
    member
        .dependencies
        .iter()
        .filter(|dependency| ours(&dependency.name))
        .filter(|dependency| !allowed(&dependency.name, dependency.kind))
        .map(|dependency| finding(format!("may not depend on {}", dependency.name)))
        .collect()
}
