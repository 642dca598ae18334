//! Reads text into Arrow columns, with PostgreSQL's input syntax and error messages.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;

use super::{FormatOptions, TimeZone, datetime, interval, json, vector};
use crate::numeric::Numeric;
use crate::types::{SqlType, Storage};
use crate::{PgError, SqlState};

/// Collects one column from texts, value by value.
pub struct ColumnParser {
    sql_type: SqlType,
    typmod: i32,
    timezone: TimeZone,
    builder: Builder,
    scratch: Vec<u8>,
}

enum Builder {
    Bool(BooleanBuilder),
    Bytea(BinaryBuilder),
    Int2(PrimitiveBuilder<Int16Type>),
    Int4(PrimitiveBuilder<Int32Type>),
    Int8(PrimitiveBuilder<Int64Type>),
    Oid(PrimitiveBuilder<UInt32Type>),
    Float4(PrimitiveBuilder<Float32Type>),
    Float8(PrimitiveBuilder<Float64Type>),
    Numeric(LargeBinaryBuilder),
    Text(StringBuilder),
    Json(LargeStringBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
    Uuid(FixedSizeBinaryBuilder),
    Vector(ListBuilder<Float32Builder>),
    /// The elements, where each list ends, and which lists are not NULL.
    Array(Box<ColumnParser>, Vec<i32>, BooleanBufferBuilder),
}

fn syntax(type_name: &str, text: &str) -> PgError {
    PgError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

/// The number of characters a typmod of varchar or char allows.
pub fn char_length_typmod(typmod: i32) -> Option<usize> {
    (typmod >= 4).then(|| (typmod - 4) as usize)
}

pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

/// Reads an integer between `min` and `max`. Errors `22P02`, `22003`.
pub fn parse_integer(text: &str, min: i64, max: i64, type_name: &str) -> Result<i64, PgError> {
    let trimmed = trim(text);
    let (negative, digits) = match trimmed.as_bytes() {
        [b'-', ..] => (true, &trimmed[1..]),
        [b'+', ..] => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax(type_name, text));
    }
    let value = digits.bytes().try_fold(0i64, |sum, byte| {
        let digit = (byte - b'0') as i64;
        sum.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    });
    value.filter(|value| (min..=max).contains(value)).ok_or_else(|| {
        PgError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type {type_name}"),
        )
    })
}

/// Reads a double. Errors `22P02`, `22003`.
pub fn parse_float(text: &str, type_name: &str) -> Result<f64, PgError> {
    let trimmed = trim(text);
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return match unsigned.to_ascii_lowercase().as_str() {
            "nan" => Ok(f64::NAN),
            "inf" | "infinity" if trimmed.starts_with('-') => Ok(f64::NEG_INFINITY),
            "inf" | "infinity" => Ok(f64::INFINITY),
            _ => Err(syntax(type_name, text)),
        };
    }
    let value: f64 = trimmed.parse().map_err(|_| syntax(type_name, text))?;
    let mantissa_is_zero =
        || !unsigned.split(['e', 'E']).next().unwrap_or_default().contains(|c| matches!(c, '1'..='9'));
    if value.is_infinite() || (value == 0.0 && !mantissa_is_zero()) {
        return Err(float_range(trimmed, type_name));
    }
    Ok(value)
}

fn float_range(text: &str, type_name: &str) -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{text}\" is out of range for type {type_name}"))
}

fn parse_real(text: &str) -> Result<f32, PgError> {
    let wide = parse_float(text, "real")?;
    // Rounding twice could differ from rounding the text once.
    let value = if wide.is_finite() { trim(text).parse().unwrap_or(wide as f32) } else { wide as f32 };
    if (value.is_infinite() && wide.is_finite()) || (value == 0.0 && wide != 0.0) {
        return Err(float_range(trim(text), "real"));
    }
    Ok(value)
}

/// Reads a boolean: `true`, `yes`, `on`, `1` and their opposites, shortened as far as unique. Error `22P02`.
pub fn parse_bool(text: &str) -> Result<bool, PgError> {
    let word = trim(text).to_ascii_lowercase();
    let is = |full: &str, min: usize| word.len() >= min && full.starts_with(&word);
    if is("true", 1) || is("yes", 1) || word == "on" || word == "1" {
        Ok(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(syntax("boolean", text))
    }
}

fn parse_bytea(text: &str) -> Result<Vec<u8>, PgError> {
    let invalid = |message: String| PgError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    if let Some(hex) = text.strip_prefix("\\x") {
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        let mut high = None;
        for c in hex.chars() {
            let Some(digit) = c.to_digit(16) else {
                if c.is_ascii_whitespace() && high.is_none() {
                    continue;
                }
                return Err(invalid(format!("invalid hexadecimal digit: \"{c}\"")));
            };
            match high.take() {
                None => high = Some(digit as u8),
                Some(first) => bytes.push(first << 4 | digit as u8),
            }
        }
        if high.is_some() {
            return Err(invalid("invalid hexadecimal data: odd number of digits".to_string()));
        }
        return Ok(bytes);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', ..] => {
                bytes.push(b'\\');
                rest = &rest[2..];
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &rest[4..];
            }
            [b'\\', ..] => {
                return Err(PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type bytea"));
            }
            [byte, ..] => {
                bytes.push(*byte);
                rest = &rest[1..];
            }
        }
    }
}

fn parse_uuid(text: &str) -> Result<[u8; 16], PgError> {
    let invalid = || syntax("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(body) => body.strip_suffix('}').ok_or_else(invalid)?,
        None => text,
    };
    let mut bytes = [0u8; 16];
    let mut count = 0usize;
    let mut after_dash = true;
    for c in body.chars() {
        // A dash may follow any group of four digits.
        if c == '-' {
            if after_dash || !count.is_multiple_of(4) || count == 32 {
                return Err(invalid());
            }
            after_dash = true;
            continue;
        }
        let digit = c.to_digit(16).filter(|_| count < 32).ok_or_else(invalid)?;
        bytes[count / 2] = bytes[count / 2] << 4 | digit as u8;
        count += 1;
        after_dash = false;
    }
    if count == 32 { Ok(bytes) } else { Err(invalid()) }
}

/// Cuts or pads a string to what `type(n)` stores; more than blanks beyond the length is an error `22001`.
fn fit_length(text: &str, sql_type: &SqlType, typmod: i32) -> Result<String, PgError> {
    let Some(length) = char_length_typmod(typmod) else { return Ok(text.to_string()) };
    let mut ends = text.char_indices().skip(length);
    if let Some((end, _)) = ends.next() {
        if text[end..].chars().any(|c| c != ' ') {
            return Err(PgError::new(
                SqlState::STRING_DATA_RIGHT_TRUNCATION,
                format!("value too long for type {}({length})", sql_type.sql_name()),
            ));
        }
        return Ok(text[..end].to_string());
    }
    match sql_type {
        SqlType::Bpchar => {
            let missing = length - text.chars().count();
            Ok(format!("{text}{}", " ".repeat(missing)))
        }
        _ => Ok(text.to_string()),
    }
}

fn round_to_precision(micros: i64, typmod: i32) -> i64 {
    if !(0..6).contains(&typmod) || super::calendar::is_infinite(micros) {
        return micros;
    }
    let unit = 10i64.pow(6 - typmod as u32);
    let half = unit / 2;
    if micros >= 0 { (micros + half) / unit * unit } else { -((half - micros) / unit * unit) }
}

impl ColumnParser {
    /// A parser for columns of this type and modifier; timestamptz without a zone is taken as UTC.
    pub fn new(sql_type: &SqlType, typmod: i32) -> ColumnParser {
        ColumnParser::new_in(sql_type, typmod, &FormatOptions::default())
    }

    /// [`ColumnParser::new`] under a session's settings.
    pub fn new_in(sql_type: &SqlType, typmod: i32, options: &FormatOptions) -> ColumnParser {
        let builder = match sql_type.storage() {
            Storage::Bool => Builder::Bool(BooleanBuilder::new()),
            Storage::Bytea => Builder::Bytea(BinaryBuilder::new()),
            Storage::Int2 => Builder::Int2(PrimitiveBuilder::new()),
            Storage::Int4 => Builder::Int4(PrimitiveBuilder::new()),
            Storage::Int8 => Builder::Int8(PrimitiveBuilder::new()),
            Storage::Oid => Builder::Oid(PrimitiveBuilder::new()),
            Storage::Float4 => Builder::Float4(PrimitiveBuilder::new()),
            Storage::Float8 => Builder::Float8(PrimitiveBuilder::new()),
            Storage::Numeric => Builder::Numeric(LargeBinaryBuilder::new()),
            Storage::Text => Builder::Text(StringBuilder::new()),
            Storage::Json | Storage::Jsonb => Builder::Json(LargeStringBuilder::new()),
            Storage::Date => Builder::Date(PrimitiveBuilder::new()),
            Storage::Time => Builder::Time(PrimitiveBuilder::new()),
            Storage::Timestamp => Builder::Timestamp(PrimitiveBuilder::new()),
            Storage::Timestamptz => Builder::Timestamp(PrimitiveBuilder::new().with_timezone("UTC")),
            Storage::Interval => Builder::Interval(PrimitiveBuilder::new()),
            Storage::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::new(16)),
            Storage::Vector => {
                Builder::Vector(ListBuilder::new(Float32Builder::new()).with_field(vector::vector_field()))
            }
            Storage::List(element) => Builder::Array(
                Box::new(ColumnParser::new_in(element, typmod, options)),
                vec![0],
                BooleanBufferBuilder::new(0),
            ),
        };
        let (sql_type, timezone) = (sql_type.clone(), options.timezone.clone());
        ColumnParser { sql_type, typmod, timezone, builder, scratch: Vec::new() }
    }

    /// Adds one value, None being NULL. After an error nothing was added. Errors are those of the type's input syntax.
    pub fn push(&mut self, text: Option<&str>) -> Result<(), PgError> {
        let Some(text) = text else {
            self.push_null();
            return Ok(());
        };
        let typmod = self.typmod;
        match &mut self.builder {
            Builder::Bool(builder) => builder.append_value(parse_bool(text)?),
            Builder::Bytea(builder) => builder.append_value(parse_bytea(text)?),
            Builder::Int2(builder) => {
                builder.append_value(parse_integer(text, i16::MIN as i64, i16::MAX as i64, "smallint")? as i16);
            }
            Builder::Int4(builder) => {
                builder.append_value(parse_integer(text, i32::MIN as i64, i32::MAX as i64, "integer")? as i32);
            }
            Builder::Int8(builder) => builder.append_value(parse_integer(text, i64::MIN, i64::MAX, "bigint")?),
            Builder::Oid(builder) => builder.append_value(parse_integer(text, 0, u32::MAX as i64, "oid")? as u32),
            Builder::Float4(builder) => builder.append_value(parse_real(text)?),
            Builder::Float8(builder) => builder.append_value(parse_float(text, "double precision")?),
            Builder::Numeric(builder) => {
                self.scratch.clear();
                Numeric::parse(text)?.apply_typmod(typmod)?.encode_into(&mut self.scratch);
                builder.append_value(&self.scratch);
            }
            Builder::Text(builder) => match (&self.sql_type, typmod) {
                (SqlType::Varchar | SqlType::Bpchar, 4..) => {
                    builder.append_value(fit_length(text, &self.sql_type, typmod)?)
                }
                (SqlType::Name, _) => builder.append_value(&text[..text.floor_char_boundary(63)]),
                (SqlType::Char, _) => builder.append_value(text.get(..1).unwrap_or_default()),
                _ => builder.append_value(text),
            },
            Builder::Json(builder) => {
                let invalid =
                    || PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json");
                if self.sql_type == SqlType::Jsonb {
                    builder.append_value(json::canonical(text).ok_or_else(invalid)?);
                } else if json::is_valid(text) {
                    builder.append_value(text);
                } else {
                    return Err(invalid());
                }
            }
            Builder::Date(builder) => builder.append_value(datetime::parse_date(text)?),
            Builder::Time(builder) => builder.append_value(round_to_precision(datetime::parse_time(text)?, typmod)),
            Builder::Timestamp(builder) => {
                let value = match self.sql_type {
                    SqlType::Timestamptz => datetime::parse_timestamptz(text, &self.timezone)?,
                    _ => datetime::parse_timestamp(text)?,
                };
                builder.append_value(round_to_precision(value, typmod));
            }
            Builder::Interval(builder) => {
                builder.append_value(interval::parse_interval(text, typmod)?.to_arrow()?);
            }
            Builder::Uuid(builder) => {
                // The width is the builder's own, so this cannot fail.
                builder.append_value(parse_uuid(text)?).map_err(|error| PgError::internal(error.to_string()))?;
            }
            Builder::Vector(builder) => {
                let elements = vector::parse_vector(text, typmod)?;
                builder.values().append_slice(&elements);
                builder.append(true);
            }
            Builder::Array(elements, ends, valid) => {
                let texts = match &self.sql_type {
                    SqlType::Array(_) => split_array(text)?,
                    _ => text.split_ascii_whitespace().map(|element| Some(element.to_string())).collect(),
                };
                let parsed: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
                // All elements are read before any is kept, so that an error leaves the column as it was.
                for element in &parsed {
                    if element.is_some() {
                        let mut probe = ColumnParser::new(&elements.sql_type, elements.typmod);
                        probe.timezone = elements.timezone.clone();
                        probe.push(*element)?;
                    }
                }
                for element in parsed {
                    elements.push(element)?;
                }
                let last = ends.last().copied().unwrap_or(0);
                ends.push(last + texts.len() as i32);
                valid.append(true);
            }
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.builder {
            Builder::Bool(builder) => builder.append_null(),
            Builder::Bytea(builder) => builder.append_null(),
            Builder::Int2(builder) => builder.append_null(),
            Builder::Int4(builder) => builder.append_null(),
            Builder::Int8(builder) => builder.append_null(),
            Builder::Oid(builder) => builder.append_null(),
            Builder::Float4(builder) => builder.append_null(),
            Builder::Float8(builder) => builder.append_null(),
            Builder::Numeric(builder) => builder.append_null(),
            Builder::Text(builder) => builder.append_null(),
            Builder::Json(builder) => builder.append_null(),
            Builder::Date(builder) => builder.append_null(),
            Builder::Time(builder) => builder.append_null(),
            Builder::Timestamp(builder) => builder.append_null(),
            Builder::Interval(builder) => builder.append_null(),
            Builder::Uuid(builder) => builder.append_null(),
            Builder::Vector(builder) => builder.append_null(),
            Builder::Array(_, ends, valid) => {
                ends.push(ends.last().copied().unwrap_or(0));
                valid.append(false);
            }
        }
    }

    /// The column of all values added so far; the parser starts again empty.
    pub fn finish(&mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Bool(builder) => Arc::new(builder.finish()),
            Builder::Bytea(builder) => Arc::new(builder.finish()),
            Builder::Int2(builder) => Arc::new(builder.finish()),
            Builder::Int4(builder) => Arc::new(builder.finish()),
            Builder::Int8(builder) => Arc::new(builder.finish()),
            Builder::Oid(builder) => Arc::new(builder.finish()),
            Builder::Float4(builder) => Arc::new(builder.finish()),
            Builder::Float8(builder) => Arc::new(builder.finish()),
            Builder::Numeric(builder) => Arc::new(builder.finish()),
            Builder::Text(builder) => Arc::new(builder.finish()),
            Builder::Json(builder) => Arc::new(builder.finish()),
            Builder::Date(builder) => Arc::new(builder.finish()),
            Builder::Time(builder) => Arc::new(builder.finish()),
            Builder::Timestamp(builder) => Arc::new(builder.finish()),
            Builder::Interval(builder) => Arc::new(builder.finish()),
            Builder::Uuid(builder) => Arc::new(builder.finish()),
            Builder::Vector(builder) => Arc::new(builder.finish()),
            Builder::Array(elements, ends, valid) => {
                let values = elements.finish();
                let offsets = arrow::buffer::OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                let nulls = arrow::buffer::NullBuffer::new(valid.finish());
                let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
                Arc::new(ListArray::new(field, offsets, values, Some(nulls)))
            }
        }
    }
}

/// The elements of a one-dimensional array literal; None is NULL. Error `22P02`.
fn split_array(text: &str) -> Result<Vec<Option<String>>, PgError> {
    let malformed =
        || PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""));
    let body = trim(text).strip_prefix('{').and_then(|body| body.strip_suffix('}')).ok_or_else(malformed)?;
    let mut elements = Vec::new();
    if trim(body).is_empty() {
        return Ok(elements);
    }
    let mut rest = body;
    loop {
        rest = rest.trim_start();
        let mut element = String::new();
        let quoted = rest.starts_with('"');
        let mut chars = rest.char_indices().skip(quoted as usize);
        let mut kept = 0;
        let end = loop {
            match chars.next() {
                Some((_, '\\')) => {
                    element.push(chars.next().ok_or_else(malformed)?.1);
                    kept = element.len();
                }
                Some((at, '"')) if quoted => break at + 1,
                Some((at, ',')) if !quoted => break at,
                Some((_, '"')) => return Err(malformed()),
                Some((_, '{')) if !quoted => return Err(PgError::unsupported("an array of more than one dimension")),
                Some((_, '}')) if !quoted => return Err(malformed()),
                Some((_, c)) => {
                    element.push(c);
                    if !c.is_ascii_whitespace() {
                        kept = element.len();
                    }
                }
                None if quoted => return Err(malformed()),
                None => break rest.len(),
            }
        };
        if !quoted {
            element.truncate(kept);
            if element.is_empty() {
                return Err(malformed());
            }
        }
        let null = !quoted && element.eq_ignore_ascii_case("null");
        elements.push((!null).then_some(element));
        rest = rest[end..].trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(elements),
            None => return Err(malformed()),
        }
    }
}

/// Reads a whole column; None is NULL. The error comes with the index of the value it is about.
pub fn parse_column<'a>(
    sql_type: &SqlType,
    typmod: i32,
    values: impl IntoIterator<Item = Option<&'a str>>,
) -> Result<ArrayRef, (usize, PgError)> {
    let mut parser = ColumnParser::new(sql_type, typmod);
    for (row, value) in values.into_iter().enumerate() {
        parser.push(value).map_err(|error| (row, error))?;
    }
    Ok(parser.finish())
}

/// Reads one value as an array of length 1.
pub fn parse_scalar(sql_type: &SqlType, typmod: i32, text: &str) -> Result<ArrayRef, PgError> {
    let mut parser = ColumnParser::new(sql_type, typmod);
    parser.push(Some(text))?;
    Ok(parser.finish())
}
