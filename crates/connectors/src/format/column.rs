//! One column being filled, with a fast way in for the types that most data is made of.
//!
//! The fast ways (plain decimal integers and floats, ISO timestamps) only ever take what they are sure of; anything else
//! goes to `repr::text`, which knows every spelling PostgreSQL reads and words every error.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use repr::text::calendar::{days_from_civil, days_in_month};
use repr::text::{ColumnParser, TimeZone, datetime, json, parse_bool, parse_float, parse_integer};
use repr::{ColumnSchema, PgError, SqlState, SqlType};

use super::Field;

pub(super) struct Column {
    name: String,
    sql_type: SqlType,
    builder: Builder,
    /// Whether its values are read; they are checked in any case.
    pub(super) is_wanted: bool,
    /// Unescaped strings and arrays in PostgreSQL's spelling, made anew for each value.
    scratch: String,
}

enum Builder {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float8(Float64Builder),
    Text(StringBuilder),
    Bytea(BinaryBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Timestamptz(TimestampMicrosecondBuilder),
    Other(ColumnParser),
}

impl Column {
    pub(super) fn new(column: &ColumnSchema) -> Column {
        let builder = match (&column.sql_type, column.typmod) {
            (SqlType::Bool, _) => Builder::Bool(BooleanBuilder::new()),
            (SqlType::Int2, _) => Builder::Int2(Int16Builder::new()),
            (SqlType::Int4, _) => Builder::Int4(Int32Builder::new()),
            (SqlType::Int8, _) => Builder::Int8(Int64Builder::new()),
            (SqlType::Float8, _) => Builder::Float8(Float64Builder::new()),
            (SqlType::Text, _) | (SqlType::Varchar, -1) => Builder::Text(StringBuilder::new()),
            (SqlType::Bytea, _) => Builder::Bytea(BinaryBuilder::new()),
            (SqlType::Timestamp, -1) => Builder::Timestamp(TimestampMicrosecondBuilder::new()),
            (SqlType::Timestamptz, -1) => Builder::Timestamptz(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            (sql_type, typmod) => Builder::Other(ColumnParser::new(sql_type, typmod)),
        };
        Column {
            name: column.name.clone(),
            sql_type: column.sql_type.clone(),
            builder,
            is_wanted: true,
            scratch: String::new(),
        }
    }

    /// Appends one value. Nothing is appended on an error.
    #[inline]
    pub(super) fn push(&mut self, field: &Field, record: &str, scratch: &str) -> Result<(), PgError> {
        // What many records have most of goes straight to its builder.
        if let (Field::Integer(value, _), Builder::Int8(builder)) = (field, &mut self.builder) {
            builder.append_value(*value);
            return Ok(());
        }
        self.push_any(field, record, scratch)
    }

    fn push_any(&mut self, field: &Field, record: &str, scratch: &str) -> Result<(), PgError> {
        match field {
            Field::Null => {
                self.push_null();
                Ok(())
            }
            Field::Text(range) => self.push_text(&record[range.clone()]),
            Field::Scratch(range) => self.push_text(&scratch[range.clone()]),
            // A string is a value of a JSON column with its quotes, and of any other without.
            Field::String(range) | Field::Escaped(range) if self.is_json() => {
                self.push_text(&record[range.start - 1..range.end + 1])
            }
            Field::String(range) => self.push_text(&record[range.clone()]),
            Field::Escaped(range) => {
                let mut text = std::mem::take(&mut self.scratch);
                text.clear();
                let pushed = unescape(&record[range.clone()], &mut text).and_then(|()| self.push_text(&text));
                self.scratch = text;
                pushed
            }
            Field::Number(range) | Field::Integer(_, range) => self.push_number(&record[range.clone()]),
            Field::Bool(value) => self.push_bool(*value),
            Field::Nested(range) => self.push_nested(&record[range.clone()]),
        }
    }

    fn is_json(&self) -> bool {
        matches!(self.sql_type, SqlType::Json | SqlType::Jsonb)
    }

    #[inline]
    fn push_text(&mut self, text: &str) -> Result<(), PgError> {
        match &mut self.builder {
            Builder::Text(builder) => {
                if memchr::memchr(0, text.as_bytes()).is_some() {
                    return Err(zero_byte());
                }
                if self.is_wanted {
                    builder.append_value(text)
                }
            }
            Builder::Int8(builder) => builder.append_value(match plain_integer(text) {
                Some(value) => value,
                None => parse_integer(text, i64::MIN, i64::MAX, "bigint")?,
            }),
            Builder::Int4(builder) => {
                builder.append_value(match plain_integer(text).and_then(|value| i32::try_from(value).ok()) {
                    Some(value) => value,
                    None => parse_integer(text, i32::MIN as i64, i32::MAX as i64, "integer")? as i32,
                })
            }
            Builder::Int2(builder) => {
                builder.append_value(match plain_integer(text).and_then(|value| i16::try_from(value).ok()) {
                    Some(value) => value,
                    None => parse_integer(text, i16::MIN as i64, i16::MAX as i64, "smallint")? as i16,
                })
            }
            Builder::Float8(builder) => builder.append_value(match plain_float(text) {
                Some(value) => value,
                None => parse_float(text, "double precision")?,
            }),
            Builder::Bool(builder) => builder.append_value(match text {
                "true" | "t" | "TRUE" => true,
                "false" | "f" | "FALSE" => false,
                other => parse_bool(other)?,
            }),
            Builder::Timestamp(builder) => builder.append_value(match iso_timestamp(text) {
                Some((value, "")) => value,
                _ => datetime::parse_timestamp(text)?,
            }),
            Builder::Timestamptz(builder) => builder.append_value(match iso_timestamp(text) {
                Some((value, "Z" | "+00" | "+00:00")) => value,
                _ => datetime::parse_timestamptz(text, &TimeZone::UTC)?,
            }),
            Builder::Bytea(builder) => {
                let mut parser = ColumnParser::new(&SqlType::Bytea, -1);
                parser.push(Some(text))?;
                let parsed = parser.finish();
                match parsed.as_any().downcast_ref::<arrow::array::BinaryArray>() {
                    Some(parsed) => builder.append_value(parsed.value(0)),
                    None => return Err(PgError::internal("bytea was not read as bytes")),
                }
            }
            Builder::Other(parser) => parser.push(Some(text))?,
        }
        Ok(())
    }

    fn push_number(&mut self, text: &str) -> Result<(), PgError> {
        match &self.builder {
            // Some writers have no integers: 3.0 and 3e0 are 3.
            Builder::Int2(_) | Builder::Int4(_) | Builder::Int8(_) if text.contains(['.', 'e', 'E']) => {
                const EXACT_MAX: f64 = (1u64 << 53) as f64;
                match text.parse::<f64>() {
                    Ok(value) if value.fract() == 0.0 && value.abs() <= EXACT_MAX => {
                        self.push_text(&(value as i64).to_string())
                    }
                    _ => self.push_text(text),
                }
            }
            // A number is no bool, though PostgreSQL reads the text '1' as one.
            Builder::Bool(_) => Err(self.wrong("number", text)),
            _ => self.push_text(text),
        }
    }

    fn push_bool(&mut self, value: bool) -> Result<(), PgError> {
        let text = if value { "true" } else { "false" };
        if self.is_json() {
            return self.push_text(text);
        }
        match &mut self.builder {
            Builder::Bool(builder) => builder.append_value(value),
            Builder::Text(builder) => builder.append_value(text),
            _ => return Err(self.wrong("boolean", text)),
        }
        Ok(())
    }

    fn push_nested(&mut self, raw: &str) -> Result<(), PgError> {
        match &self.sql_type {
            SqlType::Json | SqlType::Jsonb | SqlType::Text => {
                if !json::is_valid(raw) {
                    return Err(broken("JSON value"));
                }
                self.push_text(raw)
            }
            SqlType::Array(_) => {
                let mut text = String::new();
                array_literal(raw, &mut text, 0).ok_or_else(|| self.wrong("value", raw))?;
                self.push_text(&text)
            }
            _ => Err(self.wrong(if raw.starts_with('{') { "object" } else { "array" }, raw)),
        }
    }

    fn wrong(&self, what: &str, text: &str) -> PgError {
        let shown: String = text.chars().take(60).collect();
        let message = format!("cannot read the JSON {what} {shown} as {}", self.sql_type.sql_name());
        PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
    }

    pub(super) fn push_null(&mut self) {
        match &mut self.builder {
            Builder::Bool(builder) => builder.append_null(),
            Builder::Int2(builder) => builder.append_null(),
            Builder::Int4(builder) => builder.append_null(),
            Builder::Int8(builder) => builder.append_null(),
            Builder::Float8(builder) => builder.append_null(),
            Builder::Text(builder) => builder.append_null(),
            Builder::Bytea(builder) => builder.append_null(),
            Builder::Timestamp(builder) | Builder::Timestamptz(builder) => builder.append_null(),
            Builder::Other(parser) => {
                let pushed = parser.push(None);
                debug_assert!(pushed.is_ok(), "NULL is of every type");
            }
        }
    }

    /// The bytes themselves, into a `bytea` column; NULL into any other.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        match &mut self.builder {
            Builder::Bytea(builder) => builder.append_value(bytes),
            _ => self.push_null(),
        }
    }

    /// Says which column an error is of.
    pub(super) fn locate(&self, error: PgError) -> PgError {
        match error.detail {
            Some(_) => error,
            None => error.with_detail(format!("Column \"{}\".", self.name)),
        }
    }

    /// The values so far; starts over, with room for as much again: growing a buffer copies it again and again.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Text(builder) => {
                let (row_count, byte_count) = (builder.len(), builder.values_slice().len());
                let next = StringBuilder::with_capacity(row_count, byte_count + byte_count / 16);
                Arc::new(std::mem::replace(builder, next).finish())
            }
            Builder::Int8(builder) => {
                let next = Int64Builder::with_capacity(builder.len());
                Arc::new(std::mem::replace(builder, next).finish())
            }
            Builder::Bool(builder) => Arc::new(builder.finish()),
            Builder::Int2(builder) => Arc::new(builder.finish()),
            Builder::Int4(builder) => Arc::new(builder.finish()),
            Builder::Float8(builder) => Arc::new(builder.finish()),
            Builder::Bytea(builder) => Arc::new(builder.finish()),
            Builder::Timestamp(builder) => Arc::new(builder.finish()),
            Builder::Timestamptz(builder) => Arc::new(builder.finish()),
            Builder::Other(parser) => parser.finish(),
        }
    }
}

fn zero_byte() -> PgError {
    PgError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\": 0x00")
}

pub(super) fn broken(what: &str) -> PgError {
    PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("invalid {what}"))
}

/// Decimal digits with a sign or none, too few to overflow.
#[inline]
fn plain_integer(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + digit as i64;
    }
    Some(if negative { -value } else { value })
}

/// A finite decimal number; not one so small that reading it lost it, which is an error.
#[inline]
fn plain_float(text: &str) -> Option<f64> {
    let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E');
    if text.is_empty() || !text.as_bytes().iter().all(plain) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_normal() || !text.bytes().any(|byte| matches!(byte, b'1'..=b'9')))
}

/// `2013-01-31 05:00[:00[.123456]]`, with a `T` between or a date alone, and what comes after it. Years of four digits.
#[inline]
fn iso_timestamp(text: &str) -> Option<(i64, &str)> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let mut value = 0i64;
        for byte in bytes.get(from..to)? {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + digit as i64;
        }
        Some(value)
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if bytes[4] != b'-' || bytes[7] != b'-' || year == 0 || !(1..=12).contains(&month) {
        return None;
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if bytes.len() == 10 {
        return Some((days * 86_400_000_000, ""));
    }
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    if !matches!(bytes[10], b' ' | b'T') || bytes[13] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut end = 16;
    let (mut second, mut micros) = (0, 0);
    if bytes.get(16) == Some(&b':') {
        second = number(17, 19)?;
        end = 19;
        if second > 59 {
            return None;
        }
        if bytes.get(19) == Some(&b'.') {
            let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > 6 {
                return None;
            }
            end = 20 + digits;
            micros = number(20, end)? * 10i64.pow(6 - digits as u32);
        }
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds * 1_000_000 + micros, text.get(end..)?))
}

/// The text that the inside of a JSON string stands for.
pub(super) fn unescape(raw: &str, out: &mut String) -> Result<(), PgError> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).ok_or_else(|| broken("JSON escape"))?;
        let mut length = 2;
        match escape {
            b'"' => out.push('"'),
            b'\\' => out.push('\\'),
            b'/' => out.push('/'),
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let (character, used) = unicode_escape(&rest[at..]).ok_or_else(|| broken("JSON escape"))?;
                if character == '\0' {
                    return Err(PgError::new(
                        SqlState::UNTRANSLATABLE_CHARACTER,
                        "\\u0000 cannot be converted to text",
                    ));
                }
                out.push(character);
                length = used;
            }
            _ => return Err(broken("JSON escape")),
        }
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    Ok(())
}

/// The character that `\uXXXX`, or a pair of surrogates so written, stands for, and how long it is.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |from: usize| -> Option<u32> {
        if text.as_bytes().get(from..from + 2)? != b"\\u" {
            return None;
        }
        let digits = text.get(from + 2..from + 6)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if plain { u32::from_str_radix(digits, 16).ok() } else { None }
    };
    match unit(0)? {
        high @ 0xD800..=0xDBFF => match unit(6)? {
            low @ 0xDC00..=0xDFFF => Some((char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))?, 12)),
            _ => None,
        },
        unit => Some((char::from_u32(unit)?, 6)),
    }
}

/// A JSON array in PostgreSQL's spelling of arrays. None where it is not one.
fn array_literal(raw: &str, out: &mut String, depth: usize) -> Option<()> {
    const DIMENSIONS_MAX: usize = 6;
    if depth == DIMENSIONS_MAX {
        return None;
    }
    out.push('{');
    for (index, element) in json::elements(raw)?.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let element = element.trim();
        if element.starts_with('[') {
            array_literal(element, out, depth + 1)?;
            continue;
        }
        match json::as_text(element) {
            None => out.push_str("NULL"),
            Some(text) => {
                out.push('"');
                for character in text.chars() {
                    if matches!(character, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(character);
                }
                out.push('"');
            }
        }
    }
    out.push('}');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_ways_agree_with_the_slow() {
        for text in ["0", "-1", "42", "999999999999999999", "-999999999999999999"] {
            assert_eq!(plain_integer(text), Some(parse_integer(text, i64::MIN, i64::MAX, "bigint").unwrap()), "{text}");
        }
        for text in ["", "-", "+1", " 1", "1 ", "1.0", "9999999999999999999", "١"] {
            assert_eq!(plain_integer(text), None, "{text}");
        }
        for text in ["0", "-0", "1.5", "-1e10", ".5", "5.", "1e-5", "0e0"] {
            let fast = plain_float(text).unwrap();
            assert_eq!(fast.to_bits(), parse_float(text, "double precision").unwrap().to_bits(), "{text}");
        }
        for text in ["", "inf", "NaN", "1e999", "1e-999", " 1", "0x10", "e"] {
            assert_eq!(plain_float(text), None, "{text}");
        }
        for text in [
            "2013-01-01 05:00:00",
            "2000-02-29T23:59:59.5",
            "1969-12-31 23:59",
            "0001-01-01",
            "2020-06-30 01:02:03.123456",
        ] {
            let (fast, rest) = iso_timestamp(text).unwrap();
            assert_eq!((fast, rest), (datetime::parse_timestamp(text).unwrap(), ""), "{text}");
        }
        assert_eq!(iso_timestamp("2013-01-01T05:00:00Z").unwrap().1, "Z");
        for text in [
            "2013-02-29",
            "2013-13-01",
            "2013-1-1",
            "2013-01-01 24:00:00",
            "0000-01-01",
            "2013-01-01x05:00",
            "2013-01-0é",
        ] {
            assert_eq!(iso_timestamp(text).filter(|(_, rest)| rest.is_empty()), None, "{text}");
        }
    }

    #[test]
    fn escapes_and_surrogates() {
        let text = |raw: &str| {
            let mut out = String::new();
            unescape(raw, &mut out).map(|()| out)
        };
        assert_eq!(text(r#"a\n\"\u00e9\ud83d\ude00b"#).unwrap(), "a\n\"é😀b");
        for raw in [r"\", r"\x", r"\u12", r"\ud83d", r"\ud83dA", r"\u+123", r"\u0000", "\\u12é"] {
            assert!(text(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn arrays_keep_their_elements() {
        let literal = |raw: &str| {
            let mut out = String::new();
            array_literal(raw, &mut out, 0).map(|()| out)
        };
        assert_eq!(literal(r#"[1, null, "a\"b"]"#).unwrap(), r#"{"1",NULL,"a\"b"}"#);
        assert_eq!(literal("[[1],[2]]").unwrap(), r#"{{"1"},{"2"}}"#);
        assert_eq!(literal("{}"), None);
    }
}
