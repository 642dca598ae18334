//! json_agg, json_object_agg and their jsonb kin, from the rows of one group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, LargeStringArray};
use arrow::datatypes::DataType;
use repr::PgError;

use crate::functions::json_build::{canonical, push_name, push_value};

/// What `json_agg` of whole rows, which are JSON already, is called in plans.
pub(super) const OF_ROWS: &str = "json_agg of rows";

/// Whether an aggregate gathers JSON.
pub(crate) fn is_json(name: &str) -> bool {
    matches!(name, OF_ROWS | "json_agg" | "jsonb_agg" | "json_object_agg" | "jsonb_object_agg")
}

/// The value of a group whose rows are `rows`, the arguments first; NULL where there are none.
///
/// Errors: those of a field's name.
pub(super) fn answer(name: &'static str, rows: &[ArrayRef]) -> Result<ArrayRef, PgError> {
    let text = match (name, rows) {
        (_, [first, ..]) if first.is_empty() => None,
        (OF_ROWS | "json_agg" | "jsonb_agg", [values, ..]) => Some(array(values, name == OF_ROWS)),
        (_, [names, values, ..]) => Some(object(names, values)?),
        _ => return Err(PgError::internal(format!("{name} without its arguments"))),
    };
    let text = match name.starts_with("jsonb") {
        true => text.map(|text| canonical(&text)).transpose()?,
        false => text,
    };
    Ok(Arc::new(LargeStringArray::from(vec![text])))
}

fn array(values: &ArrayRef, of_rows: bool) -> String {
    // PostgreSQL puts what has a structure on lines of its own.
    let structured = of_rows || matches!(values.data_type(), DataType::List(_));
    let separator = if structured { ", \n " } else { ", " };
    let mut text = "[".to_string();
    for row in 0..values.len() {
        if row > 0 {
            text.push_str(if values.is_null(row) { ", " } else { separator });
        }
        push_value(values, row, &mut text);
    }
    text.push(']');
    text
}

fn object(names: &ArrayRef, values: &ArrayRef) -> Result<String, PgError> {
    let mut text = "{ ".to_string();
    for row in 0..names.len() {
        if row > 0 {
            text.push_str(", ");
        }
        push_name(names, row, &mut text)?;
        text.push_str(" : ");
        push_value(values, row, &mut text);
    }
    text.push_str(" }");
    Ok(text)
}
