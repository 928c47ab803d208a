//! Telling whether a file has changed without reading it.

use std::fs::{File, Metadata};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A file that changed this recently may change again without another time stamp.
const SETTLED: Duration = Duration::from_secs(3);

/// What a file system says of a file: it changes with the file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    bytes: u64,
    /// When its content was last written, in nanoseconds since 1970.
    modified: u64,
    /// When content, name or owner last changed. Programs that copy files cannot set it. 0 on
    /// systems that have no such time.
    changed: u64,
    /// Which file of which disk it is.
    file: (u64, u64),
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let since = metadata.modified()?.duration_since(UNIX_EPOCH);
        let modified = since.map_or(0, |since| since.as_nanos() as u64);
        let (changed, file) = identity(&metadata);
        Ok(Self {
            bytes: metadata.len(),
            modified,
            changed,
            file,
        })
    }

    /// The file's length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file's content is the same, as far as its length and times tell. Another name or
    /// owner does not count.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        (self.bytes, self.modified, self.file) == (other.bytes, other.modified, other.file)
    }

    /// Whether the file's times are old enough to show every later change.
    pub(crate) fn has_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos());
        let newest = u128::from(self.modified.max(self.changed));
        newest + SETTLED.as_nanos() < now
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, (u64, u64)) {
    use std::os::unix::fs::MetadataExt;
    let changed = metadata.ctime().wrapping_mul(1_000_000_000) + metadata.ctime_nsec();
    (changed as u64, (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (u64, (u64, u64)) {
    (0, (0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let stamp = || Stamp::of(&File::open(&path).unwrap()).unwrap();
        std::fs::write(&path, "one").unwrap();
        let first = stamp();
        assert_eq!(stamp(), first);
        assert!(!first.has_settled(SystemTime::now()));
        std::fs::hard_link(&path, dir.path().join("b")).unwrap();
        assert!(stamp().is_same_content(&first));
        std::fs::write(&path, "longer").unwrap();
        assert!(stamp() != first && !stamp().is_same_content(&first));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "one").unwrap();
        assert_ne!(stamp(), first);
    }

    #[test]
    fn an_old_file_has_settled() {
        let mut stamp = Stamp {
            bytes: 1,
            modified: 0,
            changed: 0,
            file: (0, 0),
        };
        let now = SystemTime::now();
        assert!(stamp.has_settled(now));
        stamp.modified = u64::MAX;
        assert!(!stamp.has_settled(now));
    }
}
