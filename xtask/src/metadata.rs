//! The members of the workspace and their dependencies, as Cargo sees them.

use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::json::Value;
use crate::step::{cargo, output};

/// A crate of this workspace.
pub(crate) struct Member {
    /// The package's name, such as `weal-proto`.
    pub name: String,
    /// Its folder, relative to the repository.
    pub folder: PathBuf,
    /// Dependencies of every kind.
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependencies.
pub(crate) struct Dependency {
    /// The package's name.
    pub name: String,
    /// Which section the line stands in.
    pub kind: Kind,
}

/// A section of dependencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[build-dependencies]`
    Build,
    /// `[dev-dependencies]`
    Dev,
}

/// All members, by name.
pub(crate) fn members() -> Outcome<Vec<Member>> {
    let text = output(&mut cargo([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata = Value::parse(&text)?;
    let root = PathBuf::from(metadata["workspace_root"].as_str().unwrap_or_default());
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut members: Vec<_> = packages
        .filter_map(|package| member(package, &root))
        .collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(members)
}

fn member(package: &Value, root: &Path) -> Option<Member> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let dependencies = package["dependencies"].as_array()?.iter();
    Some(Member {
        name: package["name"].as_str()?.to_owned(),
        folder: manifest.parent()?.strip_prefix(root).ok()?.to_owned(),
        dependencies: dependencies.filter_map(dependency).collect(),
    })
}

fn dependency(line: &Value) -> Option<Dependency> {
    let kind = match line["kind"].as_str() {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    };
    let name = line["name"].as_str()?.to_owned();
    Some(Dependency { name, kind })
}
