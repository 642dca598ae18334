//! The kernels behind casts.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use repr::numeric::Numeric;
use repr::text::calendar::{self, DAY};
use repr::text::interval::Interval;
use repr::text::vector::is_vector;
use repr::text::{ColumnParser, char_length_typmod, format_value, json};
use repr::{PgError, SqlState, SqlType};

use super::arithmetic::{out_of_range, overflow, underflow};
use super::kernel::Call;

fn integer_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        _ => "bigint",
    }
}

/// Integers of the result's width, from a closure that gives any integer; None is out of range.
fn integers(call: &Call, mut compute: impl FnMut(usize) -> Result<Option<i64>, PgError>) -> Result<ArrayRef, PgError> {
    let name = integer_name(call.result());
    let mut wide = |row| compute(row)?.ok_or_else(|| out_of_range(name));
    match call.result() {
        DataType::Int16 => call.map::<Int16Type>(|row| i16::try_from(wide(row)?).map_err(|_| out_of_range(name))),
        DataType::Int32 => call.map::<Int32Type>(|row| i32::try_from(wide(row)?).map_err(|_| out_of_range(name))),
        _ => call.map::<Int64Type>(wide),
    }
}

/// Reads any integer argument as i64.
fn integer_argument<'a>(call: &'a Call) -> Box<dyn Fn(usize) -> i64 + 'a> {
    match call.argument(0).0.data_type() {
        DataType::Int16 => {
            let values = call.primitive::<Int16Type>(0);
            Box::new(move |row| values.get(row) as i64)
        }
        DataType::Int32 => {
            let values = call.int4(0);
            Box::new(move |row| values.get(row) as i64)
        }
        _ => {
            let values = call.int8(0);
            Box::new(move |row| values.get(row))
        }
    }
}

/// Reads any float argument as a double.
fn float_argument<'a>(call: &'a Call) -> Box<dyn Fn(usize) -> f64 + 'a> {
    match call.argument(0).0.data_type() {
        DataType::Float32 => {
            let values = call.primitive::<Float32Type>(0);
            Box::new(move |row| values.get(row) as f64)
        }
        _ => {
            let values = call.float8(0);
            Box::new(move |row| values.get(row))
        }
    }
}

pub(crate) fn int_to_int(call: &Call) -> Result<ArrayRef, PgError> {
    let value = integer_argument(call);
    integers(call, |row| Ok(Some(value(row))))
}

pub(crate) fn int_to_numeric(call: &Call) -> Result<ArrayRef, PgError> {
    let value = integer_argument(call);
    call.map_numeric(|row| Ok(Numeric::from_i64(value(row))))
}

pub(crate) fn int_to_oid(call: &Call) -> Result<ArrayRef, PgError> {
    let value = integer_argument(call);
    let wide = call.argument(0).0.data_type() == &DataType::Int64;
    call.map::<UInt32Type>(|row| match value(row) {
        // A negative integer means the oid of the same bits.
        value if !wide => Ok(value as u32),
        value => u32::try_from(value).map_err(|_| out_of_range("OID")),
    })
}

pub(crate) fn oid_to_int(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<UInt32Type>(0);
    match call.result() {
        DataType::Int32 => call.map::<Int32Type>(|row| Ok(values.get(row) as i32)),
        _ => call.map::<Int64Type>(|row| Ok(values.get(row) as i64)),
    }
}

pub(crate) fn int4_to_bool(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.int4(0);
    call.map_bool(|row| Ok(values.get(row) != 0))
}

pub(crate) fn bool_to_int4(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.boolean(0);
    call.map::<Int32Type>(|row| Ok(values.get(row) as i32))
}

pub(crate) fn bool_to_text(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.boolean(0);
    call.map_str(|row| Ok(Some(if values.get(row) { "true" } else { "false" })))
}

pub(crate) fn float8_to_float4(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.float8(0);
    call.map::<Float32Type>(|row| {
        let wide = values.get(row);
        let narrow = wide as f32;
        if narrow.is_infinite() && wide.is_finite() {
            return Err(overflow());
        }
        if narrow == 0.0 && wide != 0.0 {
            return Err(underflow());
        }
        Ok(narrow)
    })
}

pub(crate) fn float_to_int(call: &Call) -> Result<ArrayRef, PgError> {
    let value = float_argument(call);
    integers(call, |row| {
        let rounded = value(row).round_ties_even();
        // 2^63 itself is a double and no bigint.
        Ok((-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded).then_some(rounded as i64))
    })
}

pub(crate) fn float_to_numeric(call: &Call) -> Result<ArrayRef, PgError> {
    let real = call.argument(0).0.data_type() == &DataType::Float32;
    let value = float_argument(call);
    call.map_numeric(|row| Ok(if real { Numeric::from_f32(value(row) as f32) } else { Numeric::from_f64(value(row)) }))
}

pub(crate) fn numeric_to_float(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.numeric(0);
    let convert = |row: usize, name: &str| {
        let numeric = values.get(row);
        let value = numeric.to_f64();
        let vanished = value == 0.0 && !numeric.is_zero();
        if vanished || (value.is_infinite() && numeric.decimal().is_some()) {
            return Err(PgError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("\"{numeric}\" is out of range for type {name}"),
            ));
        }
        Ok(value)
    };
    match call.result() {
        DataType::Float32 => call.map::<Float32Type>(|row| {
            let wide = convert(row, "real")?;
            let narrow = wide as f32;
            if narrow.is_infinite() && wide.is_finite() || (narrow == 0.0 && wide != 0.0) {
                let message = format!("\"{}\" is out of range for type real", values.get(row));
                return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
            }
            Ok(narrow)
        }),
        _ => call.map::<Float64Type>(|row| convert(row, "double precision")),
    }
}

pub(crate) fn numeric_to_int(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.numeric(0);
    let name = integer_name(call.result());
    integers(call, |row| {
        let value = values.get(row);
        match value {
            Numeric::Finite(_) => Ok(value.to_i64()),
            Numeric::NaN => Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert NaN to {name}"))),
            _ => Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert infinity to {name}"))),
        }
    })
}

pub(crate) fn bpchar_to_text(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_str(|row| Ok(Some(values.get(row).trim_end_matches(' '))))
}

pub(crate) fn text_to_name(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_str(|row| {
        let text = values.get(row);
        Ok(Some(&text[..text.floor_char_boundary(63)]))
    })
}

/// `"char"` is the first byte.
pub(crate) fn text_to_char(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_str(|row| Ok(Some(values.get(row).get(..1).unwrap_or_default())))
}

/// `int2vector` and `oidvector` are printed with blanks between their numbers.
pub(crate) fn vector_to_text<T: ArrowPrimitiveType>(call: &Call) -> Result<ArrayRef, PgError>
where
    T::Native: std::fmt::Display,
{
    let lists = call.argument(0).0.as_list::<i32>();
    call.map_text(|row, out| {
        let list = lists.value(call.index(0, row));
        let numbers: Vec<String> = list.as_primitive::<T>().values().iter().map(T::Native::to_string).collect();
        out.push_str(&numbers.join(" "));
        Ok(())
    })
}

pub(crate) fn date_to_timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.date(0);
    call.map::<TimestampMicrosecondType>(|row| date_as_timestamp(values.get(row)))
}

/// Midnight of a date. Error `22008`.
pub(crate) fn date_as_timestamp(date: i32) -> Result<i64, PgError> {
    match date {
        calendar::DATE_INFINITY => Ok(calendar::INFINITY),
        calendar::DATE_NEGATIVE_INFINITY => Ok(calendar::NEGATIVE_INFINITY),
        date => calendar::join_timestamp(date as i64, 0)
            .ok_or_else(|| PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")),
    }
}

/// Between timestamp and timestamptz: the clock in UTC.
pub(crate) fn change_zone(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.argument(0).0.as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(values.clone().with_data_type(call.result().clone())))
}

pub(crate) fn timestamp_to_date(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.timestamp(0);
    call.map::<Date32Type>(|row| {
        Ok(match values.get(row) {
            calendar::INFINITY => calendar::DATE_INFINITY,
            calendar::NEGATIVE_INFINITY => calendar::DATE_NEGATIVE_INFINITY,
            timestamp => timestamp.div_euclid(DAY) as i32,
        })
    })
}

pub(crate) fn timestamp_to_time(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.timestamp(0);
    call.map_nullable::<Time64MicrosecondType>(|row| {
        let timestamp = values.get(row);
        Ok((!calendar::is_infinite(timestamp)).then(|| timestamp.rem_euclid(DAY)))
    })
}

pub(crate) fn time_to_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.time(0);
    call.map_interval(|row| Ok(Interval { months: 0, days: 0, micros: values.get(row) }))
}

pub(crate) fn interval_to_time(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.interval(0);
    call.map::<Time64MicrosecondType>(|row| Ok(values.get(row).micros.rem_euclid(DAY)))
}

fn invalid_json() -> PgError {
    PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
}

pub(crate) fn json_to_jsonb(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.json(0);
    call.map_text(|row, out| {
        out.push_str(&json::canonical(values.get(row)).ok_or_else(invalid_json)?);
        Ok(())
    })
}

pub(crate) fn text_to_jsonb(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        out.push_str(&json::canonical(values.get(row)).ok_or_else(invalid_json)?);
        Ok(())
    })
}

fn cannot_cast_jsonb(value: &str, to: &str) -> PgError {
    let kind = json::type_name(value);
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, format!("cannot cast jsonb {kind} to type {to}"))
}

pub(crate) fn jsonb_to_bool(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.json(0);
    call.map_bool(|row| match values.get(row) {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(cannot_cast_jsonb(other, "boolean")),
    })
}

pub(crate) fn jsonb_to_number(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.json(0);
    let name = match call.result() {
        DataType::LargeBinary => "numeric",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        other => integer_name(other),
    };
    let numeric = |row: usize| match json::type_name(values.get(row)) {
        "number" => Numeric::parse(values.get(row)),
        _ => Err(cannot_cast_jsonb(values.get(row), name)),
    };
    match call.result() {
        DataType::LargeBinary => call.map_numeric(numeric),
        DataType::Float32 => call.map::<Float32Type>(|row| Ok(numeric(row)?.to_f64() as f32)),
        DataType::Float64 => call.map::<Float64Type>(|row| Ok(numeric(row)?.to_f64())),
        _ => integers(call, |row| Ok(numeric(row)?.to_i64())),
    }
}

/// The SQL type whose text form an Arrow type has: what distinguishes types of one storage does not show in it.
pub(crate) fn printed_type(data_type: &DataType) -> SqlType {
    match data_type {
        DataType::Boolean => SqlType::Bool,
        DataType::Binary => SqlType::Bytea,
        DataType::Int16 => SqlType::Int2,
        DataType::Int32 => SqlType::Int4,
        DataType::Int64 => SqlType::Int8,
        DataType::UInt32 => SqlType::Oid,
        DataType::Float32 => SqlType::Float4,
        DataType::Float64 => SqlType::Float8,
        DataType::LargeBinary => SqlType::Numeric,
        DataType::LargeUtf8 => SqlType::Json,
        DataType::Date32 => SqlType::Date,
        DataType::Time64(_) => SqlType::Time,
        DataType::Timestamp(_, None) => SqlType::Timestamp,
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
        DataType::Interval(_) => SqlType::Interval,
        DataType::FixedSizeBinary(_) => SqlType::Uuid,
        vector if is_vector(vector) => SqlType::Vector,
        DataType::List(field) => SqlType::Array(Box::new(printed_type(field.data_type()))),
        _ => SqlType::Text,
    }
}

pub(crate) fn to_text(call: &Call) -> Result<ArrayRef, PgError> {
    let (array, _) = call.argument(0);
    let sql_type = printed_type(array.data_type());
    call.map_text(|row, out| {
        format_value(array, call.index(0, row), &sql_type, out);
        Ok(())
    })
}

pub(crate) fn from_text(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    let mut parser = ColumnParser::new(&printed_type(call.result()), -1);
    for row in 0..call.rows() {
        parser.push(call.is_valid(row).then(|| values.get(row)))?;
    }
    Ok(parser.finish())
}

fn typmod(call: &Call) -> i32 {
    call.int4(1).get(0)
}

pub(crate) fn fit_numeric(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, typmod) = (call.numeric(0), typmod(call));
    call.map_numeric(|row| values.get(row).apply_typmod(typmod))
}

/// The byte where the text has reached its length, if it is longer.
fn length_end(text: &str, length: usize) -> Option<usize> {
    // So many bytes cannot be more characters.
    if text.len() <= length { None } else { text.char_indices().nth(length).map(|(end, _)| end) }
}

fn fitted<'a>(text: &'a str, length: usize, cut: bool, type_name: &str) -> Result<&'a str, PgError> {
    match length_end(text, length) {
        None => Ok(text),
        Some(end) if cut || text[end..].chars().all(|c| c == ' ') => Ok(&text[..end]),
        Some(_) => Err(PgError::new(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type {type_name}({length})"),
        )),
    }
}

fn varchar(call: &Call, cut: bool) -> Result<ArrayRef, PgError> {
    let (values, length) = (call.text(0), char_length_typmod(typmod(call)).unwrap_or(usize::MAX));
    call.map_str(|row| fitted(values.get(row), length, cut, "character varying").map(Some))
}

pub(crate) fn cut_varchar(call: &Call) -> Result<ArrayRef, PgError> {
    varchar(call, true)
}

pub(crate) fn fit_varchar(call: &Call) -> Result<ArrayRef, PgError> {
    varchar(call, false)
}

fn bpchar(call: &Call, cut: bool) -> Result<ArrayRef, PgError> {
    let (values, length) = (call.text(0), char_length_typmod(typmod(call)).unwrap_or(0));
    call.map_text(|row, out| {
        out.push_str(fitted(values.get(row), length, cut, "character")?);
        let missing = length.saturating_sub(out.chars().count());
        out.extend(std::iter::repeat_n(' ', missing));
        Ok(())
    })
}

pub(crate) fn cut_bpchar(call: &Call) -> Result<ArrayRef, PgError> {
    bpchar(call, true)
}

pub(crate) fn fit_bpchar(call: &Call) -> Result<ArrayRef, PgError> {
    bpchar(call, false)
}

/// Rounds microseconds half away from zero to so many fractional digits of a second.
fn round_micros(micros: i64, digits: i32) -> i64 {
    if !(0..6).contains(&digits) || calendar::is_infinite(micros) {
        return micros;
    }
    let unit = 10i64.pow(6 - digits as u32);
    if micros >= 0 { (micros + unit / 2) / unit * unit } else { -((unit / 2 - micros) / unit * unit) }
}

pub(crate) fn fit_timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, digits) = (call.timestamp(0), typmod(call));
    call.map::<TimestampMicrosecondType>(|row| Ok(round_micros(values.get(row), digits)))
}

pub(crate) fn fit_time(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, digits) = (call.time(0), typmod(call));
    call.map::<Time64MicrosecondType>(|row| Ok(round_micros(values.get(row), digits)))
}

pub(crate) fn fit_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, typmod) = (call.interval(0), typmod(call));
    call.map_interval(|row| Ok(repr::text::interval::apply_typmod(values.get(row), typmod)))
}

/// Compiled or derived things by the text they came from: patterns repeat.
pub(crate) struct Cache<T> {
    known: HashMap<String, T>,
}

impl<T> Cache<T> {
    pub(crate) fn new() -> Cache<T> {
        Cache { known: HashMap::new() }
    }

    /// What `make` gives for `text`, made once.
    pub(crate) fn get(&mut self, text: &str, make: impl FnOnce(&str) -> Result<T, PgError>) -> Result<&T, PgError> {
        if !self.known.contains_key(text) {
            // A column of ever new patterns must not pile them up.
            if self.known.len() >= 256 {
                self.known.clear();
            }
            self.known.insert(text.to_string(), make(text)?);
        }
        self.known.get(text).ok_or_else(|| PgError::internal("a cached pattern is gone"))
    }
}
