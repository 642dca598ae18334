//! Any value as JSON: `to_json`, `json_build_object` and the aggregates that gather JSON write it here.
//!
//! The rules are PostgreSQL's `datum_to_json`: numbers and booleans as they are, JSON itself unchanged, arrays as arrays,
//! dates with a `T`, all else as a string of what it is printed as. jsonb is the same text in its canonical form.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use repr::text::{format_value, json};
use repr::{PgError, SqlState, SqlType};

use super::conversion::printed_type;
use super::kernel::Call;

/// Appends the value of a row as JSON; NULL is JSON's null. The SQL type is that of [`printed_type`].
pub(crate) fn push_value(array: &dyn Array, row: usize, out: &mut String) {
    push_typed(array, row, &printed_type(array.data_type()), out);
}

fn push_typed(array: &dyn Array, row: usize, sql_type: &SqlType, out: &mut String) {
    if array.is_null(row) {
        return out.push_str("null");
    }
    match sql_type {
        SqlType::Json | SqlType::Jsonb => out.push_str(array.as_string::<i64>().value(row)),
        SqlType::Bool => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 | SqlType::Numeric => {
            let text = printed(array, row, sql_type);
            // NaN and the infinities are no JSON numbers.
            match text.ends_with(|c: char| c.is_ascii_digit()) {
                true => out.push_str(&text),
                false => json::push_quoted(&text, out),
            }
        }
        SqlType::Array(element) => {
            let elements = array.as_list::<i32>().value(row);
            out.push('[');
            for index in 0..elements.len() {
                if index > 0 {
                    out.push(',');
                }
                push_typed(&elements, index, element, out);
            }
            out.push(']');
        }
        SqlType::Timestamp | SqlType::Timestamptz => json::push_quoted(&iso(&printed(array, row, sql_type)), out),
        _ => json::push_quoted(&printed(array, row, sql_type), out),
    }
}

fn printed(array: &dyn Array, row: usize, sql_type: &SqlType) -> String {
    let mut text = String::new();
    format_value(array, row, sql_type, &mut text);
    text
}

/// A printed timestamp as XML Schema has it: a `T` before the time, and minutes in a zone's offset.
fn iso(printed: &str) -> String {
    let Some((date, time)) = printed.split_once(' ') else { return printed.to_string() };
    let (time, era) = time.split_once(' ').map_or((time, ""), |(time, _)| (time, " BC"));
    let hours_only = time.rfind(['+', '-']).is_some_and(|sign| time.len() - sign == 3);
    format!("{date}T{time}{}{era}", if hours_only { ":00" } else { "" })
}

/// Appends the value of a row as the name of an object's field. Error `22023` for NULL and what is no scalar.
pub(crate) fn push_name(array: &dyn Array, row: usize, out: &mut String) -> Result<(), PgError> {
    if array.is_null(row) {
        return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, "field name must not be null"));
    }
    match array.data_type() {
        DataType::List(_) | DataType::LargeUtf8 => Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "key value must be scalar, not array, composite, or json",
        )),
        _ => {
            let mut value = String::new();
            push_value(array, row, &mut value);
            match value.starts_with('"') {
                true => out.push_str(&value),
                false => json::push_quoted(&value, out),
            }
            Ok(())
        }
    }
}

/// JSON text in jsonb's form.
pub(crate) fn canonical(text: &str) -> Result<String, PgError> {
    json::canonical(text)
        .ok_or_else(|| PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json"))
}

/// `to_json`.
pub(crate) fn to_json(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.argument(0).0;
    call.map_text(|row, out| {
        push_value(values, call.index(0, row), out);
        Ok(())
    })
}

/// `to_jsonb`.
pub(crate) fn to_jsonb(call: &Call) -> Result<ArrayRef, PgError> {
    as_jsonb(call, to_json)
}

/// `json_build_array`.
pub(crate) fn build_array(call: &Call) -> Result<ArrayRef, PgError> {
    call.map_text(|row, out| {
        out.push('[');
        for argument in 0..call.argument_count() {
            if argument > 0 {
                out.push_str(", ");
            }
            push_value(call.argument(argument).0, call.index(argument, row), out);
        }
        out.push(']');
        Ok(())
    })
}

/// `jsonb_build_array`.
pub(crate) fn build_array_b(call: &Call) -> Result<ArrayRef, PgError> {
    as_jsonb(call, build_array)
}

/// `json_build_object`. Errors: those of [`push_name`].
pub(crate) fn build_object(call: &Call) -> Result<ArrayRef, PgError> {
    call.map_text(|row, out| {
        out.push('{');
        for argument in (0..call.argument_count()).step_by(2) {
            if argument > 0 {
                out.push_str(", ");
            }
            if call.is_null(argument, row) {
                let message = format!("argument {} cannot be null", argument + 1);
                return Err(
                    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint("Object keys should be text.")
                );
            }
            push_name(call.argument(argument).0, call.index(argument, row), out)?;
            out.push_str(" : ");
            push_value(call.argument(argument + 1).0, call.index(argument + 1, row), out);
        }
        out.push('}');
        Ok(())
    })
}

/// A row: names and values in turn.
pub(crate) fn whole_row(call: &Call) -> Result<ArrayRef, PgError> {
    call.map_text(|row, out| {
        out.push('{');
        for argument in (0..call.argument_count()).step_by(2) {
            if argument > 0 {
                out.push(',');
            }
            push_name(call.argument(argument).0, call.index(argument, row), out)?;
            out.push(':');
            push_value(call.argument(argument + 1).0, call.index(argument + 1, row), out);
        }
        out.push('}');
        Ok(())
    })
}

/// `jsonb_build_object`.
pub(crate) fn build_object_b(call: &Call) -> Result<ArrayRef, PgError> {
    as_jsonb(call, build_object)
}

fn as_jsonb(call: &Call, as_json: fn(&Call) -> Result<ArrayRef, PgError>) -> Result<ArrayRef, PgError> {
    let texts = as_json(call)?;
    let texts = texts.as_string::<i64>();
    call.map_text_nullable(|row, out| {
        out.push_str(&canonical(texts.value(row))?);
        Ok(true)
    })
}
