//! Rows of Parquet as JSON objects: for columns that are no plain strings.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use serde_json::{Map, Value};

use super::record::{BATCH_BYTES, BadRecord, Batch, Lines, RECORD_BYTES, RecordSink};
use crate::error::Result;

/// All rows of a file.
pub(crate) fn parquet_rows(file: File) -> Result<Vec<Value>, ParquetError> {
    let file = SerializedFileReader::new(file)?;
    let rows = file.get_row_iter(None)?;
    rows.map(|row| row.map(object)).collect()
}

/// The columns that hold lists.
pub(super) fn list_columns(schema: &SchemaDescriptor) -> impl Iterator<Item = &TypePtr> {
    let columns = schema.root_schema().get_fields().iter();
    columns.filter(|column| {
        let info = column.get_basic_info();
        let is_list = info.converted_type() == ConvertedType::LIST
            || info.logical_type_ref() == Some(&LogicalType::List);
        is_list && !column.is_primitive()
    })
}

/// The schema of the column `field` alone, if it holds lists.
pub(super) fn list_column(schema: &SchemaDescriptor, field: &str) -> Option<Type> {
    let column = list_columns(schema).find(|column| column.name() == field)?;
    let only = Type::group_type_builder(schema.root_schema().name());
    only.with_fields(vec![Arc::clone(column)]).build().ok()
}

/// Passes on the rows of a row group as lines of JSON. `first` is the number of the first one.
/// Returns how many there were.
pub(super) fn read_group(
    file: &SerializedFileReader<File>,
    (group, column): (usize, &Type),
    first: u64,
    sink: &mut dyn RecordSink,
) -> Result<Result<u64>, ParquetError> {
    let group = file.get_row_group(group)?;
    let mut batch = Lines::at(first);
    let mut next = first;
    for row in group.get_row_iter(Some(column.clone()))? {
        let line = object(row?).to_string();
        if line.len() > RECORD_BYTES {
            sink.bad(BadRecord::too_long(next));
        } else {
            batch.bytes.extend_from_slice(line.as_bytes());
        }
        // Even a row without text has its line, so that numbers stay right.
        batch.bytes.push(b'\n');
        next += 1;
        if batch.bytes.len() >= BATCH_BYTES {
            let whole = std::mem::replace(&mut batch, Lines::at(next));
            if let Err(stopped) = sink.batch(Batch::Lines(whole)) {
                return Ok(Err(stopped));
            }
        }
    }
    let sent = if batch.bytes.is_empty() {
        Ok(())
    } else {
        sink.batch(Batch::Lines(batch))
    };
    Ok(sent.map(|()| next - first))
}

fn object(row: Row) -> Value {
    let columns = row.into_columns().into_iter();
    Value::Object(
        columns
            .map(|(name, field)| (name, json(field)))
            .collect::<Map<_, _>>(),
    )
}

/// A field in JSON. What neither questions nor messages have, such as dates, becomes null.
fn json(field: Field) -> Value {
    match field {
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(value) => value.into(),
        Field::Bytes(value) => String::from_utf8_lossy(value.data()).into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json).collect(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{Document, documents_of};
    use super::*;

    /// Written by pyarrow, as the Hub has them: three rows in two row groups. The columns are `id`,
    /// `messages` (`role`, `content`) and `conversations` (`from`, `value`); the second row has
    /// none.
    const FILE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/messages.parquet"
    );

    #[derive(Default)]
    struct Conversations {
        field: &'static str,
        found: Vec<(u64, std::result::Result<String, String>)>,
    }

    impl RecordSink for Conversations {
        fn batch(&mut self, batch: Batch) -> Result<()> {
            let Batch::Lines(lines) = batch else {
                panic!("{batch:?}");
            };
            for document in documents_of(&lines, self.field) {
                self.found.push(match document {
                    Ok(Document::Messages(all)) => (all.number, Ok(all.text())),
                    Ok(Document::Text(text)) => panic!("{text:?}"),
                    Err(bad) => (bad.number, Err(bad.reason)),
                });
            }
            Ok(())
        }

        fn bad(&mut self, bad: BadRecord) {
            self.found.push((bad.number, Err(bad.reason)));
        }

        fn note(&mut self, _: String) {}
    }

    #[test]
    fn a_column_of_messages_gives_a_conversation_for_each_row() {
        let file = SerializedFileReader::new(File::open(FILE).unwrap()).unwrap();
        let schema = file.metadata().file_metadata().schema_descr();
        let names: Vec<_> = list_columns(schema).map(|column| column.name()).collect();
        assert_eq!(names, ["messages", "conversations"]);
        assert!(list_column(schema, "id").is_none() && list_column(schema, "none").is_none());
        for field in ["messages", "conversations"] {
            let column = list_column(schema, field).unwrap();
            let mut sink = Conversations {
                field,
                ..Conversations::default()
            };
            let mut first = 1;
            for group in 0..file.num_row_groups() {
                first += read_group(&file, (group, &column), first, &mut sink)
                    .unwrap()
                    .unwrap();
            }
            let null = format!("its {field:?} is null");
            assert_eq!(
                sink.found,
                [
                    (1, Ok("hi\nyo".to_owned())),
                    (2, Err(null)),
                    (3, Ok("two\nlines".to_owned())),
                ]
            );
        }
    }
}
