//! Files that stand beside data and describe it, a model or a project.

/// Names before any ending such as `.md`.
const STEMS: [&str; 16] = [
    "readme",
    "license",
    "licence",
    "copying",
    "copyright",
    "notice",
    "changelog",
    "citation",
    "authors",
    "contributing",
    "code_of_conduct",
    "security",
    "requirements",
    "md5sums",
    "sha256sums",
    "checksums",
];

/// Whole names.
const NAMES: [&str; 27] = [
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "croissant.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
    "trainer_state.json",
    "training_args.json",
    "package.json",
    "package-lock.json",
    "bad-records.txt",
    "robots.txt",
    "dvc.lock",
];

/// Endings of files with hashes of others.
const HASHES: [&str; 5] = [".md5", ".sha1", ".sha256", ".sha512", ".crc"];

/// Whether a file of that name describes data rather than being data.
pub(super) fn is_metadata(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let (stem, end) = lower.split_once('.').unwrap_or((&lower, ""));
    let about = STEMS.contains(&stem) && matches!(end, "" | "md" | "txt" | "rst" | "cff");
    about
        || NAMES.contains(&lower.as_str())
        || HASHES.iter().any(|end| lower.ends_with(end))
        || ["md5sum", "sha256sum", "checksum"]
            .iter()
            .any(|sum| stem.starts_with(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_data_is_told_from_data() {
        for name in [
            "README.md",
            "LICENSE",
            "License.txt",
            "a.txt.md5",
            "sha256sum.txt",
            "tokenizer.json",
        ] {
            assert!(is_metadata(name), "{name}");
        }
        for name in [
            "readme-files.jsonl",
            "notices.txt",
            "data.json",
            "state.jsonl",
            "train.md",
        ] {
            assert!(!is_metadata(name), "{name}");
        }
    }
}
