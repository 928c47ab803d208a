//! Reads data files into batches of texts: plain text, JSON lines, Parquet.

#[cfg(test)]
mod collect;
mod failure;
mod file;
mod lines;
mod messages;
mod parquet;
mod plain;
mod record;
mod rows;
mod signature;
mod text;
mod unpack;
mod values;

pub(super) use file::DataFile;
pub(super) use messages::{Document, Messages, documents_of};
pub(crate) use plain::read_packed_text;
pub use plain::{PlainText, check_text, read_text};
pub(super) use record::{BadRecord, Batch, ReadOptions, RecordSink, Text, record_name};
pub(crate) use rows::parquet_rows;
