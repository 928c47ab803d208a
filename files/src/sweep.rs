//! Removes what killed processes left.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::TEMPORARY;

/// Removes temporary files and folders in `folder`, and in its folders down to `depth` levels, that
/// were last written to before `age`. Call it when no other process writes there. What cannot be
/// removed stays.
///
/// Returns how many were removed.
pub fn sweep(folder: &Path, depth: usize, age: Duration) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let gone = is_older(&entry, age)
                && match is_folder {
                    true => fs::remove_dir_all(&path).is_ok(),
                    false => fs::remove_file(&path).is_ok(),
                };
            removed += usize::from(gone);
        } else if is_folder && depth > 0 {
            removed += sweep(&path, depth - 1, age);
        }
    }
    removed
}

/// Whether an entry is of this age. What is dated in the future is not.
fn is_older(entry: &DirEntry, age: Duration) -> bool {
    let written = entry.metadata().and_then(|metadata| metadata.modified());
    let elapsed = written.map(|written| SystemTime::now().duration_since(written));
    age.is_zero() || matches!(elapsed, Ok(Ok(elapsed)) if elapsed >= age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporaries_of_the_age_and_depth_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("blobs/ab/deep")).unwrap();
        fs::create_dir_all(path("blobs/.weal-folder/inside")).unwrap();
        let kept = ["blobs/ab/blob", "weal-not", "blobs/ab/deep/.weal-3"];
        let left = [".weal-1", "blobs/ab/.weal-2"];
        for name in kept.iter().chain(&left) {
            fs::write(path(name), b"x").unwrap();
        }
        assert_eq!(sweep(dir.path(), 2, Duration::from_secs(3600)), 0);
        assert_eq!(sweep(dir.path(), 2, Duration::ZERO), 3);
        assert!(kept.iter().all(|name| path(name).exists()));
        assert!(!left.iter().any(|name| path(name).exists()));
        assert!(!path("blobs/.weal-folder").exists());
        assert_eq!(sweep(&path("nothing"), 2, Duration::ZERO), 0);
    }
}
