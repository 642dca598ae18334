//! Records to rows: the formats, and what they have in common.
//!
//! A decoder finds the fields of a record as ranges of its text and hands them to [`Rows`], which appends each to its
//! column. A record that fails in its fifth column has a value in four columns already: such a row is filled up with NULLs,
//! remembered, and taken out when the batch is made. Failures are rare, so the way of a good row has no check for them.

mod bytes;
mod column;
mod csv;
mod json;
mod text;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, NullArray};
use arrow::compute::filter;
use repr::source::SourceDescription;
use repr::{PgError, RelationSchema, SqlState};

use crate::BATCH_ROWS_MAX;
use crate::options::{OptionDoc, check_known};
use column::Column;

/// How records are written.
pub struct Format {
    /// As [`SourceDescription::format`].
    pub name: &'static str,
    /// What it is, for the reference.
    pub doc: &'static str,
    /// The options it takes.
    pub options: &'static [OptionDoc],
    decoder: fn(&SourceDescription) -> Result<Box<dyn Decoder>, PgError>,
}

/// Every format, by name.
pub static FORMATS: &[Format] = &[bytes::FORMAT, csv::FORMAT, json::FORMAT, text::FORMAT];

/// The format's decoder. Errors: 42704 for an unknown format, 22023 for its options, 42P16 for columns it cannot fill.
pub(crate) fn decoder(description: &SourceDescription) -> Result<Box<dyn Decoder>, PgError> {
    let name = description.format.as_deref().unwrap_or_default();
    let format = FORMATS.iter().find(|format| format.name == name).ok_or_else(|| {
        let names: Vec<String> = FORMATS.iter().map(|format| format.name.to_uppercase()).collect();
        PgError::new(SqlState::UNDEFINED_OBJECT, format!("format \"{name}\" does not exist"))
            .with_hint(format!("The formats are {}.", names.join(", ")))
    })?;
    check_known(&format!("format {name}"), &description.format_options, format.options)?;
    (format.decoder)(description)
}

/// Collects rows out of records.
pub(crate) trait Decoder: Send {
    /// Decodes whole records from the start of `bytes` until they end or the batch is full. Says how many bytes that took.
    ///
    /// `place` is that of the first byte; `at_end`: what comes last is whole although nothing ends it.
    fn decode_stream(&mut self, bytes: &[u8], place: u64, at_end: bool) -> usize;

    /// Decodes one record that came by itself.
    fn decode_record(&mut self, record: &[u8], place: u64);

    /// What was collected.
    fn rows(&mut self) -> &mut Rows;

    /// Before bytes of another file, from its start or from further on.
    fn open_file(&mut self, _at_start: bool) {}
}

/// A record that is no row, by its place.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) place: u64,
    pub(crate) input: String,
    pub(crate) error: PgError,
}

/// Where the value of a column stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// SQL's NULL.
    Null,
    /// Of the record, as it is.
    Text(Range<usize>),
    /// Of the decoder's scratch text.
    Scratch(Range<usize>),
    /// A JSON string, without its quotes, with escapes in it.
    Escaped(Range<usize>),
    /// A JSON string without escapes.
    String(Range<usize>),
    /// A JSON number.
    Number(Range<usize>),
    /// A JSON number that is an integer, and what it is.
    Integer(i64, Range<usize>),
    /// JSON's true and false.
    Bool(bool),
    /// A JSON object or array.
    Nested(Range<usize>),
}

/// Rows being collected.
pub(crate) struct Rows {
    columns: Vec<Column>,
    row_count: usize,
    failed_rows: Vec<usize>,
    pub(crate) failures: Vec<Failure>,
    /// Which columns are read from the next batch on, where that changes.
    wanted: Option<BTreeSet<usize>>,
}

impl Rows {
    pub(crate) fn new(schema: &RelationSchema) -> Rows {
        let columns = schema.columns.iter().map(Column::new).collect();
        Rows { columns, row_count: 0, failed_rows: Vec::new(), failures: Vec::new(), wanted: None }
    }

    /// See [`crate::Source::read_only`].
    pub(crate) fn read_only(&mut self, columns: &BTreeSet<usize>) {
        self.wanted = Some(columns.clone());
        if self.is_empty() {
            self.turn();
        }
    }

    /// Between two batches a column may become one that is read, or one that is not.
    fn turn(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            let columns = self.columns.iter_mut().enumerate();
            columns.for_each(|(index, column)| column.is_wanted = wanted.contains(&index));
        }
    }

    /// Whether the batch has the rows it may have. Failures count: a file of nothing else must end too.
    pub(crate) fn is_full(&self) -> bool {
        self.row_count + self.failures.len() >= BATCH_ROWS_MAX
    }

    /// Adds the row whose fields, one a column, are ranges of `record` and `scratch`.
    pub(crate) fn push(&mut self, fields: &[Field], record: &str, scratch: &str, place: u64) {
        debug_assert_eq!(fields.len(), self.columns.len());
        let mut failure = None;
        for (column, field) in self.columns.iter_mut().zip(fields) {
            match &failure {
                None => {
                    if let Err(error) = column.push(field, record, scratch) {
                        column.push_null();
                        failure = Some(column.locate(error));
                    }
                }
                Some(_) => column.push_null(),
            }
        }
        if let Some(error) = failure {
            self.failed_rows.push(self.row_count);
            self.fail(record.as_bytes(), place, error);
        }
        self.row_count += 1;
    }

    /// Adds a row of one `bytea` column.
    pub(crate) fn push_bytes(&mut self, record: &[u8]) {
        self.columns.iter_mut().for_each(|column| column.push_bytes(record));
        self.row_count += 1;
    }

    /// Notes a record that is no row.
    pub(crate) fn fail(&mut self, record: &[u8], place: u64, error: PgError) {
        const SHOWN_BYTES_MAX: usize = 1024;
        let shown = &record[..record.len().min(SHOWN_BYTES_MAX)];
        self.failures.push(Failure { place, input: String::from_utf8_lossy(shown).into_owned(), error });
    }

    /// The rows so far; starts over.
    ///
    /// A column that is not read is a `NullArray`.
    pub(crate) fn take(&mut self) -> (Vec<ArrayRef>, usize, Vec<Failure>) {
        let row_count = self.row_count();
        let good = (!self.failed_rows.is_empty()).then(|| {
            let mut good = vec![true; self.row_count];
            self.failed_rows.drain(..).for_each(|row| good[row] = false);
            BooleanArray::from(good)
        });
        let columns = self.columns.iter_mut().map(|column| {
            let values = column.finish();
            match &good {
                _ if !column.is_wanted => Arc::new(NullArray::new(row_count)),
                None => values,
                // Filtering fails for lengths that differ only, and they cannot: every push appends to every column.
                Some(good) => filter(&values, good).unwrap_or_else(|_| values.slice(0, 0)),
            }
        });
        let columns = columns.collect();
        self.row_count = 0;
        self.turn();
        (columns, row_count, std::mem::take(&mut self.failures))
    }

    /// The rows so far that have not failed.
    pub(crate) fn row_count(&self) -> usize {
        self.row_count - self.failed_rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.row_count == 0 && self.failures.is_empty()
    }
}

/// A line longer than this is an error, and skipped up to its end: a file without line ends must not fill the memory.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 20;

/// Calls `line` with each whole line of `bytes`, without its line end, and where it starts; stops when it says so.
///
/// Says how many bytes were done with.
pub(crate) fn each_line(bytes: &[u8], at_end: bool, mut line: impl FnMut(&[u8], usize) -> bool) -> usize {
    let mut start = 0;
    while start < bytes.len() {
        let (end, next) = match memchr::memchr(b'\n', &bytes[start..]) {
            Some(length) => (start + length, start + length + 1),
            None if at_end => (bytes.len(), bytes.len()),
            None => break,
        };
        let without_return = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
        let go_on = line(&bytes[start..without_return], start);
        start = next;
        if !go_on {
            break;
        }
    }
    start
}

pub(crate) fn not_utf8(record: &[u8]) -> PgError {
    let at = std::str::from_utf8(record).err().map_or(0, |error| error.valid_up_to());
    let byte = record.get(at).copied().unwrap_or_default();
    let message = format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}");
    PgError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
}

/// Errors with 42P16 unless the relation has one column of a type `fits` takes.
fn check_one_column(
    description: &SourceDescription,
    format: &str,
    wanted: &str,
    fits: impl Fn(&repr::SqlType) -> bool,
) -> Result<(), PgError> {
    match description.schema.columns.as_slice() {
        [column] if fits(&column.sql_type) => Ok(()),
        _ => {
            let message = format!("a source in format {format} has one column of type {wanted}");
            Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message))
        }
    }
}
