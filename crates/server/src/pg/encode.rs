//! Result batches as wire bytes: DataRow messages and the fields of COPY, in text and in binary.
//!
//! Arrow stores columns, the wire wants rows. Each column is looked at once a batch (its array downcast, its type and
//! format matched) and becomes a [`Column`] that appends any of its values to a buffer; rows are then written value by
//! value straight into the output. Text goes through `repr::text`, except for the types that make up most results.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeBinaryArray, LargeStringArray, ListArray,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::cast;
use arrow::record_batch::RecordBatch;
use repr::numeric::Numeric;
use repr::text::{FormatOptions, format_value_in};
use repr::types::Storage;
use repr::{PgError, RelationSchema, SqlState, SqlType};

use crate::pg::message::message;

/// How a value is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Binary,
}

impl Format {
    /// The protocol's number for it.
    pub(crate) fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }

    /// The format of column `index` under a Bind's list: none is text, one is for all.
    pub(crate) fn of_column(formats: &[Format], index: usize) -> Format {
        match formats {
            [] => Format::Text,
            [all] => *all,
            formats => formats.get(index).copied().unwrap_or(Format::Text),
        }
    }
}

/// Days from 1970-01-01, Arrow's day zero, to 2000-01-01, PostgreSQL's.
pub(crate) const EPOCH_DAYS: i32 = 10_957;

/// The same in microseconds.
pub(crate) const EPOCH_MICROSECONDS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// A batch seen as rows to be written.
pub(crate) struct Rows<'a> {
    columns: Vec<Column<'a>>,
    options: &'a FormatOptions,
    scratch: String,
}

impl<'a> Rows<'a> {
    /// Fails if the batch is not of `schema`, which is a defect of the engine's.
    pub(crate) fn new(
        batch: &RecordBatch,
        schema: &'a RelationSchema,
        formats: &[Format],
        options: &'a FormatOptions,
    ) -> Result<Rows<'a>, PgError> {
        if batch.num_columns() != schema.columns.len() {
            let (found, expected) = (batch.num_columns(), schema.columns.len());
            return Err(PgError::internal(format!("a result has {found} columns where {expected} were announced")));
        }
        let columns = batch.columns().iter().zip(&schema.columns).enumerate();
        let columns = columns
            .map(|(index, (array, column))| Column::new(array, &column.sql_type, Format::of_column(formats, index)))
            .collect::<Result<_, _>>()?;
        Ok(Rows { columns, options, scratch: String::new() })
    }

    pub(crate) fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Appends row `row` as one DataRow message. Errors: 54000 if the row is too large for one.
    pub(crate) fn data_row(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), PgError> {
        let start = out.len();
        message(out, b'D', |out| self.fields(row, out));
        if out.len() - start > i32::MAX as usize {
            out.truncate(start);
            return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "a result row is larger than 2 GiB"));
        }
        Ok(())
    }

    /// Appends row `row` as a count of fields and each field with its length: DataRow's body, and binary COPY's tuple.
    pub(crate) fn fields(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.columns.len() as u16).to_be_bytes());
        for column in &self.columns {
            if column.array.is_null(row) {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
            sized(out, |out| column.write(row, self.options, &mut self.scratch, out));
        }
    }

    /// Appends the text of one value; false, and nothing appended, for NULL.
    pub(crate) fn text(&mut self, column: usize, row: usize, out: &mut Vec<u8>) -> bool {
        let column = &self.columns[column];
        if column.array.is_null(row) {
            return false;
        }
        column.write(row, self.options, &mut self.scratch, out);
        true
    }
}

/// Appends what `write` writes behind its length.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// One column of one batch: the array and how its values are written.
struct Column<'a> {
    array: ArrayRef,
    sql_type: &'a SqlType,
    writer: Writer,
}

/// What is done with a value; chosen once a batch.
#[derive(Clone, Copy)]
enum Writer {
    /// `repr::text`.
    Text,
    Bool,
    Int2,
    Int4,
    Int8,
    /// The bytes as they are, in both formats.
    Utf8,
    LargeUtf8,
    Binary,
}

impl<'a> Column<'a> {
    fn new(array: &ArrayRef, sql_type: &'a SqlType, format: Format) -> Result<Column<'a>, PgError> {
        let stored = sql_type.arrow();
        let array = match *array.data_type() == stored {
            true => array.clone(),
            false => cast(array, &stored).map_err(|error| {
                PgError::internal(format!("a result column of type {} is stored wrongly: {error}", sql_type.sql_name()))
            })?,
        };
        let writer = match (format, sql_type) {
            (_, plain) if plain.storage() == Storage::Text => Writer::Utf8,
            (_, SqlType::Json) | (Format::Text, SqlType::Jsonb) => Writer::LargeUtf8,
            (Format::Binary, _) => Writer::Binary,
            (Format::Text, SqlType::Bool) => Writer::Bool,
            (Format::Text, SqlType::Int2) => Writer::Int2,
            (Format::Text, SqlType::Int4) => Writer::Int4,
            (Format::Text, SqlType::Int8) => Writer::Int8,
            (Format::Text, _) => Writer::Text,
        };
        Ok(Column { array, sql_type, writer })
    }

    /// Appends the value, which is not NULL.
    fn write(&self, row: usize, options: &FormatOptions, scratch: &mut String, out: &mut Vec<u8>) {
        let array = self.array.as_ref();
        match self.writer {
            Writer::Text => {
                scratch.clear();
                format_value_in(array, row, self.sql_type, scratch, options);
                out.extend_from_slice(scratch.as_bytes());
            }
            Writer::Bool => out.push(if typed::<BooleanArray>(array).value(row) { b't' } else { b'f' }),
            Writer::Int2 => integer(i64::from(typed::<Int16Array>(array).value(row)), out),
            Writer::Int4 => integer(i64::from(typed::<Int32Array>(array).value(row)), out),
            Writer::Int8 => integer(typed::<Int64Array>(array).value(row), out),
            Writer::Utf8 => out.extend_from_slice(typed::<StringArray>(array).value(row).as_bytes()),
            Writer::LargeUtf8 => out.extend_from_slice(typed::<LargeStringArray>(array).value(row).as_bytes()),
            Writer::Binary => binary(array, row, self.sql_type, scratch, out),
        }
    }
}

/// The array as what its type says it is; [`Column::new`] has made sure of it.
fn typed<T: 'static>(array: &dyn Array) -> &T {
    array.as_any().downcast_ref().expect("the array was cast to its SQL type's storage")
}

fn integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

/// PostgreSQL's binary form, as each type's `typsend` writes it.
fn binary(array: &dyn Array, row: usize, sql_type: &SqlType, scratch: &mut String, out: &mut Vec<u8>) {
    match sql_type.storage() {
        Storage::Bool => out.push(u8::from(typed::<BooleanArray>(array).value(row))),
        Storage::Int2 => out.extend_from_slice(&typed::<Int16Array>(array).value(row).to_be_bytes()),
        Storage::Int4 => out.extend_from_slice(&typed::<Int32Array>(array).value(row).to_be_bytes()),
        Storage::Int8 => out.extend_from_slice(&typed::<Int64Array>(array).value(row).to_be_bytes()),
        Storage::Oid => {
            out.extend_from_slice(&typed::<UInt32Array>(array).value(row).to_be_bytes());
        }
        Storage::Float4 => out.extend_from_slice(&typed::<Float32Array>(array).value(row).to_be_bytes()),
        Storage::Float8 => out.extend_from_slice(&typed::<Float64Array>(array).value(row).to_be_bytes()),
        Storage::Text => {
            out.extend_from_slice(typed::<StringArray>(array).value(row).as_bytes());
        }
        Storage::Json => out.extend_from_slice(typed::<LargeStringArray>(array).value(row).as_bytes()),
        Storage::Jsonb => {
            out.push(1); // The version of jsonb's binary form.
            out.extend_from_slice(typed::<LargeStringArray>(array).value(row).as_bytes());
        }
        Storage::Bytea => out.extend_from_slice(typed::<BinaryArray>(array).value(row)),
        Storage::Uuid => out.extend_from_slice(typed::<FixedSizeBinaryArray>(array).value(row)),
        Storage::Date => out.extend_from_slice(&date(typed::<Date32Array>(array).value(row)).to_be_bytes()),
        Storage::Time => out.extend_from_slice(&typed::<Time64MicrosecondArray>(array).value(row).to_be_bytes()),
        Storage::Timestamp | Storage::Timestamptz => {
            let microseconds = timestamp(typed::<TimestampMicrosecondArray>(array).value(row));
            out.extend_from_slice(&microseconds.to_be_bytes());
        }
        Storage::Interval => {
            let interval = typed::<IntervalMonthDayNanoArray>(array).value(row);
            out.extend_from_slice(&(interval.nanoseconds / 1000).to_be_bytes());
            out.extend_from_slice(&interval.days.to_be_bytes());
            out.extend_from_slice(&interval.months.to_be_bytes());
        }
        Storage::Numeric => {
            scratch.clear();
            let value = Numeric::decode(typed::<LargeBinaryArray>(array).value(row));
            // Writing to a String cannot fail.
            let _ = write!(scratch, "{value}");
            numeric(scratch, out);
        }
        // How many, two bytes without meaning, and the elements.
        Storage::Vector => {
            let elements = typed::<ListArray>(array).value(row);
            let elements = typed::<Float32Array>(&elements).values();
            out.extend_from_slice(&(elements.len() as u16).to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            elements.iter().for_each(|element| out.extend_from_slice(&element.to_be_bytes()));
        }
        Storage::List(element) => {
            // The vectors of PostgreSQL's catalogs count from 0.
            let first = i32::from(!sql_type.is_catalog_vector());
            let elements = typed::<ListArray>(array).value(row);
            out.extend_from_slice(&i32::from(!elements.is_empty()).to_be_bytes());
            out.extend_from_slice(&i32::from(elements.null_count() > 0).to_be_bytes());
            out.extend_from_slice(&element.oid().to_be_bytes());
            if !elements.is_empty() {
                out.extend_from_slice(&(elements.len() as i32).to_be_bytes());
                out.extend_from_slice(&first.to_be_bytes()); // The lower bound.
            }
            for index in 0..elements.len() {
                match elements.is_null(index) {
                    true => out.extend_from_slice(&(-1i32).to_be_bytes()),
                    false => sized(out, |out| binary(&elements, index, element, scratch, out)),
                }
            }
        }
    }
}

/// Infinity is the same number in both epochs.
fn date(days: i32) -> i32 {
    match days {
        i32::MIN | i32::MAX => days,
        days => days.saturating_sub(EPOCH_DAYS),
    }
}

fn timestamp(microseconds: i64) -> i64 {
    match microseconds {
        i64::MIN | i64::MAX => microseconds,
        microseconds => microseconds.saturating_sub(EPOCH_MICROSECONDS),
    }
}

pub(crate) const NUMERIC_NEGATIVE: u16 = 0x4000;
pub(crate) const NUMERIC_NAN: u16 = 0xc000;
pub(crate) const NUMERIC_INFINITY: u16 = 0xd000;
pub(crate) const NUMERIC_NEGATIVE_INFINITY: u16 = 0xf000;

/// A numeric's text as base-10000 digits: count, weight of the first, sign, display scale, digits.
fn numeric(text: &str, out: &mut Vec<u8>) {
    let mut header = |count: u16, weight: i16, sign: u16, scale: u16| {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&scale.to_be_bytes());
    };
    match text {
        "NaN" => return header(0, 0, NUMERIC_NAN, 0),
        "Infinity" => return header(0, 0, NUMERIC_INFINITY, 0),
        "-Infinity" => return header(0, 0, NUMERIC_NEGATIVE_INFINITY, 0),
        _ => {}
    }
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (NUMERIC_NEGATIVE, magnitude),
        None => (0, text),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    // Groups of four align on the decimal point, so pad both ends to it.
    let lead = (4 - whole.len() % 4) % 4;
    let decimals = std::iter::repeat_n(b'0', lead).chain(whole.bytes()).chain(fraction.bytes());
    let mut digits: Vec<u16> = Vec::with_capacity(magnitude.len() / 4 + 2);
    let mut digit = 0;
    let mut filled = 0;
    for decimal in decimals {
        digit = digit * 10 + u16::from(decimal - b'0');
        filled += 1;
        if filled == 4 {
            digits.push(digit);
            (digit, filled) = (0, 0);
        }
    }
    if filled > 0 {
        digits.push(digit * 10u16.pow(4 - filled));
    }
    let mut weight = ((whole.len() + lead) / 4) as i16 - 1;
    let leading_zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let kept = digits.iter().rposition(|digit| *digit != 0).map_or(leading_zeros, |last| last + 1);
    weight -= leading_zeros as i16;
    if kept == leading_zeros {
        weight = 0;
    }
    header((kept - leading_zeros) as u16, weight, sign, fraction.len() as u16);
    digits[leading_zeros..kept].iter().for_each(|digit| out.extend_from_slice(&digit.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn numeric_words(text: &str) -> Vec<u16> {
        let mut out = Vec::new();
        numeric(text, &mut out);
        out.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect()
    }

    #[test]
    fn numeric_digits_align_on_the_decimal_point() {
        // count, weight, sign, scale, digits.. as PostgreSQL's numeric_send gives them.
        assert_eq!(numeric_words("0"), [0, 0, 0, 0]);
        assert_eq!(numeric_words("0.00"), [0, 0, 0, 2]);
        assert_eq!(numeric_words("1"), [1, 0, 0, 0, 1]);
        assert_eq!(numeric_words("-12345.678"), [3, 1, 0x4000, 3, 1, 2345, 6780]);
        assert_eq!(numeric_words("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(numeric_words("0.0001"), [1, 0xffff, 0, 4, 1]);
        assert_eq!(numeric_words("0.00000001"), [1, 0xfffe, 0, 8, 1]);
        assert_eq!(numeric_words("NaN"), [0, 0, 0xc000, 0]);
    }

    #[test]
    fn integers_are_written_whole() {
        for value in [0, 1, -1, 10, 1234567890, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            integer(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn a_row_mixes_formats_and_nulls() {
        let schema = RelationSchema::new(vec![
            repr::ColumnSchema::new("a", SqlType::Int4),
            repr::ColumnSchema::new("b", SqlType::Text),
            repr::ColumnSchema::new("c", SqlType::Int4),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(-7)])),
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(Int32Array::from(vec![Some(258)])),
        ];
        let batch = RecordBatch::try_new(schema.arrow(), columns).unwrap();
        let options = FormatOptions::default();
        let formats = [Format::Text, Format::Text, Format::Binary];
        let mut out = Vec::new();
        Rows::new(&batch, &schema, &formats, &options).unwrap().data_row(0, &mut out).unwrap();
        let expected = [
            &[b'D', 0, 0, 0, 24, 0, 3][..],
            &[0, 0, 0, 2, b'-', b'7'],
            &[255, 255, 255, 255],
            &[0, 0, 0, 4, 0, 0, 1, 2],
        ];
        assert_eq!(out, expected.concat());
    }
}
