//! COPY's three formats: rows to CopyData messages, and CopyData bytes to columns.
//!
//! Data arrives in pieces cut anywhere. Complete records are taken off the front as they arrive and parsed a few
//! thousand at a time, a column at a time; errors name the line and the column.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use engine::{CopyFormat, CopyOptions};
use repr::text::parse_column;
use repr::{PgError, RelationSchema, SqlState};

use crate::pg::decode::{Fields, decode_value};
use crate::pg::encode::{Format, Rows};
use crate::pg::message::{message, utf8};

const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Records parsed at once.
const BATCH_RECORDS: usize = 4096;

/// Bytes gathered before records are looked for; see [`CopyDecoder::push`].
const GATHER_BYTES: usize = 128 << 10;

/// What comes before the first row: a header line, binary's signature, or nothing.
pub(crate) fn copy_start(schema: &RelationSchema, options: &CopyOptions, out: &mut Vec<u8>) {
    match options.format {
        CopyFormat::Binary => message(out, b'd', |out| {
            out.extend_from_slice(BINARY_SIGNATURE);
            out.extend_from_slice(&[0; 8]); // No flags, no header extension.
        }),
        _ if options.header => message(out, b'd', |out| {
            for (index, column) in schema.columns.iter().enumerate() {
                if index > 0 {
                    push_char(options.delimiter, out);
                }
                copy_field(column.name.as_bytes(), schema.columns.len(), options, out);
            }
            out.push(b'\n');
        }),
        _ => {}
    }
}

/// One row.
pub(crate) fn copy_row(rows: &mut Rows, row: usize, options: &CopyOptions, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    message(out, b'd', |out| {
        if options.format == CopyFormat::Binary {
            return rows.fields(row, out);
        }
        for column in 0..rows.column_count() {
            if column > 0 {
                push_char(options.delimiter, out);
            }
            scratch.clear();
            match rows.text(column, row, scratch) {
                true => copy_field(scratch, rows.column_count(), options, out),
                false => out.extend_from_slice(options.null.as_bytes()),
            }
        }
        out.push(b'\n');
    });
}

/// What comes after the last row.
pub(crate) fn copy_end(options: &CopyOptions, out: &mut Vec<u8>) {
    if options.format == CopyFormat::Binary {
        message(out, b'd', |out| out.extend_from_slice(&(-1i16).to_be_bytes()));
    }
}

fn push_char(character: char, out: &mut Vec<u8>) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn copy_field(text: &[u8], column_count: usize, options: &CopyOptions, out: &mut Vec<u8>) {
    match options.format {
        CopyFormat::Csv => csv_field(text, column_count, options, out),
        _ => text_field(text, options, out),
    }
}

fn text_field(text: &[u8], options: &CopyOptions, out: &mut Vec<u8>) {
    for byte in text {
        let escaped = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            byte if char::from(*byte) == options.delimiter => *byte,
            byte => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
}

fn csv_field(text: &[u8], column_count: usize, options: &CopyOptions, out: &mut Vec<u8>) {
    let special = |byte: &u8| {
        let character = char::from(*byte);
        character == options.delimiter || character == options.quote || *byte == b'\n' || *byte == b'\r'
    };
    // A value that reads as NULL, or a lone \. that reads as the end of data, is told apart by quotes.
    let quoted = text == options.null.as_bytes()
        || (text == b"\\." && column_count == 1)
        || text.first() == Some(&b' ') && options.delimiter == ' '
        || text.iter().any(special);
    if !quoted {
        return out.extend_from_slice(text);
    }
    push_char(options.quote, out);
    for byte in text {
        let character = char::from(*byte);
        if character == options.quote || character == options.escape {
            push_char(options.escape, out);
        }
        out.push(*byte);
    }
    push_char(options.quote, out);
}

/// Columns from COPY data.
pub(crate) struct CopyDecoder {
    schema: RelationSchema,
    options: CopyOptions,
    /// Bytes not yet taken apart.
    rest: Vec<u8>,
    /// Look for records again when `rest` is this long. It doubles while a record does not end, so that a record of any
    /// length is scanned a bounded number of times.
    gather_bytes: usize,
    records: Records,
    batches: Vec<Vec<ArrayRef>>,
    /// Lines (records, in CSV with line breaks inside quotes) read before `records`.
    line: usize,
    /// The header line, or binary's signature, has been read.
    started: bool,
    ended: bool,
}

/// Fields of some records, row after row, as ranges of one text.
#[derive(Default)]
struct Records {
    text: Vec<u8>,
    fields: Vec<Option<Range<usize>>>,
    count: usize,
}

impl CopyDecoder {
    /// `schema` has the data's columns in its order.
    pub(crate) fn new(schema: RelationSchema, options: CopyOptions) -> CopyDecoder {
        CopyDecoder {
            started: !options.header && options.format != CopyFormat::Binary,
            schema,
            options,
            rest: Vec::new(),
            gather_bytes: GATHER_BYTES,
            records: Records::default(),
            batches: Vec::new(),
            line: 0,
            ended: false,
        }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), PgError> {
        self.rest.extend_from_slice(piece);
        if self.rest.len() < self.gather_bytes {
            return Ok(());
        }
        self.take_records(false)?;
        self.gather_bytes = GATHER_BYTES.max(2 * self.rest.len());
        Ok(())
    }

    /// The end of the data: all of it in batches of columns.
    pub(crate) fn finish(mut self) -> Result<Vec<Vec<ArrayRef>>, PgError> {
        self.take_records(true)?;
        self.flush_records()?;
        Ok(self.batches)
    }

    fn take_records(&mut self, complete: bool) -> Result<(), PgError> {
        let rest = std::mem::take(&mut self.rest);
        let mut position = 0;
        while !self.ended && position < rest.len() {
            match self.take_record(&rest[position..], complete)? {
                Some(length) => position += length,
                None => break,
            }
            if self.records.count >= BATCH_RECORDS {
                self.flush_records()?;
            }
        }
        if !self.ended {
            self.rest = rest[position..].to_vec();
        }
        Ok(())
    }

    /// Takes one record off the front and tells its length; `None` if its end is yet to come.
    fn take_record(&mut self, input: &[u8], complete: bool) -> Result<Option<usize>, PgError> {
        if self.options.format == CopyFormat::Binary {
            return self.binary_record(input, complete);
        }
        let (first_field, text_start) = (self.records.fields.len(), self.records.text.len());
        let taken = match self.options.format {
            CopyFormat::Csv => csv_record(input, complete, &self.options, &mut self.records),
            _ => text_record(input, complete, &self.options, &mut self.records),
        };
        let line = self.line + self.records.count + 1;
        let taken = taken.map_err(|error| at_line(error, line))?;
        let Some(Taken { length, end_of_data }) = taken else {
            self.records.fields.truncate(first_field);
            self.records.text.truncate(text_start);
            return Ok(None);
        };
        self.ended = end_of_data;
        if end_of_data || !self.started {
            self.records.fields.truncate(first_field);
            self.records.text.truncate(text_start);
            self.line += usize::from(!end_of_data);
            self.started = true;
            return Ok(Some(length));
        }
        let (found, expected) = (self.records.fields.len() - first_field, self.schema.columns.len());
        if found > expected {
            // A table without columns has one way to write a row: an empty line.
            if expected > 0 || self.records.fields[first_field].as_ref().is_some_and(|field| !field.is_empty()) {
                return Err(at_line(bad_format("extra data after last expected column"), line));
            }
            self.records.fields.truncate(first_field);
        }
        if found < expected {
            let name = &self.schema.columns[found].name;
            return Err(at_line(bad_format(format!("missing data for column \"{name}\"")), line));
        }
        self.records.count += 1;
        Ok(Some(length))
    }

    fn flush_records(&mut self) -> Result<(), PgError> {
        let records = std::mem::take(&mut self.records);
        if records.count == 0 {
            return Ok(());
        }
        let text = utf8(&records.text)?;
        let width = self.schema.columns.len();
        let mut columns = Vec::with_capacity(width);
        for (index, column) in self.schema.columns.iter().enumerate() {
            let fields = || records.fields.iter().skip(index).step_by(width.max(1));
            // An escape can end a field within a character, which no range of the whole text shows.
            if let Some(row) = fields().position(|field| field.clone().is_some_and(|field| text.get(field).is_none())) {
                let error = PgError::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\" at the end of a field",
                );
                return Err(at_line(error, self.line + row + 1));
            }
            let values = fields().map(|field| field.clone().and_then(|field| text.get(field)));
            let array = parse_column(&column.sql_type, column.typmod, values).map_err(|(row, error)| {
                let value = records.fields.get(row * width + index).cloned().flatten();
                let shown: String = value.and_then(|field| text.get(field)).unwrap_or("").chars().take(100).collect();
                let place = format!("COPY line {}, column {}: \"{shown}\"", self.line + row + 1, column.name);
                with_place(error, place)
            })?;
            columns.push(array);
        }
        self.batches.push(columns);
        self.line += records.count;
        Ok(())
    }

    fn binary_record(&mut self, input: &[u8], complete: bool) -> Result<Option<usize>, PgError> {
        let taken = match self.started {
            true => self.binary_tuple(input),
            false => self.binary_header(input),
        };
        match taken {
            // Cut short: more may come.
            Err(error) if error.state == SqlState::PROTOCOL_VIOLATION => match complete {
                true => Err(at_line(bad_format("unexpected EOF in COPY data"), self.line + 1)),
                false => Ok(None),
            },
            taken => taken.map(Some),
        }
    }

    fn binary_header(&mut self, input: &[u8]) -> Result<usize, PgError> {
        let mut fields = Fields(input);
        if fields.take(BINARY_SIGNATURE.len())? != BINARY_SIGNATURE {
            return Err(bad_format("COPY file signature not recognized"));
        }
        if fields.i32()? as u32 >> 16 != 0 {
            return Err(bad_format("unrecognized critical flags in COPY file header"));
        }
        let extension = usize::try_from(fields.i32()?).map_err(|_| bad_format("invalid COPY file header"))?;
        fields.take(extension)?;
        self.started = true;
        Ok(input.len() - fields.0.len())
    }

    /// Binary tuples are gathered a row a batch; concatenated when there are enough.
    fn binary_tuple(&mut self, input: &[u8]) -> Result<usize, PgError> {
        let mut fields = Fields(input);
        let count = fields.u16()? as i16;
        if count == -1 {
            self.ended = true;
            return Ok(input.len() - fields.0.len());
        }
        let expected = self.schema.columns.len();
        if usize::try_from(count) != Ok(expected) {
            let message = format!("row field count is {count}, expected {expected}");
            return Err(at_line(bad_format(message), self.line + 1));
        }
        let mut values = Vec::with_capacity(expected);
        for _ in 0..expected {
            values.push(match fields.i32()? {
                -1 => None,
                size => Some(fields.take(usize::try_from(size).map_err(|_| bad_format("invalid field size"))?)?),
            });
        }
        let row: Result<Vec<ArrayRef>, PgError> = self
            .schema
            .columns
            .iter()
            .zip(values)
            .map(|(column, value)| decode_value(&column.sql_type, Format::Binary, value))
            .collect();
        let line = self.line + 1;
        // The whole tuple is here, so a value that is too short will not get longer.
        let row = row.map_err(|error| match error.state {
            SqlState::PROTOCOL_VIOLATION => at_line(bad_format("incorrect binary data format"), line),
            _ => at_line(error, line),
        })?;
        self.line += 1;
        self.batches.push(row);
        self.merge_rows()?;
        Ok(input.len() - fields.0.len())
    }

    /// Joins the single rows at the end of `batches` once there are enough of them.
    fn merge_rows(&mut self) -> Result<(), PgError> {
        let width = self.schema.columns.len();
        let singles =
            self.batches.iter().rev().take_while(|batch| batch.first().is_some_and(|column| column.len() == 1));
        if singles.take(BATCH_RECORDS).count() < BATCH_RECORDS || !self.line.is_multiple_of(BATCH_RECORDS) {
            return Ok(());
        }
        let rows = self.batches.split_off(self.batches.len() - BATCH_RECORDS);
        let columns = (0..width).map(|index| {
            let values: Vec<&dyn Array> = rows.iter().map(|row| row[index].as_ref()).collect();
            concat(&values).map_err(|error| PgError::internal(error.to_string()))
        });
        let columns = columns.collect::<Result<_, _>>()?;
        self.batches.push(columns);
        Ok(())
    }
}

struct Taken {
    length: usize,
    /// A line of `\.` alone.
    end_of_data: bool,
}

/// A line of the text format.
fn text_record(
    input: &[u8],
    complete: bool,
    options: &CopyOptions,
    records: &mut Records,
) -> Result<Option<Taken>, PgError> {
    let mut escaped = false;
    let end = input.iter().position(|byte| {
        let ends = *byte == b'\n' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    let (line, length) = match end {
        Some(end) => (&input[..end], end + 1),
        None if complete => (input, input.len()),
        None => return Ok(None),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line == b"\\." {
        return Ok(Some(Taken { length, end_of_data: true }));
    }
    let mut delimiter = [0; 4];
    let delimiter = options.delimiter.encode_utf8(&mut delimiter).as_bytes()[0];
    let mut start = 0;
    let mut position = 0;
    loop {
        match line.get(position) {
            Some(b'\\') => position += 2,
            Some(byte) if *byte != delimiter => position += 1,
            at => {
                let raw = &line[start..position.min(line.len())];
                match raw == options.null.as_bytes() {
                    true => records.fields.push(None),
                    false => {
                        let text_start = records.text.len();
                        unescape(raw, &mut records.text)?;
                        records.fields.push(Some(text_start..records.text.len()));
                    }
                }
                if at.is_none() {
                    return Ok(Some(Taken { length, end_of_data: false }));
                }
                position += 1;
                start = position;
            }
        }
    }
}

/// Undoes the text format's backslashes: letters for control characters, octal and hexadecimal bytes, and any other
/// character for itself.
fn unescape(raw: &[u8], text: &mut Vec<u8>) -> Result<(), PgError> {
    let number = |from: usize, radix: u32, digits_max: usize| {
        let digits = raw[from..].iter().take(digits_max).map_while(|byte| char::from(*byte).to_digit(radix));
        digits.fold((0u32, 0), |(value, count), digit| (value * radix + digit, count + 1))
    };
    let mut position = 0;
    while position < raw.len() {
        let byte = raw[position];
        position += 1;
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        // A backslash at the very end of the line stands for itself.
        let Some(escaped) = raw.get(position).copied() else {
            text.push(b'\\');
            break;
        };
        position += 1;
        text.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => {
                let (value, count) = number(position - 1, 8, 3);
                position += count - 1;
                value as u8
            }
            b'x' => match number(position, 16, 2) {
                (_, 0) => b'x',
                (value, count) => {
                    position += count;
                    value as u8
                }
            },
            b'.' => return Err(bad_format("end-of-copy marker corrupt")),
            other => other,
        });
    }
    Ok(())
}

/// A record of the CSV format, over as many lines as its quotes span.
fn csv_record(
    input: &[u8],
    complete: bool,
    options: &CopyOptions,
    records: &mut Records,
) -> Result<Option<Taken>, PgError> {
    let byte_of = |character: char| character.encode_utf8(&mut [0; 4]).as_bytes()[0];
    let (delimiter, quote, escape) = (byte_of(options.delimiter), byte_of(options.quote), byte_of(options.escape));
    let mut position = 0;
    let mut field_start = records.text.len();
    let first_field = records.fields.len();
    let mut was_quoted = false;
    let mut in_quotes = false;
    loop {
        let byte = input.get(position).copied();
        if in_quotes {
            match byte {
                Some(byte) if byte == escape && (escape != quote || input.get(position + 1) == Some(&quote)) => {
                    match input.get(position + 1).copied() {
                        Some(next) if next == quote || next == escape => {
                            records.text.push(next);
                            position += 2;
                        }
                        Some(_) => {
                            records.text.push(escape);
                            position += 1;
                        }
                        None if complete => return Err(bad_format("unterminated CSV quoted field")),
                        None => return Ok(None),
                    }
                }
                // Whether it is doubled is not known before the next byte is.
                Some(byte) if byte == quote && position + 1 == input.len() && !complete => return Ok(None),
                Some(byte) if byte == quote => {
                    in_quotes = false;
                    position += 1;
                }
                Some(byte) => {
                    records.text.push(byte);
                    position += 1;
                }
                None if complete => return Err(bad_format("unterminated CSV quoted field")),
                None => return Ok(None),
            }
            continue;
        }
        match byte {
            Some(byte) if byte == quote => {
                in_quotes = true;
                was_quoted = true;
                position += 1;
            }
            Some(byte) if byte != delimiter && byte != b'\n' => {
                records.text.push(byte);
                position += 1;
            }
            None if !complete => return Ok(None),
            end => {
                let line_ends = end != Some(delimiter);
                // The carriage return of a line ending is no data.
                let return_before = match was_quoted {
                    true => position > 0 && input[position - 1] == b'\r',
                    false => records.text.len() > field_start && records.text.ends_with(b"\r"),
                };
                if line_ends && return_before {
                    records.text.pop();
                }
                let value = &records.text[field_start..];
                let single = records.fields.len() == first_field;
                if line_ends && single && !was_quoted && value == b"\\." {
                    return Ok(Some(Taken { length: input.len().min(position + 1), end_of_data: true }));
                }
                let is_null = !was_quoted && value == options.null.as_bytes();
                records.fields.push((!is_null).then_some(field_start..records.text.len()));
                position += 1;
                if line_ends {
                    return Ok(Some(Taken { length: position.min(input.len()), end_of_data: false }));
                }
                field_start = records.text.len();
                was_quoted = false;
            }
        }
    }
}

fn bad_format(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

fn at_line(error: PgError, line: usize) -> PgError {
    with_place(error, format!("COPY line {line}"))
}

/// PostgreSQL says the place as CONTEXT, which [`PgError`] has not; as a detail it is just as readable.
fn with_place(error: PgError, place: String) -> PgError {
    match error.detail {
        Some(_) => error,
        None => error.with_detail(place),
    }
}

#[cfg(test)]
mod tests {
    use arrow::record_batch::RecordBatch;
    use repr::text::FormatOptions;
    use repr::{ColumnSchema, SqlType};

    use super::*;

    fn schema() -> RelationSchema {
        RelationSchema::new(vec![ColumnSchema::new("a", SqlType::Int4), ColumnSchema::new("b", SqlType::Text)])
    }

    fn options(format: CopyFormat) -> CopyOptions {
        CopyOptions::new(format)
    }

    /// Decodes data cut into pieces of `piece` bytes and shows the rows again in `shown` format.
    fn through(data: &[u8], piece: usize, from: &CopyOptions, to: &CopyOptions) -> Result<Vec<u8>, PgError> {
        let mut decoder = CopyDecoder::new(schema(), from.clone());
        decoder.gather_bytes = 0;
        for piece in data.chunks(piece) {
            decoder.push(piece)?;
            decoder.gather_bytes = 0;
        }
        let schema = schema();
        let format_options = FormatOptions::default();
        let mut messages = Vec::new();
        copy_start(&schema, to, &mut messages);
        for columns in decoder.finish()? {
            let batch = RecordBatch::try_new(schema.arrow(), columns).unwrap();
            let formats = [if to.format == CopyFormat::Binary { Format::Binary } else { Format::Text }];
            let mut rows = Rows::new(&batch, &schema, &formats, &format_options).unwrap();
            for row in 0..batch.num_rows() {
                copy_row(&mut rows, row, to, &mut Vec::new(), &mut messages);
            }
        }
        copy_end(to, &mut messages);
        let mut out = Vec::new();
        let mut rest = &messages[..];
        while !rest.is_empty() {
            assert_eq!(rest[0], b'd');
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            out.extend_from_slice(&rest[5..length + 1]);
            rest = &rest[length + 1..];
        }
        Ok(out)
    }

    #[test]
    fn text_survives_a_trip_cut_anywhere() {
        let data = b"1\tone\n2\t\\N\n\\N\ttab\\tline\\nback\\\\slash\n4\t\n";
        let text = options(CopyFormat::Text);
        for piece in 1..data.len() {
            assert_eq!(through(data, piece, &text, &text).unwrap(), data, "in pieces of {piece}");
        }
    }

    #[test]
    fn csv_survives_a_trip_cut_anywhere() {
        let data = b"1,one\n2,\n3,\"\"\n4,\"a \"\"quoted\"\" one, with\na line break\"\n";
        let csv = options(CopyFormat::Csv);
        for piece in 1..data.len() {
            assert_eq!(through(data, piece, &csv, &csv).unwrap(), data, "in pieces of {piece}");
        }
    }

    #[test]
    fn binary_survives_a_trip_cut_anywhere() {
        let (text, binary) = (options(CopyFormat::Text), options(CopyFormat::Binary));
        let data = through(b"1\tone\n2\t\\N\n", 100, &text, &binary).unwrap();
        for piece in 1..data.len() {
            assert_eq!(through(&data, piece, &binary, &binary).unwrap(), data, "in pieces of {piece}");
        }
        for length in 1..data.len() - 2 {
            let cut = through(&data[..length], 100, &binary, &text);
            // Cut between tuples, the trailer alone is missing, which is forgiven.
            assert!(cut.is_err() || cut.unwrap().ends_with(b"\n") || length == 19, "cut at {length}");
        }
    }

    #[test]
    fn csv_reads_windows_lines_headers_and_other_options() {
        let mut csv = options(CopyFormat::Csv);
        csv.header = true;
        csv.delimiter = ';';
        csv.null = "NA".to_string();
        let shown = through(b"a;b\r\n1;x\r\n2;NA\r\n3;\"NA\"\r\n", 5, &csv, &options(CopyFormat::Text)).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), "1\tx\n2\t\\N\n3\tNA\n");
    }

    #[test]
    fn end_of_data_marker_ends_the_data() {
        let text = options(CopyFormat::Text);
        assert_eq!(through(b"1\tx\n\\.\nnonsense", 100, &text, &text).unwrap(), b"1\tx\n");
    }

    #[test]
    fn errors_name_the_line() {
        let text = options(CopyFormat::Text);
        let error = |data: &[u8]| through(data, 100, &text, &text).unwrap_err();
        assert_eq!(error(b"1\tx\n2\n").message, "missing data for column \"b\"");
        assert_eq!(error(b"1\tx\n2\n").detail.as_deref(), Some("COPY line 2"));
        assert_eq!(error(b"1\tx\ty\n").message, "extra data after last expected column");
        assert_eq!(error(b"1\tx\nz\ty\n").detail.as_deref(), Some("COPY line 2, column a: \"z\""));
        assert_eq!(error(b"1\t\\xff\n").state, SqlState::CHARACTER_NOT_IN_REPERTOIRE);
        let csv = options(CopyFormat::Csv);
        assert_eq!(through(b"1,\"x\n", 2, &csv, &csv).unwrap_err().message, "unterminated CSV quoted field");
    }
}
