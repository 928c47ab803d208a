//! Reads the records of a task's file: JSON lines or a JSON array, packed or not, or Parquet.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use serde_json::Value;

use crate::data::{parquet_rows, read_packed_text};
use crate::error::{Error, Result};
use crate::json::parse_json;

/// A record, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// For messages: `file, line 3`.
    pub place: String,
    /// Its fields.
    pub value: Value,
}

/// Reads all records of a file.
///
/// # Errors
/// If the file cannot be read, or holds anything else.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let unreadable = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let name = path.display().to_string();
    let mut head = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    let mut start = file.try_clone().map_err(unreadable)?.take(4);
    start.read_to_end(&mut head).map_err(unreadable)?;
    let records = if head == *b"PAR1" {
        // A damaged file may make the decoder panic.
        let rows = catch_unwind(AssertUnwindSafe(|| parquet_rows(file)))
            .unwrap_or_else(|_| Err(ParquetError::General("its pages contradict".into())));
        let rows = rows.map_err(|error| refused(&name, format!("it is damaged: {error}")))?;
        numbered(&name, "row", rows)
    } else {
        let text = read_packed_text(path)?.text;
        json_records(&name, &String::from_utf8_lossy(&text))?
    };
    if records.is_empty() {
        return Err(refused(&name, "the file holds no questions".into()));
    }
    Ok(records)
}

fn refused(place: &str, reason: String) -> Error {
    Error::Question {
        place: place.to_owned(),
        reason,
        hint: None,
    }
}

fn numbered(name: &str, what: &str, values: Vec<Value>) -> Vec<Record> {
    (1..)
        .zip(values)
        .map(|(number, value): (u64, _)| Record {
            place: format!("{name}, {what} {number}"),
            value,
        })
        .collect()
}

/// An array of records, one record a line, or records that span lines.
fn json_records(name: &str, text: &str) -> Result<Vec<Record>> {
    if text.trim_start().starts_with('[') {
        return match parse_json(text.as_bytes()) {
            Ok(Value::Array(values)) => Ok(numbered(name, "record", values)),
            Ok(_) => Err(refused(name, "not an array of records".into())),
            Err(why) => Err(refused(name, format!("not JSON: {why}"))),
        };
    }
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line): &(u64, _)| !line.trim().is_empty());
    let record = |(number, line): (u64, &str)| {
        let place = format!("{name}, line {number}");
        match parse_json(line.as_bytes()) {
            Ok(value) => Ok(Record { place, value }),
            Err(why) => Err(refused(&place, format!("not JSON: {why}"))),
        }
    };
    let records: Result<Vec<_>> = lines.map(record).collect();
    records.or_else(|broken| {
        let values = serde_json::Deserializer::from_str(text).into_iter();
        let values: std::result::Result<Vec<Value>, _> = values.collect();
        // What is wrong with a line says more than what is wrong with the whole.
        values
            .map(|values| numbered(name, "record", values))
            .map_err(|_| broken)
    })
}
