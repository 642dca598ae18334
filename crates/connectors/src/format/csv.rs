//! CSV as PostgreSQL's COPY reads it: quotes may start anywhere in a field, the escape stands before a quote or itself within
//! quotes, and only an unquoted field can be NULL.
//!
//! A line without a quote, which most are, is split at its delimiters. A record with one is read byte by byte and may go on
//! over several lines. A quote that is never closed would take the rest of the file with it: after
//! [`QUOTED_BYTES_MAX`] bytes, or at the end of the file, its first line is an error and reading goes on with the second.

use repr::source::SourceDescription;
use repr::{PgError, SqlState};

use super::{Decoder, Field, Format, LINE_BYTES_MAX, Rows, not_utf8};
use crate::options::{OptionDoc, flag, invalid};

pub(super) const FORMAT: Format = Format {
    name: "csv",
    doc: "Comma separated values as COPY reads them; columns are taken in order.",
    options: &[
        OptionDoc { name: "header", doc: "The first line of each file is not data." },
        OptionDoc { name: "delimiter", doc: "Between fields; one byte. A comma unless said." },
        OptionDoc { name: "null", doc: "What stands for NULL without quotes. Nothing at all unless said." },
        OptionDoc { name: "quote", doc: "Around fields; one byte. A double quote unless said." },
        OptionDoc { name: "escape", doc: "Before a quote within quotes; one byte. The quote unless said." },
    ],
    decoder,
};

/// A record with quotes in it is at most this long.
const QUOTED_BYTES_MAX: usize = 1 << 20;

struct CsvDecoder {
    rows: Rows,
    names: Vec<String>,
    syntax: Syntax,
    header: bool,
    /// Whether the next line is the header.
    at_header: bool,
    fields: Vec<Field>,
    scratch: String,
}

#[derive(Clone)]
struct Syntax {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: String,
}

fn decoder(description: &SourceDescription) -> Result<Box<dyn Decoder>, PgError> {
    let options = &description.format_options;
    let byte = |name: &str, default: u8| match options.get(name).map(String::as_bytes) {
        None => Ok(default),
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Ok(*byte),
        Some(b"\\t") if name == "delimiter" => Ok(b'\t'),
        Some(_) => Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("CSV {name} must be a single one-byte character"),
        )),
    };
    let quote = byte("quote", b'"')?;
    let null = options.get("null").cloned().unwrap_or_default();
    let syntax = Syntax { delimiter: byte("delimiter", b',')?, quote, escape: byte("escape", quote)?, null };
    if syntax.delimiter == syntax.quote {
        let message = "CSV delimiter and quote must be different";
        return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    if syntax.null.bytes().any(|byte| byte == syntax.delimiter || byte == syntax.quote || matches!(byte, b'\r' | b'\n'))
    {
        return Err(invalid("null", &syntax.null));
    }
    let header = flag(options, "header")?;
    Ok(Box::new(CsvDecoder {
        rows: Rows::new(&description.schema),
        names: description.schema.columns.iter().map(|column| column.name.clone()).collect(),
        syntax,
        header,
        at_header: false,
        fields: Vec::new(),
        scratch: String::new(),
    }))
}

/// A record with quotes in it.
enum Quoted {
    /// It ends before this byte, its line end included in the second.
    Ends(usize, usize),
    /// Its last quote is open.
    Open,
}

impl Decoder for CsvDecoder {
    fn decode_stream(&mut self, bytes: &[u8], place: u64, at_end: bool) -> usize {
        let mut done = 0;
        while done < bytes.len() && !self.rows.is_full() {
            let rest = &bytes[done..];
            let (line_end, next) = match memchr::memchr(b'\n', rest) {
                Some(length) => (length, length + 1),
                None if at_end => (rest.len(), rest.len()),
                None => break,
            };
            let line = without_return(&rest[..line_end]);
            let here = place + done as u64;
            if memchr::memchr(self.syntax.quote, line).is_none() {
                if !std::mem::take(&mut self.at_header) {
                    self.plain_record(line, here);
                }
                done += next;
                continue;
            }
            match self
                .syntax
                .quoted_end(&rest[..rest.len().min(QUOTED_BYTES_MAX)], at_end || rest.len() > QUOTED_BYTES_MAX)
            {
                Quoted::Ends(end, next) => {
                    if !std::mem::take(&mut self.at_header) {
                        self.quoted_record(&rest[..end], here);
                    }
                    done += next;
                }
                Quoted::Open if at_end || rest.len() > QUOTED_BYTES_MAX => {
                    self.at_header = false;
                    let error = PgError::new(SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field");
                    self.rows.fail(line, here, error);
                    done += next;
                }
                Quoted::Open => break,
            }
        }
        done
    }

    fn decode_record(&mut self, record: &[u8], place: u64) {
        let record = without_return(record.strip_suffix(b"\n").unwrap_or(record));
        if record.len() > LINE_BYTES_MAX {
            let error = PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "the record is too long");
            return self.rows.fail(record, place, error);
        }
        if memchr::memchr(self.syntax.quote, record).is_none() {
            return self.plain_record(record, place);
        }
        match self.syntax.quoted_end(record, true) {
            Quoted::Ends(end, _) if end == record.len() => self.quoted_record(record, place),
            Quoted::Ends(..) => {
                let error = PgError::new(SqlState::BAD_COPY_FILE_FORMAT, "a message holds one CSV record, not several");
                self.rows.fail(record, place, error);
            }
            Quoted::Open => {
                let error = PgError::new(SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field");
                self.rows.fail(record, place, error);
            }
        }
    }

    fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }

    fn open_file(&mut self, at_start: bool) {
        self.at_header = self.header && at_start;
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl CsvDecoder {
    /// A record without a quote in it.
    fn plain_record(&mut self, record: &[u8], place: u64) {
        let Ok(text) = std::str::from_utf8(record) else {
            return self.rows.fail(record, place, not_utf8(record));
        };
        self.fields.clear();
        let mut start = 0;
        for (at, byte) in record.iter().enumerate() {
            if *byte == self.syntax.delimiter {
                self.fields.push(plain_field(text, start, at, &self.syntax.null));
                start = at + 1;
            }
        }
        self.fields.push(plain_field(text, start, record.len(), &self.syntax.null));
        self.push(text, place);
    }

    /// A record whose quotes are closed.
    fn quoted_record(&mut self, record: &[u8], place: u64) {
        let Ok(text) = std::str::from_utf8(record) else {
            return self.rows.fail(record, place, not_utf8(record));
        };
        self.fields.clear();
        self.scratch.clear();
        let mut at = 0;
        loop {
            let (field, end) = self.syntax.field(text, at, &mut self.scratch);
            self.fields.push(field);
            match end {
                Some(next) => at = next,
                None => break,
            }
        }
        self.push(text, place);
    }

    fn push(&mut self, record: &str, place: u64) {
        let bad = |message: String| PgError::new(SqlState::BAD_COPY_FILE_FORMAT, message);
        let error = match self.fields.len().cmp(&self.names.len()) {
            std::cmp::Ordering::Equal => return self.rows.push(&self.fields, record, &self.scratch, place),
            std::cmp::Ordering::Less => bad(format!("missing data for column \"{}\"", self.names[self.fields.len()])),
            std::cmp::Ordering::Greater => bad("extra data after last expected column".to_string()),
        };
        self.rows.fail(record.as_bytes(), place, error);
    }
}

#[inline]
fn plain_field(text: &str, start: usize, end: usize, null: &str) -> Field {
    if text[start..end] == *null { Field::Null } else { Field::Text(start..end) }
}

impl Syntax {
    /// Where the record at the start of `bytes` ends. `at_end`: what comes last is whole although no line end follows.
    fn quoted_end(&self, bytes: &[u8], at_end: bool) -> Quoted {
        let mut in_quotes = false;
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            if in_quotes {
                let next = bytes.get(at + 1);
                if byte == self.escape && next.is_some_and(|next| *next == self.escape || *next == self.quote) {
                    at += 1;
                } else if byte == self.quote {
                    in_quotes = false;
                }
            } else if byte == self.quote {
                in_quotes = true;
            } else if byte == b'\n' {
                let end = if at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
                return Quoted::Ends(end, at + 1);
            }
            at += 1;
        }
        match !in_quotes && at_end {
            true => Quoted::Ends(without_return(bytes).len(), bytes.len()),
            false => Quoted::Open,
        }
    }

    /// The field at `start`, and where the next one starts if there is one.
    fn field(&self, text: &str, start: usize, scratch: &mut String) -> (Field, Option<usize>) {
        let bytes = text.as_bytes();
        let scratch_start = scratch.len();
        let mut quoted = false;
        let mut in_quotes = false;
        // What is copied next: quotes and escapes are left out between the pieces. All of them are ASCII.
        let mut piece = start;
        let mut at = start;
        while at < bytes.len() {
            let byte = bytes[at];
            if in_quotes {
                let next = bytes.get(at + 1);
                if byte == self.escape && next.is_some_and(|next| *next == self.escape || *next == self.quote) {
                    scratch.push_str(&text[piece..at]);
                    piece = at + 1;
                    at += 1;
                } else if byte == self.quote {
                    scratch.push_str(&text[piece..at]);
                    piece = at + 1;
                    in_quotes = false;
                }
            } else if byte == self.quote {
                scratch.push_str(&text[piece..at]);
                piece = at + 1;
                (quoted, in_quotes) = (true, true);
            } else if byte == self.delimiter {
                break;
            }
            at += 1;
        }
        let next = (at < bytes.len()).then_some(at + 1);
        if !quoted {
            return (plain_field(text, start, at, &self.null), next);
        }
        scratch.push_str(&text[piece..at]);
        (Field::Scratch(scratch_start..scratch.len()), next)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray};
    use repr::{ColumnSchema, RelationSchema, SqlType};

    use super::*;

    fn source(types: &[SqlType], options: &[(&str, &str)]) -> SourceDescription {
        let columns = types.iter().enumerate();
        SourceDescription {
            watermark: None,
            connector: "file".to_string(),
            options: Default::default(),
            format: Some("csv".to_string()),
            format_options: options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            schema: RelationSchema::new(
                columns.map(|(index, sql_type)| ColumnSchema::new(format!("c{index}"), sql_type.clone())).collect(),
            ),
        }
    }

    fn decode(columns: usize, options: &[(&str, &str)], text: &str) -> (Vec<ArrayRef>, Vec<super::super::Failure>) {
        let mut decoder = decoder(&source(&vec![SqlType::Text; columns], options)).unwrap();
        assert_eq!(decoder.decode_stream(text.as_bytes(), 0, true), text.len());
        let (columns, _, failures) = decoder.rows().take();
        (columns, failures)
    }

    fn strings(column: &ArrayRef) -> Vec<Option<&str>> {
        column.as_string::<i32>().iter().collect()
    }

    #[test]
    fn quotes_escapes_and_nulls_are_those_of_copy() {
        let (columns, failures) = decode(2, &[], "a,\n\"\",\"b\"\"c\"\nx\"y,z\"w,\"1\n2\"\r\n");
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(strings(&columns[0]), [Some("a"), Some(""), Some("xy,zw")]);
        assert_eq!(strings(&columns[1]), [None, Some("b\"c"), Some("1\n2")]);

        let (columns, failures) = decode(
            2,
            &[("delimiter", "|"), ("quote", "'"), ("escape", "\\"), ("null", "NA")],
            "NA|'NA'\n'it\\'s'|\\\n",
        );
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(strings(&columns[0]), [None, Some("it's")]);
        assert_eq!(strings(&columns[1]), [Some("NA"), Some("\\")]);
    }

    #[test]
    fn a_header_is_skipped_once_a_file() {
        let mut decoder = decoder(&source(&[SqlType::Int4], &[("header", "true")])).unwrap();
        decoder.open_file(true);
        decoder.decode_stream(b"h\n1\n", 0, true);
        decoder.open_file(true);
        decoder.decode_stream(b"h\n2\n", 0, true);
        // Its names may be quoted and go over lines.
        decoder.open_file(true);
        decoder.decode_stream(b"\"h\n\"\"h\"\n3\n", 0, true);
        assert_eq!(decoder.rows().take().1, 3);
    }

    #[test]
    fn broken_records_are_named_and_the_rest_goes_on() {
        let (columns, failures) = decode(2, &[], "1,2\n3\n4,5,6\n7,\"8\n9,10\n");
        assert_eq!(strings(&columns[0]), [Some("1"), Some("9")]);
        let messages: Vec<(u64, &str)> =
            failures.iter().map(|failure| (failure.place, failure.error.message.as_str())).collect();
        assert_eq!(
            messages,
            [
                (4, "missing data for column \"c1\""),
                (6, "extra data after last expected column"),
                (12, "unterminated CSV quoted field"),
            ]
        );
    }

    #[test]
    fn an_open_quote_waits_for_more() {
        let mut decoder = decoder(&source(&[SqlType::Text], &[])).unwrap();
        assert_eq!(decoder.decode_stream(b"a\n\"b\nc", 0, false), 2);
        assert_eq!(decoder.decode_stream(b"\"b\nc\"\n", 2, false), 6);
        assert_eq!(strings(&decoder.rows().take().0[0]), [Some("a"), Some("b\nc")]);
        // What looks closed may be the first half of an escaped quote, but a line end follows it here.
        assert_eq!(decoder.decode_stream(b"\"b\"", 0, false), 0);
    }

    #[test]
    fn cutting_the_stream_anywhere_changes_nothing() {
        let text = "a,1\n\"b\"\"\n,\",2\r\n,\n\"\",\"é\"\nx,y,z\nlast,5";
        let types = [SqlType::Text, SqlType::Text];
        let mut whole = decoder(&source(&types, &[])).unwrap();
        whole.decode_stream(text.as_bytes(), 0, true);
        let expected = whole.rows().take().0;
        for cut in 0..text.len() {
            let mut pieces = decoder(&source(&types, &[])).unwrap();
            let done = pieces.decode_stream(&text.as_bytes()[..cut], 0, false);
            pieces.decode_stream(&text.as_bytes()[done..], done as u64, true);
            assert_eq!(pieces.rows().take().0, expected, "cut at {cut}");
        }
    }

    #[test]
    fn any_bytes_decode_to_rows_or_failures() {
        let alphabet = b"\"\"\",,,\n\n\r\\a1\xc3\xa9 ";
        let mut state = 5u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut decoder = decoder(&source(&[SqlType::Text, SqlType::Int4], &[("escape", "\\")])).unwrap();
        for _ in 0..30_000 {
            let bytes: Vec<u8> = (0..next() % 40).map(|_| alphabet[next() % alphabet.len()]).collect();
            assert_eq!(decoder.decode_stream(&bytes, 0, true), bytes.len());
            let (arrays, row_count, _) = decoder.rows().take();
            assert!(arrays.iter().all(|array| array.len() == row_count));
        }
    }
}
