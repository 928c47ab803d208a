//! Reads data files into batches of texts: plain text, JSON lines, Parquet.

#[cfg(test)]
mod collect;
mod failure;
mod file;
mod lines;
mod parquet;
mod record;
mod text;

pub(super) use file::read;
pub(super) use lines::texts_of;
pub(super) use record::{BadRecord, Batch, ReadOptions, RecordSink, Text, record_name};
