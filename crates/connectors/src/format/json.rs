//! JSON: an object a line, or message, its members by name.
//!
//! Driven by the schema: one pass over the text finds each member's value as a range, and only those a column wants are
//! looked at again. No tree is built and nothing is allocated for what no column wants.
//!
//! Records of one source mostly have the same members in the same order, written alike. So for each member the bytes that led
//! to its value in the last record are remembered (`, "price": `) with the column they meant: the same bytes at the same place
//! cost one comparison, and anything else is taken apart.

use std::ops::Range;

use repr::PgError;
use repr::source::SourceDescription;

use super::column::{broken, unescape};
use super::{Decoder, Field, Format, LINE_BYTES_MAX, Rows, each_line, not_utf8};

pub(super) const FORMAT: Format = Format {
    name: "json",
    doc: "One JSON object a line of a file, or message. A column takes the member of its name (a member that no column is \
          named exactly like goes by its name without letter case), NULL where there is none. Strings are read as the \
          column's type in PostgreSQL's input syntax; json, jsonb and text columns take any value, array columns take arrays.",
    options: &[],
    decoder,
};

struct JsonDecoder {
    rows: Rows,
    names: Vec<String>,
    /// The members of the last record in order.
    expected: Vec<Lead>,
    fields: Vec<Field>,
}

/// What leads to a member's value: from the end of the value before it (or the start of the record) to its own.
struct Lead {
    bytes: Vec<u8>,
    column: Option<usize>,
}

fn decoder(description: &SourceDescription) -> Result<Box<dyn Decoder>, PgError> {
    Ok(Box::new(JsonDecoder {
        rows: Rows::new(&description.schema),
        names: description.schema.columns.iter().map(|column| column.name.clone()).collect(),
        expected: Vec::new(),
        fields: Vec::new(),
    }))
}

impl Decoder for JsonDecoder {
    fn decode_stream(&mut self, bytes: &[u8], place: u64, at_end: bool) -> usize {
        each_line(bytes, at_end, |line, start| {
            // An empty line is not worth an error: many writers end a file with one.
            if !line.iter().all(u8::is_ascii_whitespace) {
                self.decode_record(line, place + start as u64);
            }
            !self.rows.is_full()
        })
    }

    fn decode_record(&mut self, record: &[u8], place: u64) {
        let Ok(text) = std::str::from_utf8(record) else {
            return self.rows.fail(record, place, not_utf8(record));
        };
        if text.len() > LINE_BYTES_MAX {
            return self.rows.fail(record, place, broken("JSON: the record is too long"));
        }
        self.fields.clear();
        self.fields.resize(self.names.len(), Field::Null);
        match self.scan(text) {
            Ok(()) => self.rows.push(&self.fields, text, "", place),
            Err(at) => {
                let near: String = text.get(at..).unwrap_or_default().chars().take(20).collect();
                let error = broken("input syntax for type json").with_detail(match near.is_empty() {
                    true => "The input string ended unexpectedly.".to_string(),
                    false => format!("Byte {at} of the record, at \"{near}\"."),
                });
                self.rows.fail(record, place, error);
            }
        }
    }

    fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }
}

impl JsonDecoder {
    /// Finds the fields of the object that `text` is. The error is the byte where it stops being one.
    fn scan(&mut self, text: &str) -> Result<(), usize> {
        let bytes = text.as_bytes();
        let mut at = 0;
        let mut member = 0;
        loop {
            let column = match self.expected.get(member) {
                Some(lead) if bytes[at..].starts_with(&lead.bytes) => {
                    at = skip_blanks(bytes, at + lead.bytes.len());
                    lead.column
                }
                _ => match self.lead(text, at, member)? {
                    Some((column, end)) => {
                        at = end;
                        column
                    }
                    None => {
                        at = skip_blanks(bytes, skip_blanks(bytes, at) + 1);
                        break;
                    }
                },
            };
            let (field, end) = value(bytes, at)?;
            if let Some(column) = column {
                // A key that comes twice: the last counts, as in PostgreSQL's jsonb.
                self.fields[column] = field;
            }
            member += 1;
            at = skip_blanks(bytes, end);
            match bytes.get(at) {
                Some(b',') => {}
                Some(b'}') => break,
                _ => return Err(at),
            }
        }
        let end = skip_blanks(bytes, expect(bytes, at, b'}')?);
        if end == bytes.len() { Ok(()) } else { Err(end) }
    }

    /// Takes apart what leads to the value of the `member`-th member, from `at` on, and remembers it. Gives the column that the
    /// member's key means and where its value starts; None for an object without members.
    fn lead(&mut self, text: &str, at: usize, member: usize) -> Result<Option<(Option<usize>, usize)>, usize> {
        let (bytes, start) = (text.as_bytes(), at);
        let mut at = skip_blanks(bytes, at);
        at = skip_blanks(bytes, expect(bytes, at, if member == 0 { b'{' } else { b',' })?);
        if member == 0 && bytes.get(at) == Some(&b'}') {
            return Ok(None);
        }
        at = expect(bytes, at, b'"')?;
        let key_end = string_end(bytes, at)?.0;
        let column = self.column_of(&text[at..key_end]);
        at = expect(bytes, skip_blanks(bytes, key_end + 1), b':')?;
        at = skip_blanks(bytes, at);
        // Keys that are data (a map) would make the memory of them grow without end.
        const REMEMBERED_MAX: usize = 1024;
        const REMEMBERED_BYTES_MAX: usize = 256;
        if at - start <= REMEMBERED_BYTES_MAX {
            let lead = Lead { bytes: bytes[start..at].to_vec(), column };
            if let Some(slot) = self.expected.get_mut(member) {
                *slot = lead;
            } else if member == self.expected.len() && member < REMEMBERED_MAX {
                self.expected.push(lead);
            }
        }
        Ok(Some((column, at)))
    }

    /// The column that a key, as it is written, means.
    fn column_of(&self, key: &str) -> Option<usize> {
        if let Some(column) = self.names.iter().position(|column| column == key) {
            return Some(column);
        }
        let mut name = String::new();
        // A key with a broken escape is no column's name; the value is checked in any case.
        unescape(key, &mut name).ok()?;
        let exact = self.names.iter().position(|column| *column == name);
        exact.or_else(|| self.names.iter().position(|column| column.eq_ignore_ascii_case(&name)))
    }
}

#[inline]
fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

#[inline]
fn expect(bytes: &[u8], at: usize, byte: u8) -> Result<usize, usize> {
    if bytes.get(at) == Some(&byte) { Ok(at + 1) } else { Err(at) }
}

/// Where the string whose inside starts at `at` has its closing quote, and whether it has escapes.
#[inline]
fn string_end(bytes: &[u8], at: usize) -> Result<(usize, bool), usize> {
    let mut escaped = false;
    let mut from = at;
    loop {
        let found = quote_or_escape(bytes, from);
        match bytes.get(found) {
            None => return Err(bytes.len()),
            Some(b'"') => return Ok((found, escaped)),
            Some(_) => {
                escaped = true;
                from = found + 2;
            }
        }
    }
}

/// The first quote or backslash from `at` on, eight bytes at a time: most strings are too short to be worth a call.
#[inline]
fn quote_or_escape(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // The lowest bit set is at the first zero byte of `word`; those above it may be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let word = u64::from_le_bytes(eight);
        let found = zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\')) {
        at += 1;
    }
    at
}

/// The value that starts at `at`, and where it ends.
#[inline]
fn value(bytes: &[u8], at: usize) -> Result<(Field, usize), usize> {
    let word = |word: &[u8], field: Field| match bytes[at..].starts_with(word) {
        true => Ok((field, at + word.len())),
        false => Err(at),
    };
    match bytes.get(at) {
        Some(b'"') => {
            let (end, escaped) = string_end(bytes, at + 1)?;
            let inside: Range<usize> = at + 1..end;
            Ok((if escaped { Field::Escaped(inside) } else { Field::String(inside) }, end + 1))
        }
        Some(b'-' | b'0'..=b'9') => match integer(bytes, at) {
            Some((value, end)) => Ok((Field::Integer(value, at..end), end)),
            None => {
                let end = number_end(bytes, at)?;
                Ok((Field::Number(at..end), end))
            }
        },
        Some(b't') => word(b"true", Field::Bool(true)),
        Some(b'f') => word(b"false", Field::Bool(false)),
        Some(b'n') => word(b"null", Field::Null),
        Some(b'{' | b'[') => {
            let end = nested_end(bytes, at)?;
            Ok((Field::Nested(at..end), end))
        }
        _ => Err(at),
    }
}

/// The number that starts at `at`, if it is an integer of few digits, and where it ends.
#[inline]
fn integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    const DIGITS_MAX: usize = 18;
    let start = at + (bytes[at] == b'-') as usize;
    let mut end = start;
    let mut value = 0i64;
    while let Some(digit) = bytes.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        if end - start == DIGITS_MAX {
            return None;
        }
        value = value * 10 + digit as i64;
        end += 1;
    }
    let is_padded = bytes.get(start) == Some(&b'0') && end > start + 1;
    if end == start || is_padded || matches!(bytes.get(end), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    Some((if start > at { -value } else { value }, end))
}

/// The end of `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
#[inline]
fn number_end(bytes: &[u8], at: usize) -> Result<usize, usize> {
    let digits = |mut at: usize| {
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at > start { Ok(at) } else { Err(at) }
    };
    let start = if bytes[at] == b'-' { at + 1 } else { at };
    let mut end = digits(start)?;
    if bytes[start] == b'0' && end > start + 1 {
        return Err(start + 1);
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-')) as usize;
        end = digits(end + 1 + sign)?;
    }
    Ok(end)
}

/// The end of an object or array: its brackets and strings are followed, its inside is checked only if a column wants it.
fn nested_end(bytes: &[u8], at: usize) -> Result<usize, usize> {
    const DEPTH_MAX: usize = 512;
    let mut open = Vec::new();
    let mut at = at;
    loop {
        match bytes.get(at) {
            None => return Err(bytes.len()),
            Some(b'"') => at = string_end(bytes, at + 1)?.0,
            Some(bracket @ (b'{' | b'[')) => {
                if open.len() == DEPTH_MAX {
                    return Err(at);
                }
                open.push(*bracket);
            }
            Some(bracket @ (b'}' | b']')) => {
                let matching = if *bracket == b'}' { b'{' } else { b'[' };
                if open.pop() != Some(matching) {
                    return Err(at);
                }
                if open.is_empty() {
                    return Ok(at + 1);
                }
            }
            Some(_) => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{Array, ArrayRef, AsArray};
    use arrow::datatypes::{DataType, Float64Type, Int64Type};
    use repr::text::format_value;
    use repr::{ColumnSchema, RelationSchema, SqlType};

    use super::*;

    fn source(columns: &[(&str, SqlType)]) -> SourceDescription {
        SourceDescription {
            watermark: None,
            connector: "file".to_string(),
            options: Default::default(),
            format: Some("json".to_string()),
            format_options: Default::default(),
            schema: RelationSchema::new(
                columns.iter().map(|(name, sql_type)| ColumnSchema::new(*name, sql_type.clone())).collect(),
            ),
        }
    }

    fn decode(columns: &[(&str, SqlType)], text: &str) -> (Vec<ArrayRef>, Vec<super::super::Failure>) {
        let mut decoder = decoder(&source(columns)).unwrap();
        let used = decoder.decode_stream(text.as_bytes(), 100, true);
        assert_eq!(used, text.len());
        let (columns, _, failures) = decoder.rows().take();
        (columns, failures)
    }

    fn shown(column: &ArrayRef, sql_type: &SqlType) -> Vec<String> {
        let show = |row: usize| {
            let mut out = String::new();
            match column.is_null(row) {
                true => out.push_str("NULL"),
                false => format_value(column, row, sql_type, &mut out),
            }
            out
        };
        (0..column.len()).map(show).collect()
    }

    #[test]
    fn members_go_to_the_columns_of_their_name() {
        let (columns, failures) = decode(
            &[("a", SqlType::Int8), ("b", SqlType::Text), ("c", SqlType::Float8)],
            "{\"a\": 1, \"b\": \"x\\n\", \"c\": 1.5}\n\
             {\"skip\": {\"a\": [1, \"}\"]}, \"C\":2,\"b\":null , \"a\":2}\r\n\
             {}\n\n\
             {\"a\":1,\"a\":3,\"b\":true}",
        );
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(shown(&columns[0], &SqlType::Int8), ["1", "2", "NULL", "3"]);
        assert_eq!(shown(&columns[1], &SqlType::Text), ["x\n", "NULL", "NULL", "true"]);
        assert_eq!(columns[2].as_primitive::<Float64Type>().value(1), 2.0);
    }

    #[test]
    fn each_value_is_read_as_the_columns_type() {
        let types = [
            ("n", SqlType::Numeric, "12.50", "12.50"),
            ("d", SqlType::Date, "\"2013-01-31\"", "2013-01-31"),
            ("t", SqlType::Timestamp, "\"2013-01-31T05:00:00\"", "2013-01-31 05:00:00"),
            ("z", SqlType::Timestamptz, "\"2013-01-31T05:00:00Z\"", "2013-01-31 05:00:00+00"),
            ("i", SqlType::Int4, "3.0", "3"),
            ("s", SqlType::Int2, "\"7\"", "7"),
            ("j", SqlType::Jsonb, "{\"b\":1,\"a\":[2]}", "{\"a\": [2], \"b\": 1}"),
            ("k", SqlType::Jsonb, "\"x\\ty\"", "\"x\\ty\""),
            ("x", SqlType::Text, "[1, 2]", "[1, 2]"),
            ("l", SqlType::Array(Box::new(SqlType::Int4)), "[1,null,3]", "{1,NULL,3}"),
            ("u", SqlType::Bool, "false", "f"),
        ];
        for (name, sql_type, raw, expected) in types {
            let (columns, failures) = decode(&[(name, sql_type.clone())], &format!("{{\"{name}\":{raw}}}\n"));
            assert!(failures.is_empty(), "{name}: {failures:?}");
            assert_eq!(shown(&columns[0], &sql_type), [expected], "{name}");
        }
    }

    #[test]
    fn a_broken_line_is_named_and_the_rest_goes_on() {
        let broken = [
            "{",
            "}",
            "[]",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":tru}",
            "{\"a\":1} x",
            "{\"a\":\"x}",
            "{\"a\":[1}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "1",
            "nul",
            "{\"a\":\"q\"}",
            "{\"a\":99999999999999999999}",
            "{\"a\":{}}",
            "{\"a\":true}",
        ];
        for line in broken {
            let (columns, failures) = decode(&[("a", SqlType::Int8)], &format!("{{\"a\":1}}\n{line}\n{{\"a\":2}}\n"));
            assert_eq!(columns[0].as_primitive::<Int64Type>().values(), &[1, 2], "{line}");
            assert_eq!(failures.len(), 1, "{line}");
            assert_eq!((failures[0].place, failures[0].input.as_str()), (108, line));
        }
    }

    #[test]
    fn a_row_that_fails_late_leaves_no_trace() {
        let (columns, failures) = decode(
            &[("a", SqlType::Int8), ("b", SqlType::Int8), ("c", SqlType::Numeric)],
            "{\"a\":1,\"b\":\"x\",\"c\":1}\n{\"a\":2,\"b\":2,\"c\":\"y\"}\n{\"a\":3,\"b\":3,\"c\":3}\n",
        );
        assert_eq!(failures.len(), 2);
        assert_eq!(failures[0].error.message, "invalid input syntax for type bigint: \"x\"");
        assert_eq!(columns[0].as_primitive::<Int64Type>().values(), &[3]);
        assert_eq!(shown(&columns[2], &SqlType::Numeric), ["3"]);
    }

    #[test]
    fn a_column_that_is_not_read_is_checked_and_left_out() {
        let types = [("a", SqlType::Int8), ("b", SqlType::Int8), ("c", SqlType::Text)];
        let mut decoder = decoder(&source(&types)).unwrap();
        decoder.rows().read_only(&BTreeSet::from([0]));
        let text = "{\"a\":1,\"b\":1,\"c\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n{\"a\":3,\"c\":\"\\u0000\"}\n{\"a\":4}\n";
        decoder.decode_stream(text.as_bytes(), 0, true);
        // What is asked for between two batches counts from the next on.
        decoder.rows().read_only(&BTreeSet::from([0, 2]));
        let (columns, row_count, failures) = decoder.rows().take();
        assert_eq!((row_count, failures.len()), (2, 2));
        assert_eq!(columns[0].as_primitive::<Int64Type>().values(), &[1, 4]);
        assert!(columns[1..].iter().all(|column| *column.data_type() == DataType::Null && column.len() == 2));
        decoder.decode_stream(text.as_bytes(), 0, true);
        let (columns, _, _) = decoder.rows().take();
        assert_eq!(*columns[1].data_type(), DataType::Null);
        assert_eq!(shown(&columns[2], &SqlType::Text), ["x", "NULL"]);
    }

    #[test]
    fn a_partial_line_is_left() {
        let mut decoder = decoder(&source(&[("a", SqlType::Int8)])).unwrap();
        let text = b"{\"a\":1}\n{\"a\":";
        assert_eq!(decoder.decode_stream(text, 0, false), 8);
        assert_eq!(decoder.rows().take().1, 1);
    }

    #[test]
    fn any_bytes_decode_to_rows_or_failures() {
        let alphabet = b"{}[]\":,\\nue0123456789.-+ \n\"a\"\xc3\xa9tfr";
        let mut state = 11u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let columns = [("a", SqlType::Int8), ("é", SqlType::Jsonb), ("u", SqlType::Text)];
        let mut decoder = decoder(&source(&columns)).unwrap();
        for _ in 0..30_000 {
            let mut line: Vec<u8> = b"{\"a\":".to_vec();
            line.truncate(next() % 6);
            line.extend((0..next() % 24).map(|_| alphabet[next() % alphabet.len()]));
            let used = decoder.decode_stream(&line, 0, true);
            assert!(used <= line.len());
            let (arrays, row_count, _) = decoder.rows().take();
            assert!(arrays.iter().all(|array| array.len() == row_count));
        }
    }

    /// Every line is a row, and `--nocapture` shows what one costs; an optimised build is faster still.
    #[test]
    fn decoding_speed() {
        const LINES: usize = 20_000;
        let bids = [
            ("auction", SqlType::Int8),
            ("bidder", SqlType::Int8),
            ("price", SqlType::Int8),
            ("channel", SqlType::Text),
            ("date_time", SqlType::Timestamp),
        ];
        let cases: [(&str, &[(&str, SqlType)], String); 2] = [
            ("words", &[("word", SqlType::Text)], "{\"word\": \"tidewater\"}\n".repeat(LINES)),
            (
                "bids",
                &bids,
                "{\"auction\": 1001, \"bidder\": 2002, \"price\": 31415, \"channel\": \"Google\", \"url\": \
                 \"https://www.nexmark.example/abcdefgh/item.htm?query=1&channel_id=17\", \"date_time\": \
                 \"2026-01-01 00:00:00.123\", \"extra\": \"abcdefghijklmnopqrst\"}\n"
                    .repeat(LINES),
            ),
        ];
        for (name, columns, text) in cases {
            let mut decoder = decoder(&source(columns)).unwrap();
            let started = std::time::Instant::now();
            let (mut done, mut count) = (0, 0);
            while done < text.len() {
                done += decoder.decode_stream(&text.as_bytes()[done..], 0, true);
                count += decoder.rows().take().1;
            }
            let elapsed = started.elapsed();
            assert_eq!(count, LINES);
            println!(
                "{name}: {} ns a line, {:.0} MB/s",
                elapsed.as_nanos() / count as u128,
                text.len() as f64 / elapsed.as_secs_f64() / 1e6
            );
        }
    }
}
