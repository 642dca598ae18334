//! `vector(n)`: numbers of an embedding, in pgvector's text form `[1,2.5,-3]`.
//!
//! Stored as a list of reals without NULLs: the values of a column lie side by side, which is what distances are computed from.
//! No element is NaN, infinite or -0, so equal vectors are equal bytes. The name of the list's field, [`FIELD`], is what tells
//! it from a `real[]`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};

use super::{format_float4, parse::trim};
use crate::{PgError, SqlState};

/// How many dimensions a vector may have.
pub const DIMENSIONS_MAX: usize = 16_000;

/// What the elements are called in Arrow's type, where an array's are called `item`.
const FIELD: &str = "dimension";

/// The elements of a column of vectors, as Arrow's type of the column has them.
pub fn vector_field() -> FieldRef {
    Arc::new(Field::new(FIELD, DataType::Float32, true))
}

/// Whether an Arrow type is that of vectors.
pub fn is_vector(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(field) if field.name() == FIELD)
}

/// An element as it is stored. Error `22000` if it is NaN or infinite.
pub fn vector_element(value: f32) -> Result<f32, PgError> {
    match value {
        value if value.is_nan() => Err(invalid("NaN not allowed in vector".to_string())),
        value if value.is_infinite() => Err(invalid("infinite value not allowed in vector".to_string())),
        // -0 becomes 0.
        value => Ok(value + 0.0),
    }
}

/// Whether a vector may have so many dimensions under a modifier (-1 is none). Errors `22000`, `54000`.
pub fn check_dimensions(count: usize, typmod: i32) -> Result<(), PgError> {
    if count == 0 {
        return Err(invalid("vector must have at least 1 dimension".to_string()));
    }
    if count > DIMENSIONS_MAX {
        let message = format!("vector cannot have more than {DIMENSIONS_MAX} dimensions");
        return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    }
    if typmod > 0 && count != typmod as usize {
        return Err(invalid(format!("expected {typmod} dimensions, not {count}")));
    }
    Ok(())
}

/// Reads `[1,2,3]`. Errors `22P02`, `22003`, and those of [`vector_element`] and [`check_dimensions`].
pub(super) fn parse_vector(text: &str, typmod: i32) -> Result<Vec<f32>, PgError> {
    let syntax = || {
        let message = format!("invalid input syntax for type vector: \"{text}\"");
        PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
    };
    let body = trim(text).strip_prefix('[').and_then(|body| body.strip_suffix(']')).ok_or_else(syntax)?;
    if trim(body).is_empty() {
        check_dimensions(0, typmod)?;
    }
    let element = |part: &str| {
        let part = trim(part);
        let starts_as_number = part.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        let named = matches!(part.to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity");
        if !starts_as_number && !named {
            return Err(syntax());
        }
        let value: f32 = part.parse().map_err(|_| syntax())?;
        if value.is_infinite() && part.bytes().any(|byte| byte.is_ascii_digit()) {
            let message = format!("\"{part}\" is out of range for type vector");
            return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
        }
        vector_element(value)
    };
    let elements = body.split(',').map(element).collect::<Result<Vec<f32>, PgError>>()?;
    check_dimensions(elements.len(), typmod)?;
    Ok(elements)
}

/// Appends the elements as [`parse_vector`] reads them.
pub(super) fn format_vector(elements: &[f32], out: &mut String) {
    out.push('[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        format_float4(*element, out);
    }
    out.push(']');
}

fn invalid(message: String) -> PgError {
    PgError::new(SqlState::DATA_EXCEPTION, message)
}
