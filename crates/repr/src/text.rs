//! Values as text, the way PostgreSQL prints and reads them: the one place for it, used by casts, COPY, the wire protocol and
//! the CSV and JSON formats.
//!
//! Printing follows PostgreSQL's defaults (`DateStyle` ISO, `IntervalStyle` postgres, `bytea_output` hex,
//! `extra_float_digits` 1). Only timestamptz depends on the session, through [`FormatOptions::timezone`].

pub mod calendar;
pub mod datetime;
pub mod interval;
pub mod json;
mod parse;
pub mod vector;

use std::fmt::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;

pub use calendar::TimeZone;
pub use parse::{ColumnParser, char_length_typmod, parse_bool, parse_column, parse_float, parse_integer, parse_scalar};

use crate::numeric::Numeric;
use crate::types::{SqlType, Storage};

/// Says what has an OID: how `regclass` and its kin are printed.
pub trait Names: fmt::Debug + Send + Sync {
    /// What `oid` is printed as under `sql_type`, one of those that [`SqlType::is_registered`].
    fn name(&self, sql_type: &SqlType, oid: u32) -> String;
}

/// What of the session shows in printed and read values.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Where timestamptz is shown, and read when the text names no zone.
    pub timezone: TimeZone,
    /// How `regclass` and its kin are printed; as numbers without it.
    pub names: Option<Arc<dyn Names>>,
}

impl Default for FormatOptions {
    fn default() -> FormatOptions {
        FormatOptions { timezone: TimeZone::UTC, names: None }
    }
}

/// Appends the value of `row` as PostgreSQL prints it, timestamptz in UTC. The value is not NULL: that is the caller's to show.
///
/// `array` has the type [`SqlType::arrow`] of `sql_type`; panics otherwise.
pub fn format_value(array: &dyn Array, row: usize, sql_type: &SqlType, out: &mut String) {
    format_value_in(array, row, sql_type, out, &FormatOptions::default());
}

/// [`format_value`] under a session's settings.
pub fn format_value_in(array: &dyn Array, row: usize, sql_type: &SqlType, out: &mut String, options: &FormatOptions) {
    // Writing into a String cannot fail, hence the ignored results.
    match sql_type.storage() {
        Storage::Bool => out.push(if array.as_boolean().value(row) { 't' } else { 'f' }),
        Storage::Bytea => format_bytea(array.as_binary::<i32>().value(row), out),
        Storage::Int2 => _ = write!(out, "{}", array.as_primitive::<Int16Type>().value(row)),
        Storage::Int4 => _ = write!(out, "{}", array.as_primitive::<Int32Type>().value(row)),
        Storage::Int8 => _ = write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
        Storage::Oid => {
            let oid = array.as_primitive::<UInt32Type>().value(row);
            match &options.names {
                Some(names) if sql_type.is_registered() => out.push_str(&names.name(sql_type, oid)),
                _ => _ = write!(out, "{oid}"),
            }
        }
        Storage::Float4 => format_float4(array.as_primitive::<Float32Type>().value(row), out),
        Storage::Float8 => format_float8(array.as_primitive::<Float64Type>().value(row), out),
        Storage::Numeric => _ = write!(out, "{}", Numeric::decode(array.as_binary::<i64>().value(row))),
        Storage::Text => {
            out.push_str(array.as_string::<i32>().value(row));
        }
        Storage::Json | Storage::Jsonb => out.push_str(array.as_string::<i64>().value(row)),
        Storage::Date => datetime::format_date(array.as_primitive::<Date32Type>().value(row), out),
        Storage::Time => datetime::format_time(array.as_primitive::<Time64MicrosecondType>().value(row), out),
        Storage::Timestamp => {
            datetime::format_timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row), out);
        }
        Storage::Timestamptz => {
            let instant = array.as_primitive::<TimestampMicrosecondType>().value(row);
            datetime::format_timestamptz(instant, &options.timezone, out);
        }
        Storage::Interval => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            interval::format_interval(interval::Interval::from_arrow(value), out);
        }
        Storage::Uuid => format_uuid(array.as_fixed_size_binary().value(row), out),
        Storage::Vector => {
            let elements = array.as_list::<i32>().value(row);
            vector::format_vector(elements.as_primitive::<Float32Type>().values(), out);
        }
        Storage::List(element) if sql_type.is_catalog_vector() => {
            let elements = array.as_list::<i32>().value(row);
            for index in 0..elements.len() {
                if index > 0 {
                    out.push(' ');
                }
                format_value_in(&elements, index, element, out, options);
            }
        }
        Storage::List(element) => format_array(&array.as_list::<i32>().value(row), element, out, options),
    }
}

/// Appends a double in its shortest exact form, as PostgreSQL prints it.
pub fn format_float8(value: f64, out: &mut String) {
    format_shortest(value.is_nan(), value.is_infinite(), value < 0.0, &format!("{value:e}"), 15, out);
}

/// Appends a real in its shortest exact form, as PostgreSQL prints it.
pub fn format_float4(value: f32, out: &mut String) {
    format_shortest(value.is_nan(), value.is_infinite(), value < 0.0, &format!("{value:e}"), 6, out);
}

/// `scientific` is Rust's shortest form `d.ddde-x`; PostgreSQL shows exponents from `fixed_digits` up and below -4 as such.
fn format_shortest(nan: bool, infinite: bool, negative: bool, scientific: &str, fixed_digits: i32, out: &mut String) {
    if nan {
        return out.push_str("NaN");
    }
    if infinite {
        return out.push_str(if negative { "-Infinity" } else { "Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if unsigned.len() < mantissa.len() {
        out.push('-');
    }
    if !(-4..fixed_digits).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing into a String cannot fail.
        let _ = write!(out, "{unsigned}e{sign}{:02}", exponent.abs());
        return;
    }
    let digits = unsigned.replace('.', "");
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
        out.push_str(&digits);
        return;
    }
    let integer_length = exponent as usize + 1;
    if digits.len() <= integer_length {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', integer_length - digits.len()));
    } else {
        out.push_str(&digits[..integer_length]);
        out.push('.');
        out.push_str(&digits[integer_length..]);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as lower-case hexadecimal digits.
pub fn push_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push(HEX[(byte >> 4) as usize] as char);
        out.push(HEX[(byte & 15) as usize] as char);
    }
}

fn format_bytea(bytes: &[u8], out: &mut String) {
    out.push_str("\\x");
    push_hex(bytes, out);
}

fn format_uuid(bytes: &[u8], out: &mut String) {
    for (index, chunk) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if index > 0 {
            out.push('-');
        }
        push_hex(&bytes[chunk], out);
    }
}

fn format_array(elements: &ArrayRef, element_type: &SqlType, out: &mut String, options: &FormatOptions) {
    out.push('{');
    let mut text = String::new();
    for row in 0..elements.len() {
        if row > 0 {
            out.push(',');
        }
        if elements.is_null(row) {
            out.push_str("NULL");
            continue;
        }
        text.clear();
        format_value_in(elements, row, element_type, &mut text, options);
        let needs_quotes = text.is_empty()
            || text.eq_ignore_ascii_case("null")
            || text.contains(|c: char| {
                matches!(c, '"' | '\\' | '{' | '}' | ',') || c.is_ascii_whitespace() || c == '\x0b'
            });
        if needs_quotes {
            out.push('"');
            for c in text.chars() {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push('"');
        } else {
            out.push_str(&text);
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(sql_type: SqlType, text: &str) -> String {
        let array = match parse_scalar(&sql_type, -1, text) {
            Ok(array) => array,
            Err(error) => return error.message,
        };
        let mut out = String::new();
        format_value(&array, 0, &sql_type, &mut out);
        out
    }

    #[test]
    fn values_print_as_postgres_prints_them() {
        for (sql_type, text, expected) in [
            (SqlType::Bool, " TRUE ", "t"),
            (SqlType::Bool, "of", "f"),
            (SqlType::Bool, "o", "invalid input syntax for type boolean: \"o\""),
            (SqlType::Int4, " -12 ", "-12"),
            (SqlType::Int4, "x", "invalid input syntax for type integer: \"x\""),
            (SqlType::Int4, "", "invalid input syntax for type integer: \"\""),
            (SqlType::Int4, "2147483648", "value \"2147483648\" is out of range for type integer"),
            (SqlType::Int2, "99999999999999999999", "value \"99999999999999999999\" is out of range for type smallint"),
            (SqlType::Float8, "0.1", "0.1"),
            (SqlType::Float8, "1e15", "1e+15"),
            (SqlType::Float8, "123456789012345", "123456789012345"),
            (SqlType::Float8, "1234567890123456", "1.234567890123456e+15"),
            (SqlType::Float8, "0.0001", "0.0001"),
            (SqlType::Float8, "0.00001", "1e-05"),
            (SqlType::Float8, "-0", "-0"),
            (SqlType::Float8, "-inf", "-Infinity"),
            (SqlType::Float8, "nan", "NaN"),
            (SqlType::Float8, "1e400", "\"1e400\" is out of range for type double precision"),
            (SqlType::Float8, "1x", "invalid input syntax for type double precision: \"1x\""),
            (SqlType::Float4, "1234567", "1.234567e+06"),
            (SqlType::Float4, "123456", "123456"),
            (SqlType::Float4, "0.1", "0.1"),
            (SqlType::Numeric, "1.500", "1.500"),
            (SqlType::Bytea, "\\xDEADbeef", "\\xdeadbeef"),
            (SqlType::Bytea, "a\\\\b\\001", "\\x615c6201"),
            (SqlType::Uuid, "{A0EEBC99-9C0B4EF8-BB6D-6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (SqlType::Uuid, "a0", "invalid input syntax for type uuid: \"a0\""),
            (SqlType::Json, "{\"b\":1}", "{\"b\":1}"),
            (SqlType::Jsonb, "{\"b\":1,\"a\":[1,2]}", "{\"a\": [1, 2], \"b\": 1}"),
            (SqlType::Json, "{b}", "invalid input syntax for type json"),
            (SqlType::Date, "2024-02-29", "2024-02-29"),
            (SqlType::Timestamptz, "2024-02-29 01:00+01", "2024-02-29 00:00:00+00"),
            (SqlType::Interval, "1 day 1 hour", "1 day 01:00:00"),
            (SqlType::Array(Box::new(SqlType::Int4)), "{1,NULL, 3 }", "{1,NULL,3}"),
            (
                SqlType::Array(Box::new(SqlType::Text)),
                "{\"a b\",c\\,,\"\",null,\"NULL\"}",
                "{\"a b\",\"c,\",\"\",NULL,\"NULL\"}",
            ),
            (SqlType::Array(Box::new(SqlType::Text)), "{}", "{}"),
            (SqlType::Vector, " [1, -0,2.50 ,1e-7] ", "[1,0,2.5,1e-07]"),
            (SqlType::Vector, "[]", "vector must have at least 1 dimension"),
            (SqlType::Vector, "[1,]", "invalid input syntax for type vector: \"[1,]\""),
            (SqlType::Vector, "[1,e]", "invalid input syntax for type vector: \"[1,e]\""),
            (SqlType::Vector, "{1,2}", "invalid input syntax for type vector: \"{1,2}\""),
            (SqlType::Vector, "[1e39]", "\"1e39\" is out of range for type vector"),
            (SqlType::Vector, "[1,nan]", "NaN not allowed in vector"),
            (SqlType::Vector, "[-inf]", "infinite value not allowed in vector"),
            (SqlType::Array(Box::new(SqlType::Int4)), "1,2", "malformed array literal: \"1,2\""),
        ] {
            assert_eq!(print(sql_type.clone(), text), expected, "{} {text:?}", sql_type.name());
        }
    }

    #[test]
    fn lengths_are_enforced() {
        let typmod = 3 + 4;
        let value = |sql_type: &SqlType, text: &str| parse_scalar(sql_type, typmod, text);
        assert_eq!(value(&SqlType::Varchar, "ab").unwrap().as_string::<i32>().value(0), "ab");
        assert_eq!(value(&SqlType::Varchar, "abc  ").unwrap().as_string::<i32>().value(0), "abc");
        assert_eq!(value(&SqlType::Bpchar, "a").unwrap().as_string::<i32>().value(0), "a  ");
        assert_eq!(
            value(&SqlType::Varchar, "abcd").unwrap_err().message,
            "value too long for type character varying(3)"
        );
    }

    #[test]
    fn a_column_reports_the_bad_row() {
        let (row, error) = parse_column(&SqlType::Int4, -1, [Some("1"), None, Some("x")]).unwrap_err();
        assert_eq!((row, error.message.as_str()), (2, "invalid input syntax for type integer: \"x\""));
        let column = parse_column(&SqlType::Int4, -1, [Some("1"), None]).unwrap();
        assert!(column.is_null(1));
    }
}
