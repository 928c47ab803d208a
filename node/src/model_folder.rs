//! Finding the model that a path means.
//!
//! People name models in more ways than one: the folder itself, the folder that Hugging Face's
//! cache keeps it in, a file of it, or only its name on the hub.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How a file begins that only says where Git keeps the real one.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The folder of the model at `path`, whose files are there.
///
/// # Errors
/// When there is none, with what is there instead.
pub(crate) fn model_folder(path: &Path) -> Result<PathBuf> {
    let Ok(metadata) = fs::metadata(path) else {
        return Err(missing(path));
    };
    if !metadata.is_dir() {
        return Err(Error::data(format!(
            "{}: a file, not the folder of a model",
            path.display()
        ))
        .with_hint(
            "give the Hugging Face folder that holds config.json, *.safetensors and \
                 tokenizer.json; GGUF files are written, not read",
        ));
    }
    let folder = snapshot(path).unwrap_or_else(|| path.to_owned());
    if !folder.join("config.json").exists() {
        return Err(Error::data(format!("{}: no model in this folder", folder.display()))
            .caused_by("it holds no config.json")
            .with_hint(
                "give the folder that holds config.json, *.safetensors and tokenizer.json; one that \
                 `weal export` writes is complete once the command is done",
            ));
    }
    refuse_pointers(&folder)?;
    Ok(folder)
}

fn missing(path: &Path) -> Error {
    let error = Error::data(format!("{}: there is no such folder", path.display()));
    let name = path.to_string_lossy();
    let parts: Vec<_> = name.split('/').collect();
    if let [owner, model] = parts[..]
        && ![owner, model]
            .iter()
            .any(|part| part.is_empty() || part.starts_with('.'))
    {
        return error.with_hint(format!(
            "weal downloads no models: run `hf download {name} --local-dir {model}`, and give that \
             folder"
        ));
    }
    error.with_hint(
        "check the path; a folder that `weal export` is writing appears once it is complete",
    )
}

/// The newest version in a folder of Hugging Face's cache, `models--<owner>--<name>`.
fn snapshot(cache: &Path) -> Option<PathBuf> {
    let snapshots = cache.join("snapshots");
    if cache.join("config.json").exists() || !snapshots.is_dir() {
        return None;
    }
    let main = fs::read_to_string(cache.join("refs/main")).ok();
    let named = main
        .map(|commit| commit.trim().to_owned())
        .filter(|commit| !commit.is_empty() && !commit.contains(['/', '\\', '.']))
        .map(|commit| snapshots.join(commit))
        .filter(|folder| folder.is_dir());
    named.or_else(|| {
        let folders = fs::read_dir(&snapshots).ok()?.flatten();
        let mut folders = folders
            .map(|entry| entry.path())
            .filter(|path| path.is_dir());
        // Which of several is meant cannot be known.
        folders.next().filter(|_| folders.next().is_none())
    })
}

/// Refuses weights that Git has not fetched.
fn refuse_pointers(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| {
        Error::data(format!("{}: cannot be read", folder.display())).caused_by(error)
    })?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort_unstable();
    for file in files {
        let wanted =
            ["safetensors", "json"].map(|ending| file.extension() == Some(ending.as_ref()));
        if wanted.contains(&true) && is_pointer(&file) {
            return Err(Error::data(format!(
                "{}: not the file itself, but a Git LFS pointer to it",
                file.display()
            ))
            .with_hint("run `git lfs pull` in the model's folder, or download the file"));
        }
    }
    Ok(())
}

fn is_pointer(file: &Path) -> bool {
    let mut start = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(POINTER.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == POINTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> (String, String) {
        let error = model_folder(path).unwrap_err();
        assert_eq!(error.code(), 4);
        let hint = error.hint().unwrap_or_default().into_owned();
        (format!("{error:#}"), hint)
    }

    #[test]
    fn a_folder_of_the_hub_s_cache_is_its_newest_version() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("models--ada--tiny");
        for commit in ["1111", "2222"] {
            fs::create_dir_all(cache.join("snapshots").join(commit)).unwrap();
            fs::write(
                cache.join("snapshots").join(commit).join("config.json"),
                "{}",
            )
            .unwrap();
        }
        refused(&cache);
        fs::create_dir(cache.join("refs")).unwrap();
        fs::write(cache.join("refs/main"), "2222\n").unwrap();
        assert_eq!(model_folder(&cache).unwrap(), cache.join("snapshots/2222"));
    }

    #[test]
    fn what_is_no_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (error, _) = refused(dir.path());
        assert!(error.contains("config.json"), "{error}");
        let file = dir.path().join("x.gguf");
        fs::write(&file, "GGUF").unwrap();
        let (error, hint) = refused(&file);
        assert!(
            error.contains("a file") && hint.contains("config.json"),
            "{error}; {hint}"
        );
        let (error, hint) = refused(Path::new("meta-llama/Llama-3.2-1B"));
        assert!(
            error.contains("no such folder") && hint.contains("hf download"),
            "{error}; {hint}"
        );
        let (_, hint) = refused(&dir.path().join("coming"));
        assert!(hint.contains("weal export"), "{hint}");
    }

    #[test]
    fn a_pointer_is_not_taken_for_weights() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
        fs::write(dir.path().join("model.safetensors"), text).unwrap();
        let (error, hint) = refused(dir.path());
        assert!(
            error.contains("model.safetensors") && hint.contains("git lfs"),
            "{error}; {hint}"
        );
    }
}
