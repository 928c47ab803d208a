//! Parquet: one column of strings, or of messages, one document per row.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::failure::damaged;
use super::record::{BadRecord, ReadOptions, RecordSink, Text, TextBuffer};
use super::rows::{list_column, list_columns, read_group};
use crate::error::{Error, Result};

/// Rows decoded at once.
const ROWS: usize = 256;

/// Reads the text column of a file. Adds each row group's share of the file's bytes to `count`.
pub(super) fn read(
    name: &str,
    file: File,
    options: &ReadOptions,
    count: &Arc<AtomicU64>,
    sink: &mut dyn RecordSink,
) -> Result<()> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // A damaged file may make the decoder panic.
    catch_unwind(AssertUnwindSafe(|| {
        read_column(name, file, length, options, count, sink)
    }))
    .unwrap_or_else(|_| Err(contradicts(name, "its pages contradict one another")))
}

/// A damaged file.
fn contradicts(name: &str, why: &str) -> Error {
    damaged(name, &io::Error::new(io::ErrorKind::InvalidData, why))
}

fn read_column(
    name: &str,
    file: File,
    length: u64,
    options: &ReadOptions,
    count: &Arc<AtomicU64>,
    sink: &mut dyn RecordSink,
) -> Result<()> {
    let wrong = |error: ParquetError| contradicts(name, &error.to_string());
    let file = SerializedFileReader::new(file).map_err(wrong)?;
    let metadata = file.metadata();
    let schema = metadata.file_metadata().schema_descr();
    let groups = file.num_row_groups() as u64;
    count.fetch_add(
        if groups == 0 { length } else { length % groups },
        Ordering::Relaxed,
    );
    let group_done = || count.fetch_add(length / groups.max(1), Ordering::Relaxed);
    if let Some(lists) = list_column(schema, &options.field) {
        let mut rows = 1;
        for group in 0..file.num_row_groups() {
            rows += read_group(&file, (group, &lists), rows, sink).map_err(wrong)??;
            group_done();
        }
        return Ok(());
    }
    let column = find(schema, &options.field).map_err(|(reason, hint)| Error::Prepare {
        place: name.to_owned(),
        reason,
        hint: Some(hint.into()),
    })?;
    let present = schema.column(column).max_def_level();
    let mut buffer = TextBuffer::new();
    let mut row = 0;
    for group in 0..file.num_row_groups() {
        let reader = file
            .get_row_group(group)
            .and_then(|group| group.get_column_reader(column))
            .map_err(wrong)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(contradicts(name, "its column changes type"));
        };
        while let Some(texts) = next_rows(&mut reader, present).map_err(wrong)? {
            for text in texts {
                row += 1;
                match text {
                    Some(text) => buffer.push(Text::whole(text.data().to_vec(), row), sink)?,
                    None => sink.bad(BadRecord {
                        number: row,
                        reason: format!("its {:?} is null", options.field),
                    }),
                }
            }
        }
        group_done();
    }
    buffer.flush(sink)
}

/// Reads the next rows, `None` for null; returns `None` at the end. A value that is not null has
/// the definition level `present`.
fn next_rows(
    reader: &mut ColumnReaderImpl<ByteArrayType>,
    present: i16,
) -> Result<Option<Vec<Option<ByteArray>>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, _, _) = reader.read_records(ROWS, Some(&mut levels), None, &mut values)?;
    if rows == 0 {
        return Ok(None);
    }
    if levels.is_empty() {
        return Ok(Some(values.into_iter().map(Some).collect()));
    }
    let mut values = values.into_iter();
    Ok(Some(
        levels
            .into_iter()
            .map(|level| {
                if level == present {
                    values.next()
                } else {
                    None
                }
            })
            .collect(),
    ))
}

/// The index of the column `field`, or a reason and a hint why it cannot be read.
fn find(schema: &SchemaDescriptor, field: &str) -> Result<usize, (String, String)> {
    let hint = || {
        let names = schema
            .columns()
            .iter()
            .filter(|column| column.physical_type() == Type::BYTE_ARRAY)
            .filter(|column| column.max_rep_level() == 0);
        let names = names.map(|column| column.path().string());
        let lists = list_columns(schema).map(|column| column.name().to_owned());
        let names: Vec<_> = names.chain(lists).collect();
        format!("name one of these with --text-field: {}", names.join(", "))
    };
    let Some(number) = schema
        .columns()
        .iter()
        .position(|column| column.path().string() == field)
    else {
        return Err((format!("it has no column {field:?}"), hint()));
    };
    let column = schema.column(number);
    if column.physical_type() != Type::BYTE_ARRAY || column.max_rep_level() > 0 {
        return Err((
            format!("its column {field:?} does not hold strings"),
            hint(),
        ));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::Int64Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::collect::Kept;
    use super::*;

    /// Writes row groups of texts, with a column of numbers before them.
    fn write(path: &Path, groups: &[&[Option<&str>]], compression: Compression) {
        let schema = "message rows { REQUIRED INT64 id; OPTIONAL BINARY text (UTF8); }";
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .build();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut file =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties))
                .unwrap();
        for rows in groups {
            let mut group = file.next_row_group().unwrap();
            let mut ids = group.next_column().unwrap().unwrap();
            ids.typed::<Int64Type>()
                .write_batch(&vec![7; rows.len()], None, None)
                .unwrap();
            ids.close().unwrap();
            let mut texts = group.next_column().unwrap().unwrap();
            let levels: Vec<i16> = rows.iter().map(|text| text.is_some().into()).collect();
            let values: Vec<ByteArray> = rows
                .iter()
                .flatten()
                .map(|text| ByteArray::from(*text))
                .collect();
            texts
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&levels), None)
                .unwrap();
            texts.close().unwrap();
            group.close().unwrap();
        }
        file.close().unwrap();
    }

    fn kept(path: &Path, field: &str) -> Result<Kept> {
        let mut kept = Kept::default();
        let options = ReadOptions {
            field: field.to_owned(),
            separator: Vec::new(),
        };
        let count = Arc::default();
        read(
            "x.parquet",
            File::open(path).unwrap(),
            &options,
            &count,
            &mut kept,
        )?;
        assert_eq!(
            count.load(Ordering::Relaxed),
            std::fs::metadata(path).unwrap().len()
        );
        Ok(kept)
    }

    #[test]
    fn each_row_is_a_document_and_null_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let groups: [&[Option<&str>]; 3] = [
            &[Some("one"), None, Some("")],
            &[None, None],
            &[Some("four")],
        ];
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            zstd,
            Compression::LZ4_RAW,
        ] {
            write(&path, &groups, compression);
            let kept = kept(&path, "text").unwrap();
            let texts =
                [(1, "one"), (3, ""), (6, "four")].map(|(row, text)| Text::whole(text.into(), row));
            assert_eq!(kept.texts, texts);
            assert_eq!(
                kept.bad.iter().map(|bad| bad.number).collect::<Vec<_>>(),
                [2, 4, 5]
            );
        }
    }

    #[test]
    fn a_column_without_text_is_refused_with_the_names_of_those_with_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        write(&path, &[&[Some("one")]], Compression::SNAPPY);
        for field in ["body", "id"] {
            let error = kept(&path, field).err().unwrap();
            let (why, hint) = (error.to_string(), error.hint().unwrap());
            assert!(
                why.contains(field) && hint.ends_with("--text-field: text"),
                "{why}: {hint}"
            );
        }
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_the_damage_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let texts: Vec<String> = (0..300)
            .map(|number| format!("text number {number}"))
            .collect();
        let rows: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        write(&path, &[&rows], Compression::SNAPPY);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 3, 100, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let why = kept(&path, "text").err().unwrap().to_string();
            assert!(
                why.contains("x.parquet") && why.contains("damaged"),
                "{why}"
            );
        }
        // Damage to any byte gives an error or other texts, but never a crash.
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x55;
            std::fs::write(&path, &damaged).unwrap();
            let _ = kept(&path, "text");
        }
    }
}
