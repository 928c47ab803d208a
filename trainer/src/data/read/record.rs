//! Records of data files, in batches.

use crate::data::kind::FileKind;
use crate::error::Result;

/// A batch holds about this many bytes of text.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// A longer record counts as bad.
pub(super) const RECORD_BYTES: usize = 64 << 20;

/// A batch: texts, or lines that are not parsed yet.
#[derive(Debug)]
pub(in crate::data) enum Batch {
    Texts(Vec<Text>),
    Lines(Lines),
}

/// A document, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::data) struct Text {
    pub bytes: Vec<u8>,
    /// The record's row, line, or first byte in its file.
    pub number: u64,
    /// Whether it is one of several parts of a document.
    pub part: bool,
    /// Whether the document ends with it.
    pub ends: bool,
    /// Halves of surrogate pairs in it that became U+FFFD.
    pub replaced: u64,
}

impl Text {
    pub(super) fn whole(bytes: Vec<u8>, number: u64) -> Self {
        Self {
            bytes,
            number,
            part: false,
            ends: true,
            replaced: 0,
        }
    }

    /// Why it is no text, if it is none.
    pub(in crate::data) fn fault(&self) -> Option<String> {
        if let Err(error) = std::str::from_utf8(&self.bytes) {
            let at = error.valid_up_to();
            return Some(format!("not UTF-8 from its byte {at} on"));
        }
        None
    }
}

/// Complete lines of a file, each a JSON object, or values of a JSON array.
#[derive(Debug)]
pub(in crate::data) struct Lines {
    pub bytes: Vec<u8>,
    /// Number of the first line, counted from 1.
    pub first: u64,
    /// Of values that are not one a line: where each ends, and the line on which it begins.
    pub values: Vec<(usize, u64)>,
}

impl Lines {
    /// No lines yet.
    pub(super) fn at(first: u64) -> Self {
        Self {
            bytes: Vec::new(),
            first,
            values: Vec::new(),
        }
    }
}

/// A record that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::data) struct BadRecord {
    pub number: u64,
    pub reason: String,
}

impl BadRecord {
    /// A record that is too long.
    pub(super) fn too_long(number: u64) -> Self {
        Self {
            number,
            reason: format!("longer than {} MiB", RECORD_BYTES >> 20),
        }
    }
}

/// How to read text out of files.
#[derive(Clone, Debug)]
pub(in crate::data) struct ReadOptions {
    /// The field or column with a record's text.
    pub field: String,
    /// The separator of documents in a text file; empty if each file is one document.
    pub separator: Vec<u8>,
}

/// Receives the records of files.
pub(in crate::data) trait RecordSink {
    /// Receives a batch.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::error::Error::Stopped) to stop reading.
    fn batch(&mut self, batch: Batch) -> Result<()>;

    /// Receives a bad record.
    fn bad(&mut self, bad: BadRecord);

    /// Receives what is worth knowing about a file.
    fn note(&mut self, note: String);
}

/// The name of a record in messages, such as `line 7`.
pub(in crate::data) fn record_name(kind: FileKind, number: u64) -> String {
    match kind {
        FileKind::Text => format!("byte {number}"),
        FileKind::JsonLines => format!("line {number}"),
        FileKind::Parquet => format!("row {number}"),
    }
}

/// Collects texts until they fill a batch.
pub(super) struct TextBuffer {
    texts: Vec<Text>,
    bytes: usize,
}

impl TextBuffer {
    pub(super) fn new() -> Self {
        Self {
            texts: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, text: Text, sink: &mut dyn RecordSink) -> Result<()> {
        self.bytes += text.bytes.len();
        self.texts.push(text);
        if self.bytes >= BATCH_BYTES {
            self.flush(sink)
        } else {
            Ok(())
        }
    }

    pub(super) fn flush(&mut self, sink: &mut dyn RecordSink) -> Result<()> {
        self.bytes = 0;
        if self.texts.is_empty() {
            return Ok(());
        }
        sink.batch(Batch::Texts(std::mem::take(&mut self.texts)))
    }
}
