//! A sink that keeps everything, for tests.

use super::lines::texts_of;
use super::record::{BadRecord, Batch, RecordSink, Text};
use crate::error::Result;

/// Keeps every record.
#[derive(Default)]
pub(super) struct Kept {
    pub texts: Vec<Text>,
    pub bad: Vec<BadRecord>,
    pub field: String,
    pub notes: Vec<String>,
}

impl RecordSink for Kept {
    fn batch(&mut self, batch: Batch) -> Result<()> {
        match batch {
            Batch::Texts(texts) => self.texts.extend(texts),
            Batch::Lines(lines) => {
                for text in texts_of(&lines, &self.field) {
                    match text {
                        Ok(text) => self.texts.push(text),
                        Err(bad) => self.bad.push(bad),
                    }
                }
            }
        }
        Ok(())
    }

    fn bad(&mut self, bad: BadRecord) {
        self.bad.push(bad);
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}
