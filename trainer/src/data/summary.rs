//! What a preparation reports.

use std::fs;
use std::path::Path;

use super::index::{INDEX, PreparedIndex};
use super::split::Piece;
use super::walk::LeftOut;
use crate::error::{Error, Result};
use crate::tokeniser::LostLetters;
use crate::write_inside::write_inside;

/// The file that lists bad records.
pub(super) const BAD_RECORDS: &str = "bad-records.txt";

/// Progress of a preparation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Bytes of files read.
    pub read_bytes: u64,
    /// Bytes of all files whose length is known.
    pub total_bytes: u64,
    /// Bytes downloaded.
    pub fetched_bytes: u64,
    /// Documents tokenised.
    pub documents: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Bad records.
    pub bad: u64,
}

/// The result of a preparation.
#[derive(Clone, Debug)]
pub struct PrepareSummary {
    /// The index of the new folder.
    pub index: PreparedIndex,
    /// What was left out of folders and patterns, and why.
    pub left_out: Vec<(String, LeftOut)>,
    /// The first bad records, with reasons.
    pub bad: Vec<String>,
    /// Letters that the tokeniser could not read.
    pub lost: LostLetters,
    /// What was read otherwise than it seems, file by file.
    pub notes: Vec<String>,
    /// Documents with halves of surrogate pairs (`\\ud800` alone), which became U+FFFD.
    pub repaired: u64,
    /// How the held-out part was chosen, if not by the share that was asked for.
    pub heldout_note: Option<String>,
}

/// What a pass wrote and found.
pub(super) struct Dealt {
    pub index: PreparedIndex,
    /// The first bad records.
    pub bad: Vec<String>,
    pub bad_records: u64,
    pub lost: LostLetters,
    /// What was read otherwise than it seems.
    pub notes: Vec<String>,
    pub repaired: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// The piece with the lowest fingerprint.
    pub lowest: Option<Piece>,
    /// All pieces, after a survey.
    pub pieces: Vec<Piece>,
}

impl Dealt {
    /// Writes the index of the finished folder.
    pub(super) fn write_index(&self, folder: &Path) -> Result<PreparedIndex> {
        if self.bad_records == 0 {
            let _ = fs::remove_file(folder.join(BAD_RECORDS));
        }
        let mut json = serde_json::to_vec_pretty(&self.index)
            .map_err(|error| Error::write(Path::new(INDEX), error))?;
        json.push(b'\n');
        write_inside(&folder.join(INDEX), &json)?;
        Ok(self.index.clone())
    }
}
