//! `||` over arrays: two arrays, or an array and an element at its end or its start.

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use repr::{PgError, SqlType};

use super::kernel::{Call, Nulls, call};
use crate::cast::{CastContext, cast, common_type};
use crate::typed::TypedExpr;

/// `left || right`, one of which at least is an array. Errors: those of the elements having no common type.
pub(crate) fn concatenation(left: TypedExpr, right: TypedExpr) -> Result<TypedExpr, PgError> {
    let element_of = |typed: &TypedExpr| match &typed.sql_type {
        SqlType::Array(element) => TypedExpr::new(typed.expr.clone(), (**element).clone()),
        // A literal beside an array is read as one.
        _ => typed.clone(),
    };
    let (left_element, right_element) = (element_of(&left), element_of(&right));
    let element = common_type("ARRAY", &[&left_element, &right_element])?;
    let array = SqlType::Array(Box::new(element.clone()));
    let mut arguments = Vec::new();
    for typed in [left, right] {
        let wanted = match typed.sql_type {
            SqlType::Array(_) | SqlType::Unknown => &array,
            _ => &element,
        };
        let converted = cast(typed, wanted, -1, CastContext::Implicit)?;
        arguments.push((converted.expr, wanted.arrow()));
    }
    let expr = call("array_cat", arguments, array.arrow(), Nulls::Seen, concatenate);
    Ok(TypedExpr::new(expr, array))
}

/// NULL beside an array is no array, and nothing to add; beside an element it is an element.
fn concatenate(call: &Call) -> Result<ArrayRef, PgError> {
    let DataType::List(field) = call.result() else { return Err(PgError::internal("an array that is no list")) };
    let internal = |error: arrow::error::ArrowError| PgError::internal(error.to_string());
    let is_list = |index: usize| matches!(call.argument(index).0.data_type(), DataType::List(_));
    let both = is_list(0) && is_list(1);
    let mut pieces: Vec<ArrayRef> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows());
    let mut valid = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let mut length = 0;
        valid.push(!(both && call.is_null(0, row) && call.is_null(1, row)));
        for argument in 0..2 {
            let (values, at) = (call.argument(argument).0, call.index(argument, row));
            let piece = match (is_list(argument), call.is_null(argument, row)) {
                (true, true) => continue,
                (true, false) => values.as_list::<i32>().value(at),
                (false, _) => values.slice(at, 1),
            };
            length += piece.len();
            pieces.push(piece);
        }
        lengths.push(length);
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(|piece| piece.as_ref()).collect();
    let values = match pieces.is_empty() {
        true => arrow::array::new_empty_array(field.data_type()),
        false => arrow::compute::concat(&pieces).map_err(internal)?,
    };
    let field = std::sync::Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, Some(valid.into()));
    Ok(std::sync::Arc::new(list.map_err(internal)?))
}
