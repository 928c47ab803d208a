//! Whether weights read from a data folder are those that the run agreed on.

use std::fmt;

use weal_proto::round::Certificate;
use weal_proto::{Decided, Manifest, RoundNumber, StateRoot};

use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::store::Store;
use crate::store::weights::{WeightFiles, Weights};

/// What weights were compared with, and found equal to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Their state root is the decided one, by this certificate.
    Decided(StateRoot, Box<Certificate>),
    /// They are what the node wrote. They were not compared with a decided root.
    Written {
        root: StateRoot,
        /// Why there is no decided root to compare with.
        why: String,
    },
    /// They were compared with nothing.
    Nothing {
        root: StateRoot,
        /// Why there is no decided root to compare with.
        why: String,
    },
}

impl Compared {
    /// The certificate that proves the weights, if there is one.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Decided(_, certificate) => Some(certificate),
            Self::Written { .. } | Self::Nothing { .. } => None,
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(root, _) => write!(f, "the decided ones, state root {}", root.short()),
            Self::Written { root, why } => write!(
                f,
                "state root {}, undamaged; not compared with a decided root: {why}",
                root.short()
            ),
            Self::Nothing { root, why } => {
                write!(f, "state root {}, not compared: {why}", root.short())
            }
        }
    }
}

/// Compares weights with the decided state root, if this folder knows it, and with what the node
/// noted when it wrote them.
///
/// # Errors
/// When they differ: the file is damaged, or holds something else.
pub(crate) fn compare(
    folder: &Folder,
    manifest: &Manifest,
    files: &WeightFiles,
    weights: &Weights,
) -> Result<Compared> {
    let (round, root) = (weights.round, weights.root);
    let written = files.written_root(round);
    if let Some(written) = written.filter(|written| *written != root) {
        return Err(differ(files, round, (root, "written", written)));
    }
    let why = match decided_round(folder, manifest, round) {
        Ok(Some(decided)) if decided.value.base_root == root => {
            return Ok(Compared::Decided(root, decided.certificate.into()));
        }
        Ok(Some(decided)) => {
            let decided = decided.value.base_root;
            return Err(differ(files, round, (root, "decided", decided)));
        }
        Ok(None) => format!("round {round} is not decided here yet"),
        Err(error) => match error.kind() {
            ErrorKind::Folder => "a node is running in the folder".to_owned(),
            _ => format!("{error:#}"),
        },
    };
    Ok(match written {
        Some(_) => Compared::Written { root, why },
        None => Compared::Nothing { root, why },
    })
}

/// A decided round; `None` if it is not decided yet.
fn decided_round(
    folder: &Folder,
    manifest: &Manifest,
    round: RoundNumber,
) -> Result<Option<Decided>> {
    let _lock = folder.lock()?;
    let store = Store::reopen(&folder.store(), manifest.run())?;
    let decided = store.decided(round, 1, 0)?;
    let mut of_round = decided.into_iter();
    Ok(of_round.find(|decided| decided.value.round == round))
}

fn differ(
    files: &WeightFiles,
    round: RoundNumber,
    (root, kind, other): (StateRoot, &str, StateRoot),
) -> Error {
    let why = format!(
        "its state root is {}, and the one {kind} is {}",
        root.short(),
        other.short()
    );
    Error::corrupt(&files.path(round), why).with_hint(
        "choose another round with --round, or run the node: it replaces the file with the decided \
         weights",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::loaded_model::LoadedModel;
    use crate::new_run::{NewRun, Right, RunFile};
    use crate::plan::{self, Plan};

    /// A folder with the weights of rounds 0 and 1, of which neither is decided.
    fn folder(dir: &Path) -> Folder {
        let folder = Folder::new(dir);
        let (file, founder) = (RunFile::default(), folder.key().unwrap().peer());
        let new = NewRun::from_file(&file, dir, founder, Path::new("run.toml")).unwrap();
        let home = new.adopt(folder.enter().unwrap(), Right::Begin).unwrap();
        let plan = Plan::new(&home.manifest).unwrap();
        let initial = plan::initial_weights(&home.manifest, &plan, |_| Ok(None)).unwrap();
        let files = WeightFiles::new(folder.weights());
        for round in [0, 1] {
            files
                .store(&plan.layout, RoundNumber(round), &initial.values)
                .unwrap();
        }
        folder
    }

    #[test]
    fn damaged_weights_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let origin = LoadedModel::folder(&folder, Some(0)).unwrap().origin;
        assert!(origin.contains("undamaged; not compared"), "{origin}");
        assert!(
            origin.contains("round 0 is not decided here yet"),
            "{origin}"
        );

        let path = WeightFiles::new(folder.weights()).path(RoundNumber(1));
        let mut bytes = fs::read(&path).unwrap();
        bytes[4000] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = LoadedModel::folder(&folder, None).unwrap_err();
        assert_eq!(error.code(), 10, "{error:#}");
        assert!(error.hint().unwrap().contains("--round"), "{error:#}");
        assert!(LoadedModel::folder(&folder, Some(0)).is_ok());
    }

    #[test]
    fn a_folder_in_use_is_said_to_be_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let _home = folder.enter().unwrap();
        let origin = LoadedModel::folder(&folder, None).unwrap().origin;
        assert!(
            origin.contains("a node is running in the folder"),
            "{origin}"
        );
    }
}
