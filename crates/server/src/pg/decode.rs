//! Parameters as the client sends them, in text or in binary, as Arrow arrays of length one.
//!
//! The binary forms are those that each type's `typreceive` reads. What does not fit is 22P03 (or 08P01 for a wrong
//! length, as PostgreSQL has it), never a panic: the bytes come from outside.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeBinaryArray, ListArray, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array, new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat;
use arrow::datatypes::{Field, IntervalMonthDayNano};
use repr::numeric::Numeric;
use repr::text::parse_scalar;
use repr::text::vector::{check_dimensions, vector_element, vector_field};
use repr::types::Storage;
use repr::{PgError, SqlState, SqlType};

use crate::pg::encode::{
    EPOCH_DAYS, EPOCH_MICROSECONDS, Format, NUMERIC_INFINITY, NUMERIC_NAN, NUMERIC_NEGATIVE, NUMERIC_NEGATIVE_INFINITY,
};
use crate::pg::message::utf8;

/// One value of type `sql_type`; `None` is NULL.
pub(crate) fn decode_value(sql_type: &SqlType, format: Format, value: Option<&[u8]>) -> Result<ArrayRef, PgError> {
    let Some(bytes) = value else { return Ok(new_null_array(&sql_type.arrow(), 1)) };
    match format {
        Format::Text => {
            let text = utf8(bytes)?;
            if text.contains('\0') {
                let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
                return Err(PgError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message));
            }
            match sql_type {
                SqlType::Unknown => Ok(Arc::new(StringArray::from(vec![text]))),
                known => parse_scalar(known, -1, text),
            }
        }
        Format::Binary => binary(sql_type, bytes),
    }
}

fn binary(sql_type: &SqlType, bytes: &[u8]) -> Result<ArrayRef, PgError> {
    Ok(match sql_type.storage() {
        Storage::Bool => Arc::new(BooleanArray::from(vec![u8::from_be_bytes(exact(bytes)?) != 0])),
        Storage::Int2 => Arc::new(Int16Array::from(vec![i16::from_be_bytes(exact(bytes)?)])),
        Storage::Int4 => Arc::new(Int32Array::from(vec![i32::from_be_bytes(exact(bytes)?)])),
        Storage::Int8 => Arc::new(Int64Array::from(vec![i64::from_be_bytes(exact(bytes)?)])),
        Storage::Oid => Arc::new(UInt32Array::from(vec![u32::from_be_bytes(exact(bytes)?)])),
        Storage::Float4 => Arc::new(Float32Array::from(vec![f32::from_be_bytes(exact(bytes)?)])),
        Storage::Float8 => Arc::new(Float64Array::from(vec![f64::from_be_bytes(exact(bytes)?)])),
        // Text has one form; parsing it again applies bpchar's and name's own rules.
        Storage::Text | Storage::Json => {
            return decode_value(sql_type, Format::Text, Some(bytes));
        }
        Storage::Jsonb => match bytes.split_first() {
            Some((1, text)) => return decode_value(sql_type, Format::Text, Some(text)),
            Some((version, _)) => return Err(invalid(format!("unsupported jsonb version number {version}"))),
            None => return Err(too_short()),
        },
        Storage::Bytea => Arc::new(BinaryArray::from(vec![bytes])),
        Storage::Uuid => {
            let uuid: [u8; 16] = exact(bytes)?;
            let array = FixedSizeBinaryArray::try_from_iter(std::iter::once(uuid));
            Arc::new(array.map_err(|error| PgError::internal(error.to_string()))?)
        }
        Storage::Date => {
            let days = match i32::from_be_bytes(exact(bytes)?) {
                infinite @ (i32::MIN | i32::MAX) => infinite,
                days => days.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))?,
            };
            Arc::new(Date32Array::from(vec![days]))
        }
        Storage::Time => {
            let microseconds = i64::from_be_bytes(exact(bytes)?);
            if !(0..=86_400_000_000).contains(&microseconds) {
                return Err(out_of_range("time"));
            }
            Arc::new(Time64MicrosecondArray::from(vec![microseconds]))
        }
        Storage::Timestamp | Storage::Timestamptz => {
            let microseconds = match i64::from_be_bytes(exact(bytes)?) {
                infinite @ (i64::MIN | i64::MAX) => infinite,
                finite => finite.checked_add(EPOCH_MICROSECONDS).ok_or_else(|| out_of_range("timestamp"))?,
            };
            let array = TimestampMicrosecondArray::from(vec![microseconds]);
            Arc::new(match sql_type {
                SqlType::Timestamptz => array.with_timezone("UTC"),
                _ => array,
            })
        }
        Storage::Interval => {
            let mut fields = Fields(bytes);
            let (microseconds, days, months) = (fields.i64()?, fields.i32()?, fields.i32()?);
            fields.end()?;
            let nanoseconds = microseconds.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(months, days, nanoseconds)]))
        }
        Storage::Numeric => {
            let value = Numeric::parse(&numeric(bytes)?)?;
            Arc::new(LargeBinaryArray::from_vec(vec![value.encode().as_slice()]))
        }
        Storage::Vector => vector(bytes)?,
        Storage::List(element) => array(element, bytes)?,
    })
}

/// A numeric's base-10000 digits as text, from which its decimal scale is exact.
fn numeric(bytes: &[u8]) -> Result<String, PgError> {
    let mut fields = Fields(bytes);
    let count = fields.u16()?;
    let (weight, sign, scale) = (fields.u16()? as i16, fields.u16()?, fields.u16()?);
    let digits = (0..count).map(|_| fields.u16()).collect::<Result<Vec<u16>, _>>()?;
    fields.end()?;
    match sign {
        NUMERIC_NAN => return Ok("NaN".to_string()),
        NUMERIC_INFINITY => return Ok("Infinity".to_string()),
        NUMERIC_NEGATIVE_INFINITY => return Ok("-Infinity".to_string()),
        0 | NUMERIC_NEGATIVE => {}
        _ => return Err(invalid("invalid sign in external \"numeric\" value")),
    }
    if scale > 0x3fff {
        return Err(invalid("invalid scale in external \"numeric\" value"));
    }
    if digits.iter().any(|digit| *digit > 9999) {
        return Err(invalid("invalid digit in external \"numeric\" value"));
    }
    let digit = |position: i32| {
        let index = i32::from(weight) - position;
        usize::try_from(index).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let mut text = String::from(if sign == NUMERIC_NEGATIVE { "-" } else { "" });
    (0..=i32::from(weight.max(0))).rev().for_each(|position| text.push_str(&format!("{:04}", digit(position))));
    if scale > 0 {
        text.push('.');
        let groups = 1..=i32::from(scale.div_ceil(4));
        let fraction: String = groups.map(|group| format!("{:04}", digit(-group))).collect();
        text.push_str(&fraction[..usize::from(scale)]);
    }
    Ok(text)
}

/// One-dimensional arrays. Errors: 0A000 for more dimensions, which `repr` does not store.
fn array(element: &SqlType, bytes: &[u8]) -> Result<ArrayRef, PgError> {
    let mut fields = Fields(bytes);
    let (dimension_count, _has_null, oid) = (fields.i32()?, fields.i32()?, fields.i32()? as u32);
    if oid != element.oid() {
        let message = format!("binary data has array element type {oid} instead of expected {}", element.oid());
        return Err(PgError::new(SqlState::DATATYPE_MISMATCH, message));
    }
    let length = match dimension_count {
        0 => 0,
        1 => {
            let (length, _lower_bound) = (fields.i32()?, fields.i32()?);
            usize::try_from(length).map_err(|_| invalid("invalid array length"))?
        }
        2..=6 => return Err(PgError::unsupported("a parameter that is an array of several dimensions")),
        _ => return Err(invalid(format!("invalid number of dimensions: {dimension_count}"))),
    };
    // Each element takes four bytes at least, so a length that lies does not get to allocate.
    if length > fields.0.len() / 4 {
        return Err(too_short());
    }
    let mut elements = Vec::with_capacity(length);
    for _ in 0..length {
        let value = match fields.i32()? {
            -1 => None,
            size => Some(fields.take(usize::try_from(size).map_err(|_| invalid("invalid element size"))?)?),
        };
        elements.push(decode_value(element, Format::Binary, value)?);
    }
    fields.end()?;
    let values = match elements.is_empty() {
        true => new_empty_array(&element.arrow()),
        false => {
            let elements: Vec<&dyn Array> = elements.iter().map(|element| element.as_ref()).collect();
            concat(&elements).map_err(|error| PgError::internal(error.to_string()))?
        }
    };
    let field = Arc::new(Field::new_list_field(element.arrow(), true));
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths([length]), values, None);
    Ok(Arc::new(list.map_err(|error| PgError::internal(error.to_string()))?))
}

/// An embedding: how many elements, two bytes that are zero, the elements.
fn vector(bytes: &[u8]) -> Result<ArrayRef, PgError> {
    let mut fields = Fields(bytes);
    let (count, unused) = (usize::from(fields.u16()?), fields.u16()?);
    if unused != 0 {
        return Err(invalid(format!("expected unused to be 0, not {unused}")));
    }
    check_dimensions(count, -1)?;
    let element = |field: &[u8]| vector_element(f32::from_be_bytes(exact(field)?));
    let elements = fields.take(count * 4)?.chunks_exact(4).map(element).collect::<Result<Vec<f32>, PgError>>()?;
    fields.end()?;
    let values = Arc::new(Float32Array::from(elements));
    let list = ListArray::try_new(vector_field(), OffsetBuffer::from_lengths([count]), values, None);
    Ok(Arc::new(list.map_err(|error| PgError::internal(error.to_string()))?))
}

/// Big-endian fields read from the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], PgError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, PgError> {
        Ok(u16::from_be_bytes(exact(self.take(2)?)?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, PgError> {
        Ok(i32::from_be_bytes(exact(self.take(4)?)?))
    }

    fn i64(&mut self) -> Result<i64, PgError> {
        Ok(i64::from_be_bytes(exact(self.take(8)?)?))
    }

    fn end(&self) -> Result<(), PgError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(invalid("incorrect binary data format")),
        }
    }
}

fn exact<const SIZE: usize>(bytes: &[u8]) -> Result<[u8; SIZE], PgError> {
    bytes.try_into().map_err(|_| match bytes.len() < SIZE {
        true => too_short(),
        false => invalid("incorrect binary data format"),
    })
}

fn invalid(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
}

fn too_short() -> PgError {
    PgError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

fn out_of_range(what: &str) -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

#[cfg(test)]
mod tests {
    use arrow::array::LargeStringArray;
    use arrow::record_batch::RecordBatch;
    use repr::text::FormatOptions;
    use repr::{ColumnSchema, RelationSchema};

    use super::*;
    use crate::pg::encode::Rows;

    /// What a value's text becomes after a trip through its binary form.
    fn round_trip(sql_type: SqlType, text: &str) -> String {
        let array = decode_value(&sql_type, Format::Text, Some(text.as_bytes())).unwrap();
        let schema = RelationSchema::new(vec![ColumnSchema::new("x", sql_type.clone())]);
        let options = FormatOptions::default();
        let mut sent = Vec::new();
        let batch = RecordBatch::try_new(schema.arrow(), vec![array]).unwrap();
        Rows::new(&batch, &schema, &[Format::Binary], &options).unwrap().fields(0, &mut sent);
        let array = decode_value(&sql_type, Format::Binary, Some(&sent[6..])).unwrap();
        let batch = RecordBatch::try_new(schema.arrow(), vec![array]).unwrap();
        let mut shown = Vec::new();
        Rows::new(&batch, &schema, &[], &options).unwrap().text(0, 0, &mut shown);
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn binary_form_loses_nothing() {
        let array = |element: SqlType| SqlType::Array(Box::new(element));
        for (sql_type, text) in [
            (SqlType::Bool, "t"),
            (SqlType::Int2, "-32768"),
            (SqlType::Int4, "2147483647"),
            (SqlType::Int8, "-9223372036854775808"),
            (SqlType::Float4, "1.5"),
            (SqlType::Float8, "-1e-300"),
            (SqlType::Numeric, "0"),
            (SqlType::Numeric, "-12345.6780"),
            (SqlType::Numeric, "10000"),
            (SqlType::Numeric, "0.00010"),
            (SqlType::Numeric, "99999999999999999999999999999999999999999.000000001"),
            (SqlType::Numeric, "NaN"),
            (SqlType::Text, "h\u{e9}llo"),
            (SqlType::Bytea, "\\x00ff"),
            (SqlType::Date, "1999-12-31"),
            (SqlType::Time, "23:59:59.999999"),
            (SqlType::Timestamp, "1969-12-31 23:59:59.5"),
            (SqlType::Timestamptz, "2024-02-29 12:00:00+00"),
            (SqlType::Interval, "1 year 2 mons -3 days +04:05:06.7"),
            (SqlType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (SqlType::Json, "{\"a\": 1}"),
            (SqlType::Jsonb, "{\"a\": 1}"),
            (array(SqlType::Int4), "{1,NULL,3}"),
            (SqlType::Vector, "[1,-2.5,3e-08]"),
            (array(SqlType::Vector), "{\"[1,2]\",NULL}"),
            (array(SqlType::Text), "{}"),
        ] {
            assert_eq!(round_trip(sql_type.clone(), text), text, "{}", sql_type.sql_name());
        }
    }

    #[test]
    fn bytes_that_are_no_value_are_errors() {
        let array = SqlType::Array(Box::new(SqlType::Int4));
        let lying_array = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 127, 255, 255, 255, 0, 0, 0, 1];
        for (sql_type, bytes) in [
            (SqlType::Int4, &[1, 2, 3][..]),
            (SqlType::Int4, &[1, 2, 3, 4, 5]),
            (SqlType::Numeric, &[0, 1, 0, 0, 0, 0, 0, 0]),
            (SqlType::Numeric, &[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            (SqlType::Numeric, &[0, 0, 0, 0, 0x12, 0x34, 0, 0]),
            (SqlType::Jsonb, &[]),
            (SqlType::Jsonb, &[2, b'1']),
            (SqlType::Text, &[0xff]),
            (SqlType::Uuid, &[0; 15]),
            (SqlType::Time, &[0xff; 8]),
            (SqlType::Timestamp, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
            (array, &lying_array),
            (SqlType::Vector, &[0, 0, 0, 0]),
            (SqlType::Vector, &[0, 2, 0, 0, 0, 0, 0, 0]),
            (SqlType::Vector, &[0, 1, 0, 0, 0x7f, 0xc0, 0, 0]),
            (SqlType::Vector, &[0, 1, 0, 1, 0, 0, 0, 0]),
        ] {
            assert!(binary(&sql_type, bytes).is_err(), "{} {bytes:?}", sql_type.sql_name());
        }
    }

    #[test]
    fn jsonb_array_elements_keep_their_storage() {
        let sql_type = SqlType::Array(Box::new(SqlType::Jsonb));
        let element = [&[0, 0, 0, 2, 1][..], b"1"].concat();
        let bytes =
            [&[0, 0, 0, 1, 0, 0, 0, 0][..], &3802u32.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 1], &element].concat();
        let array = decode_value(&sql_type, Format::Binary, Some(&bytes)).unwrap();
        let list: &ListArray = array.as_any().downcast_ref().unwrap();
        assert_eq!(list.value(0).as_any().downcast_ref::<LargeStringArray>().unwrap().value(0), "1");
    }
}
