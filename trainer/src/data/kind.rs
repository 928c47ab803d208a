//! The kinds of data files, and the file names of each.

/// What a data file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Plain text: one document, or several divided by a separator.
    Text,
    /// One JSON object per line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl FileKind {
    /// The names of all kinds on the command line.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("text", Self::Text),
        ("jsonl", Self::JsonLines),
        ("parquet", Self::Parquet),
    ];

    /// The kind of a file with that name, apart from `.gz` or `.zst`.
    pub fn of(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let plain =
            packed_name(&lower).map_or(lower.as_str(), |end| &lower[..lower.len() - end.len()]);
        match plain.rsplit_once('.')?.1 {
            "txt" | "text" | "md" => Some(Self::Text),
            "jsonl" | "jsonlines" | "ndjson" | "json" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The end of a file name that says that the file is compressed.
pub(super) fn packed_name(name: &str) -> Option<&'static str> {
    let ends = |end: &&str| {
        let start = name.len().checked_sub(end.len());
        start
            .and_then(|start| name.get(start..))
            .is_some_and(|found| found.eq_ignore_ascii_case(end))
    };
    [".gz", ".zst", ".zstd"].into_iter().find(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_its_kind() {
        for (name, kind) in [
            ("a.txt", Some(FileKind::Text)),
            ("a.b.JSONL.gz", Some(FileKind::JsonLines)),
            ("a.json.zst", Some(FileKind::JsonLines)),
            ("train-00000-of-00002.parquet", Some(FileKind::Parquet)),
            ("a.gz", None),
            ("a.csv", None),
        ] {
            assert_eq!(FileKind::of(name), kind, "{name}");
        }
    }
}
