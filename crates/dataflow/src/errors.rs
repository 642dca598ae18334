//! Rows that could not be computed, as data.
//!
//! An [`ErrorRow`] has a time and a diff like any row: it goes away when the row that caused it is mended or removed.
//! Errors of building a dataflow are something else, [`crate::DataflowError`].

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;
use repr::text::format_value;
use repr::types::TYPES;
use repr::{Diff, PgError, SqlState, SqlType, Timestamp};

/// A row that an operator could not compute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorRow {
    /// The operator and its node in the plan, such as `Map 3`.
    pub operator: String,
    /// The operator's input row, a JSON array of its column values.
    pub row: String,
    /// The class of the failure.
    pub state: SqlState,
    /// PostgreSQL's message.
    pub message: String,
}

/// The container of error streams: updates of the collection of failing rows.
pub type ErrorUpdates = Vec<(ErrorRow, Timestamp, Diff)>;

impl ErrorRow {
    /// The error of row `row` of `columns`.
    pub(crate) fn new(operator: &str, columns: &[ArrayRef], row: usize, error: &PgError) -> ErrorRow {
        ErrorRow {
            operator: operator.to_owned(),
            row: row_json(columns, row),
            state: error.state,
            message: error.message.clone(),
        }
    }
}

/// One row as a JSON array.
fn row_json(columns: &[ArrayRef], row: usize) -> String {
    let mut json = String::from("[");
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        push_value(&mut json, column, row);
    }
    json.push(']');
    json
}

fn push_value(json: &mut String, column: &ArrayRef, row: usize) {
    if column.is_null(row) || column.data_type().is_null() {
        return json.push_str("null");
    }
    let mut text = String::new();
    match sql_type(column.data_type()) {
        Some(sql_type) => format_value(column, row, &sql_type, &mut text),
        None => text = array_value_to_string(column, row).unwrap_or_else(|error| error.to_string()),
    }
    let bare = matches!(column.data_type(), DataType::Boolean) || column.data_type().is_integer();
    if bare {
        return json.push_str(&text);
    }
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", control as u32)),
            other => json.push(other),
        }
    }
    json.push('"');
}

/// A SQL type that is stored so: plans know no others, and its text form is that of its kin.
fn sql_type(data_type: &DataType) -> Option<SqlType> {
    if let DataType::List(element) = data_type {
        return sql_type(element.data_type()).map(|element| SqlType::Array(Box::new(element)));
    }
    TYPES.iter().map(|info| &info.sql_type).find(|sql_type| sql_type.arrow() == *data_type).cloned()
}

/// What the user should read of an evaluation's failure: the kernel's own error where there is one inside.
pub(crate) fn evaluation_error(error: &DataFusionError) -> PgError {
    match error.find_root() {
        DataFusionError::External(inner) => {
            inner.downcast_ref::<PgError>().cloned().unwrap_or_else(|| PgError::internal(inner.to_string()))
        }
        DataFusionError::ArrowError(inner, _) => arrow_error(inner),
        other => PgError::internal(other.strip_backtrace()),
    }
}

fn arrow_error(error: &ArrowError) -> PgError {
    match error {
        ArrowError::DivideByZero => PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(message) => PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => {
            PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
        }
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<PgError>() {
            Some(error) => error.clone(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(error) => evaluation_error(error),
                None => PgError::internal(inner.to_string()),
            },
        },
        other => PgError::internal(other.to_string()),
    }
}
